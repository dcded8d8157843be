"""A study measures every morning what its initial model could do."""

import json

import pytest

from sleep_jax import errors
from sleep_jax.evaluate import own_texts
from sleep_jax.runs import ability_start, context, study
from sleep_jax.schedule import events
from tests import tiny_study
from tests.evaluate import ability_model
from tests.runs import hf_start_test

pytestmark = pytest.mark.usefixtures('one_device')
one_device, home = tiny_study.one_device, hf_start_test.home


def _config(folder, *strategies):
  c = tiny_study.config()
  c.strategies = strategies or ('sleep', 'sft')
  c.ability.update(
    text=ability_model.text_file(folder), text_tokens=30, full_text_tokens=50,
    reading=ability_model.reading_file(folder), reading_questions=2,
    full_reading_questions=4, prompts=2, max_new=3,
  )  # fmt: skip
  return c


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  return tmp_path_factory.mktemp('files')


@pytest.fixture(scope='module')
def _finished():
  return {}


@pytest.fixture
def finished(_finished, one_device, files, tmp_path_factory):
  """The folder and the records of a study; tests must not change them."""
  if not _finished:
    folder = tmp_path_factory.mktemp('finished')
    _finished.update(
      folder=folder, runs=study.Study(_config(files), str(folder)).run()
    )
  return _finished['folder'], _finished['runs']


def _measured(run):
  return [e for e in run['evaluations'] if 'ability' in e]


def test_it_is_measured_at_the_start_and_once_a_cycle(finished):
  _, runs = finished
  for run in runs:
    found = _measured(run)
    assert [e['cycle'] for e in found] == [0, 1, 2]
    later = 'morning' if run['strategy'] == 'sleep' else 'evening'
    assert [e['moment'] for e in found] == ['initial', later, later]


def test_the_full_sets_are_measured_at_the_start_and_the_end_only(finished):
  _, runs = finished
  for run in runs:
    full = [e['ability']['full'] for e in _measured(run)]
    assert [bool(x) for x in full] == [True, False, True]
    assert full[2]['text']['tokens'] == 50
    assert _measured(run)[1]['ability']['text']['tokens'] == 30


def test_all_strategies_start_from_one_first_model(finished):
  folder, runs = finished
  first = [
    tiny_study.without_times(_measured(run)[0]['ability']) for run in runs
  ]
  assert first[0] == first[1] and first[0]['everyday']['kl'] == 0
  for run in runs:
    assert all(e['ability']['everyday']['kl'] > 0 for e in _measured(run)[1:])
  names = {file.name for file in (folder / 'seed_0' / 'ability').iterdir()}
  assert names == {'first.json', 'first_states.npy'}


def test_summary_report_and_table_show_it(finished):
  folder, runs = finished
  summary = json.loads((folder / 'summary.json').read_text())['strategies']
  for run in runs:
    (row,) = summary[run['strategy']]
    end = _measured(run)[-1]['ability']
    assert row['everyday_kl'] == end['everyday']['kl']
    assert row['perplexity_change'] == end['full']['text']['change']
    assert row['reading_questions'] == 4
  page = (folder / 'report.html').read_text()
  assert 'What the model could do before' in page and 'Every morning' in page


def test_an_interrupted_run_ends_with_the_same_numbers(
  finished, files, tmp_path
):
  _, (expected, _) = finished
  config, cycles = _config(files, 'sleep'), []
  evaluate = context.RunContext.evaluate

  def note(self, weights, event):
    evaluate(self, weights, event)
    if event.moment == events.MORNING:
      cycles.append(event.cycle)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(context.RunContext, 'evaluate', note)
    with pytest.raises(context.Interrupted):
      study.Study(config, str(tmp_path), stop=lambda: bool(cycles)).run()
  (run,) = study.Study(config, str(tmp_path)).run()
  assert tiny_study.without_times(
    run['evaluations']
  ) == tiny_study.without_times(expected['evaluations'])


def test_a_session_has_no_end_to_measure_the_full_sets_at(files, tmp_path):
  (run,) = study.Study(_config(files, 'sleep'), str(tmp_path), days=()).run()
  full = [bool(e['ability']['full']) for e in _measured(run)]
  assert full == [True, False, False]


def test_bad_sets_are_found_before_anything_is_computed(files, tmp_path):
  c = _config(files)
  c.ability.text = str(tmp_path / 'none.jsonl')
  with pytest.raises(errors.MissingFileError, match='WikiText-2'):
    study.Study(c, str(tmp_path / 'run')).run()
  c = _config(files)
  c.ability.form = 'chat'
  with pytest.raises(errors.ConfigError, match='no chat template .it was pret'):
    study.Study(c, str(tmp_path / 'run')).run()
  assert not (tmp_path / 'run' / 'seed_0').exists()


def test_another_ability_needs_another_work_directory(finished, files):
  folder, _ = finished
  c = _config(files)
  c.ability.text_tokens = 31
  with pytest.raises(errors.WorkdirError, match='config.ability.text_tokens'):
    study.Study(c, str(folder)).run()


def test_settings_of_earlier_versions_measure_nothing():
  c = tiny_study.config()
  del c.ability
  assert not ability_start.settings(c).on


class TestGuardOfABaseModel:
  def _run(self, home, folder, tolerance):
    c = hf_start_test._config(home)
    c.guard.update(on=True, tolerance=tolerance)
    c.expert_optimizer.learning_rate = 0.3
    (run,) = study.Study(c, str(folder)).run()
    return run

  def test_a_night_that_costs_more_than_its_tolerance_is_undone(self, home):
    run = self._run(home, home / 'strict', 0.0)
    for night in run['nights']:
      assert not night['accepted'] and "model's own texts" in night['reason']
      # Scores are log-likelihoods, nats a token.
      assert night['guard']['after'] < night['guard']['before'] < 0
    saved = home / 'strict' / 'seed_0' / 'ability' / 'own_texts.json'
    assert len(json.loads(saved.read_text())['texts']) == 20

  def test_a_night_within_its_tolerance_is_kept(self, home, monkeypatch):
    scores = iter([-1.0, -1.01, -1.02])  # Initial, and after each night.
    monkeypatch.setattr(own_texts.OwnTexts, 'score', lambda *_: next(scores))
    run = self._run(home, home / 'lenient', 0.02)
    assert [n['accepted'] for n in run['nights']] == [True, True]
    assert [n['guard'] for n in run['nights']] == [
      {'before': pytest.approx(-1.0), 'after': -1.01},
      {'before': pytest.approx(-1.01), 'after': -1.02},
    ]

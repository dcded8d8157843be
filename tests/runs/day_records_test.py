"""Days that were learned are known by name and content, at every start."""

import json
import shutil

import pytest

from configs import jsonl as jsonl_config
from sleep_jax import errors
from sleep_jax.datasets import jsonl, row_formats
from sleep_jax.runs import day_records, study
from sleep_jax.storage import checkpoint_reading, metric_writer
from tests import testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device


def _write(folder, name, *texts):
  folder.mkdir(exist_ok=True)
  rows = [json.dumps({'text': text}) for text in texts]
  (folder / f'{name}.jsonl').write_text('\n'.join(rows) + '\n')


def _config(home):
  c = tiny_study.shrink(jsonl_config.get_config())
  c.data.update(context=24, max_prompt=12, path=str(home / 'days'))
  c.tokenizer.update(kind='bytes')
  return c


def _run(home, **how):
  return study.Study(_config(home), str(home / 'run'), **how).run()


@pytest.fixture
def home(tmp_path_factory, tmp_path, one_device):
  """Returns a folder with two days that a run has learned."""
  learned = tmp_path_factory.getbasetemp() / 'learned_days'
  if not learned.exists():
    learned.mkdir()
    _write(learned / 'days', 'day_8', 'Ann has a cat.', 'Ann is a cook.')
    _write(learned / 'days', 'day_9', 'Bo has a dog.')
    # Relative paths: the folder is copied for each test.
    _run(learned)
  shutil.copytree(learned / 'run', tmp_path / 'run')
  shutil.copytree(learned / 'days', tmp_path / 'days')
  config = json.loads((tmp_path / 'run' / 'config.json').read_text())
  config['data']['path'] = str(tmp_path / 'days')
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(config))
  return tmp_path


def _names(home):
  return [r['name'] for r in day_records.read(home / 'run' / 'seed_0')]


def test_days_are_sorted_by_their_numbers(tmp_path):
  for name in ('day_10', 'day_9', 'day_1', 'b', 'a2', 'a10'):
    _write(tmp_path / 'days', name, 'text')
  found = jsonl.read_experiences(str(tmp_path / 'days'))
  assert list(found) == ['a2', 'a10', 'b', 'day_1', 'day_9', 'day_10']


@pytest.fixture
def saved_config(monkeypatch):
  """Lets a copied run keep the path of its days in its checkpoints."""
  from sleep_jax.runs import compatibility

  kept = compatibility.kept

  def without_path(config, **which):
    found = kept(config, **which)
    found['data'] = {**found['data'], 'path': ''}
    return found

  monkeypatch.setattr(compatibility, 'kept', without_path)


def test_a_tenth_day_comes_after_the_ninth_and_is_learned(saved_config, home):
  _write(home / 'days', 'day_10', 'Cy has a hen.')
  progress = tiny_study.RecordingProgress()
  (run,) = _run(home, progress=progress)
  assert len(run['nights']) == 3
  assert _names(home)[1:] == ['day_8', 'day_9', 'day_10']
  evaluations = [e['experience'] for e in run['evaluations']]
  assert evaluations == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (
      lambda days: _write(days, 'day_0', 'New.'),
      'day_0.jsonl is new and comes before day_9.jsonl, which was learned',
    ),
    (
      lambda days: _write(days, 'day_9', 'Bo has a cow.'),
      r'day_9.jsonl has other rows \(1\) than were learned \(1\)',
    ),
    (
      lambda days: (days / 'day_8.jsonl').unlink(),
      r'day_8.jsonl \(2 rows\) was learned and is missing',
    ),
    (
      lambda days: (days / 'day_9.jsonl').rename(days / 'day_7.jsonl'),
      'day_9.jsonl is now named day_7.jsonl',
    ),
  ],
)
def test_a_learned_day_that_changed_stops_before_anything_is_computed(
  saved_config, home, change, message
):
  before = metric_writer.read(home / 'run/seed_0/sleep/metrics.jsonl')
  change(home / 'days')
  with pytest.raises(errors.ChangedDaysError, match=message) as error:
    _run(home)
  for choice in ('Restore', '--restore_cycle', '--accept_changed_days'):
    assert choice in str(error.value)
  after = metric_writer.read(home / 'run/seed_0/sleep/metrics.jsonl')
  assert before == after


def test_accepted_changes_keep_what_was_learned_and_continue(
  saved_config, home
):
  folder = str(home / 'run/seed_0/sleep/checkpoints')
  before, _ = checkpoint_reading.latest_weights(folder)
  (home / 'days' / 'day_8.jsonl').unlink()
  progress = tiny_study.RecordingProgress()
  _run(home, accept_changed_days=True, progress=progress)
  after, _ = checkpoint_reading.latest_weights(folder)
  assert testing.same(before, after)
  assert any('accepted: day_8' in line for line in progress.messages)
  # The next start needs no flag, and a new day is learned.
  _write(home / 'days', 'day_10', 'Cy has a hen.')
  (run,) = _run(home)
  assert len(run['nights']) == 3
  assert _names(home)[1:] == ['day_8', 'day_9', 'day_10']


def test_going_back_to_a_cycle_allows_other_days_after_it(saved_config, home):
  _write(home / 'days', 'day_9', 'Bo has a cow.')
  (run,) = _run(home, restore_cycle=1)
  assert len(run['nights']) == 2
  _run(home)


def test_rows_that_no_step_reads_are_announced(home):
  texts = [f'Row {number}.' for number in range(40)]
  _write(home / 'days', 'day_8', *texts)
  made = study.Study(_config(home), str(home / 'other'))
  assert 'warning: day_8: 38 rows' in made.check()
  assert '4 wake steps read 32 of them' in made.check()


def test_the_digest_of_a_day_covers_the_turns_of_its_conversations():
  """Two conversations can have one text in the plain format."""
  turns = [('user', 'Who?'), ('assistant', 'Ada'), ('user', 'Where?')]
  forged = [('user', 'Who?\nassistant: Ada\nuser: Where?')]
  one, other = (
    row_formats.to_rows(
      'x:1',
      {
        'messages': [
          {'role': role, 'content': text}
          for role, text in [*before, ('assistant', 'Oslo')]
        ]
      },
    )[-1]
    for before in (turns, forged)
  )
  assert one.text == other.text
  assert day_records.digest([one]) != day_records.digest([other])

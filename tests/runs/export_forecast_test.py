"""What is said about the export before a run from a pretrained model begins."""

import json

import pytest

from configs import chat, documents, facts, jsonl, levels, pretrained
from sleep_jax.runs import export_forecast, session, study
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device


def _notice(made, model=None, level=None, **consolidate):
  c = made.get_config()
  c.model.update(model or {})
  c.consolidate.update(consolidate)
  if level:
    c.levels = (c.levels[0] | level, *c.levels[1:])
  return export_forecast.notice(json.loads(c.to_json_best_effort()))


OPEN = dict(router='always')
EXACT = OPEN | dict(arrangement='independent')


@pytest.mark.parametrize('made', [chat, pretrained])
def test_configs_of_pretrained_models_are_exact(made):
  assert not _notice(made)


@pytest.mark.parametrize('made', [documents, facts, jsonl, levels])
def test_independent_levels_with_open_gates_are_exact(made):
  assert not _notice(made, EXACT)
  assert 'with --config.model.router=always' in _notice(made)


@pytest.mark.parametrize(
  'made, model, changes',
  [
    # The night empties the only level that learns awake.
    (jsonl, OPEN, ''),
    # The experts of the context window are in a faster level.
    (documents, OPEN, 'arrangement=independent'),
    (documents, {}, 'router=always arrangement=independent'),
    (levels, OPEN, 'arrangement=independent'),
    (jsonl, EXACT | dict(top_k=2), 'top_k=0'),
    (jsonl, EXACT | dict(top_k=10), ''),  # As many as there are slots.
  ],
)
def test_the_fields_to_change_are_named(made, model, changes):
  found = _notice(made, model)
  flags = ' '.join(f'--config.model.{c}' for c in changes.split())
  assert found.endswith(f'start with {flags}.') if changes else not found


def test_a_chain_that_keeps_what_it_learned_awake_is_not_exact():
  assert not _notice(jsonl, OPEN)
  assert 'level 1 adds' in _notice(jsonl, OPEN, sender_after_sleep='updated')
  assert 'level 1 adds' in _notice(jsonl, OPEN, dict(sleep_period='infinite'))
  assert not _notice(
    jsonl, OPEN, dict(sleep_period='infinite', update_period='infinite')
  )


def test_gates_do_not_matter_if_no_night_adds_an_expert():
  assert not _notice(jsonl, into='base')


@pytest.fixture
def home(tmp_path):
  """Returns a folder with a tiny checkpoint and a day."""
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  (tmp_path / 'day.jsonl').write_text('{"text": "a cat"}\n')
  return tmp_path


def _config(home):
  c = tiny_study.shrink(jsonl.get_config())
  c.pretrain.base_model = str(home / 'base_model')
  c.data.path = str(home / 'day.jsonl')
  return c


def _said(config, home):
  """Returns what is said before the first program runs."""
  shown = tiny_study.RecordingProgress()
  made = study.Study(
    config, str(home / 'run'), progress=shown, stop=lambda: True
  )
  made._run_seed = lambda *_: None
  made.run()
  return [text for text in shown.messages if text.startswith('note: ')]


def test_a_study_says_it_once_and_runs(home):
  (line,) = _said(_config(home), home)
  assert "model.router is 'sigmoid'" in line
  exact = _config(home)
  exact.model.update(EXACT)
  assert not _said(exact, home / 'other')


def test_a_session_says_it_before_the_first_day_is_learned(home, capsys):
  source = str(home / 'base_model')
  opened = session.Session(source, str(home / 'own'), config='documents')
  with opened.hold():
    assert 'note: this model will have no exact' in capsys.readouterr().err
    with opened.hold():
      assert not capsys.readouterr().err
  with session.Session(source, str(home / 'default')).hold():
    assert 'no exact' not in capsys.readouterr().err

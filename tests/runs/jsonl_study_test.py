"""Studies of a user's own JSON-lines files, and errors in these files."""

import json

import numpy as np
import pytest

from configs import jsonl
from sleep_jax import errors
from sleep_jax.runs import study
from sleep_jax.storage import metric_writer
from tests import tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def _config(tmp_path, **settings):
  """Returns a config of two days: one of texts, one of prompts and responses.

  All tests have the same shapes, so that they share compiled programs.
  """
  days = tmp_path / 'days'
  _write(days / 'monday.jsonl', [{'text': f'Tea at {n}.'} for n in range(9)])
  _write(
    days / 'tuesday.jsonl',
    [{'prompt': f'Bus {n}?', 'response': f'{n} pm'} for n in range(9)],
  )
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=24, max_prompt=12, path=str(days))
  c.tokenizer.update(kind='bytes')
  c.data.settings.update(settings)
  return c


def _summary(folder):
  return json.loads((folder / 'summary.json').read_text())['strategies']


def test_days_alone_need_neither_probes_nor_pretraining_text(tmp_path):
  config = _config(tmp_path)
  config.tokenizer.update(kind='bpe', vocab_size=258)
  folder = tmp_path / 'run'
  runs = study.Study(config, folder).run()
  row = _summary(folder)['sleep'][0]
  assert tiny_study.SUMMARY_KEYS <= set(row)
  assert all(row[key] is None for key in tiny_study.SCORES)
  assert np.isfinite(row['seconds'])
  assert (folder / 'report.html').exists()
  assert [run['strategy'] for run in runs] == ['sleep']
  # The tokenizer is trained on the days, and nothing is pretrained.
  assert metric_writer.read(folder / 'seed_0/pretrain/metrics.jsonl') == []


def test_own_probes_are_scored_and_own_pretraining_is_restored(tmp_path):
  probes = _write(
    tmp_path / 'probes.jsonl',
    [
      {'prompt': 'Bus 3?', 'answer': '3 pm', 'experience': 'tuesday'},
      {'prompt': 'Tea at', 'answer': '1.', 'experience': 'monday'},
      {'prompt': 'Day', 'answer': '1.', 'experience': 'pretrain'},
    ],
  )
  texts = [{'text': f'Day {n}.'} for n in range(40)]
  pretrain = _write(tmp_path / 'pretrain.jsonl', texts)
  config = _config(tmp_path, probes=probes, pretrain=pretrain)
  (run,) = study.Study(config, tmp_path / 'run').run()
  row = _summary(tmp_path / 'run')['sleep'][0]
  assert all(row[key] is not None for key in tiny_study.SCORES)
  first, last = run['evaluations'][0], run['evaluations'][-1]
  assert set(first['scores']) == {'pretrain', '1', '2'}
  assert first['held_out_loss'] > 0 and first['kl_initial'] == 0
  assert last['kl_initial'] > 0

  # Another study restores the initial model and its tokenizer.
  other = _config(tmp_path)
  other.strategies = ('hope',)
  other.pretrain.restore = str(tmp_path / 'run')
  other.tokenizer.update(kind='bpe', vocab_size=300)
  before = sorted((tmp_path / 'run/seed_0/pretrain').rglob('*'))
  study.Study(other, tmp_path / 'other').run()
  assert sorted((tmp_path / 'run/seed_0/pretrain').rglob('*')) == before
  ours, theirs = (
    json.loads(
      (tmp_path / name / 'seed_0/tokenizer/tokenizer.json').read_text()
    )
    for name in ('other', 'run')
  )
  assert ours == theirs == {'kind': 'bytes'}


@pytest.mark.parametrize(
  ('name', 'rows', 'message'),
  [
    (
      'days/monday.jsonl',
      '{"text": "Tea."}\n{"text": ',
      r'monday.jsonl:2: not valid J',
    ),
    ('probes.jsonl', 'Tea?', 'probes.jsonl:1: not valid JSON'),
    (
      'days/monday.jsonl',
      '{"text": "Tea at four, and cake, and then a walk in the park."}',
      r'monday.jsonl:1: the text has \d+ tokens, .*context is 24\n.*split',
    ),
  ],
)
def test_an_unusable_line_of_a_file_is_named(tmp_path, name, rows, message):
  config = _config(tmp_path)
  if name == 'probes.jsonl':
    config.data.settings.probes = str(tmp_path / name)
  (tmp_path / name).write_text(rows)
  with pytest.raises(ValueError, match=message):
    study.Study(config, tmp_path / 'run').run()


@pytest.mark.parametrize('dataset', ['jsonl', 'intents'])
def test_the_error_for_a_missing_path_names_the_flag(tmp_path, dataset):
  config = _config(tmp_path)
  config.data.update(dataset=dataset, path='')
  config.data.settings = {}
  with pytest.raises(ValueError, match='--config.data.path='):
    study.Study(config, tmp_path).run()


def test_a_guard_without_probes_and_tuning_without_a_stream_are_refused(
  tmp_path,
):
  config = _config(tmp_path)
  config.guard.on = True
  with pytest.raises(ValueError, match='no probes for a guard'):
    study.Study(config, tmp_path / 'run').run()
  config.guard.on = False
  config.strategies = ('sleep', 'sft')
  config.tune.learning_rates = (1e-3, 1e-2)
  with pytest.raises(ValueError, match='sft is tuned on a second stream'):
    study.Study(config, tmp_path / 'run').run()


def test_a_run_goes_on_without_rows_that_are_too_long(tmp_path):
  """A later day may have the first of them; days that are learned stay so."""
  config, folder = _config(tmp_path), tmp_path / 'run'
  study.Study(config, folder).run()
  rows = [{'text': f'Tea {n}.'} for n in range(8)] + [{'text': 'x' * 40}]
  _write(tmp_path / 'days/wednesday.jsonl', rows)
  with pytest.raises(errors.TooLongError, match='wednesday.jsonl:9: .* 42'):
    study.Study(config, folder).run()
  config.data.too_long = 'skip'
  progress = tiny_study.RecordingProgress()
  (run,) = study.Study(config, folder, progress=progress).run()
  assert any('wednesday: 1 row' in line for line in progress.messages)
  assert max(row['experience'] for row in run['evaluations']) == 3
  report = (folder / 'report.html').read_text()
  assert 'left out' in report and 'wednesday' in report
  config.data.too_long = 'error'
  with pytest.raises(errors.TooLongError, match='wednesday.jsonl:9'):
    study.Study(config, folder).run()


def test_conversations_are_learned_by_a_model_that_was_pretrained_here(
  tmp_path,
):
  config = _config(tmp_path)
  config.data.update(context=64, max_prompt=56)
  turns = [('user', 'Tea?'), ('assistant', 'Four'), ('user', 'Bus?')]
  messages = [{'role': role, 'content': text} for role, text in turns]
  answer = {'role': 'assistant', 'content': 'Two'}
  _write(tmp_path / 'days/monday.jsonl', [{'messages': [*messages, answer]}])
  said = study.Study(config, tmp_path / 'run').check()
  assert "Conversations are written in the plain format ('user: ...')" in said
  assert 'monday: 2 rows' in said

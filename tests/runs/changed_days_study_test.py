"""Days that change between two starts of a study end as they should."""

import contextlib
import io
import json
import os
import pathlib
import stat
import sys

import pytest

from configs import jsonl as jsonl_config
from sleep_jax import errors
from sleep_jax.runs import context, day_records, stdin_days, study
from sleep_jax.storage import checkpoint_reading
from tests import testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device


def write(file, *texts, mode='w'):
  file.parent.mkdir(exist_ok=True)
  with open(file, mode) as opened:
    opened.writelines(json.dumps({'text': text}) + '\n' for text in texts)


def config(path, **data):
  c = tiny_study.shrink(jsonl_config.get_config())
  c.tokenizer.update(kind='bytes')
  c.data.update(context=24, max_prompt=12, path=str(path), **data)
  return c


def run(c, folder, **options):
  progress = tiny_study.RecordingProgress()
  made = study.Study(c, str(folder), progress=progress, **options)
  return made.run(), progress.messages


def run_until(c, folder, phase):
  """Runs a study until the first step of a phase, which is saved."""
  progress = tiny_study.RecordingProgress()
  begun = []

  @contextlib.contextmanager
  def record(label, *rest, **options):
    begun.append(label)
    with tiny_study.Progress.phase(progress, label, *rest, **options) as bar:
      yield bar

  progress.phase = record
  stop = lambda: bool(begun) and phase in begun[-1]
  with pytest.raises(context.Interrupted):
    study.Study(c, str(folder), progress=progress, stop=stop).run()


def weights(folder, seed=0, strategy='sleep'):
  saved = pathlib.Path(folder) / f'seed_{seed}' / strategy / 'checkpoints'
  return checkpoint_reading.latest_weights(str(saved))[0]


def names(folder, seed=0):
  records = day_records.read(pathlib.Path(folder) / f'seed_{seed}')
  return [record['name'] for record in records[1:]]


def test_a_file_that_grows_is_learned_as_if_it_were_several(tmp_path):
  """Also when it grows in the middle of a day, and without the option not."""
  log = tmp_path / 'log' / 'log.jsonl'
  write(log, 'Ann has a cat.', 'Bo has a dog.')
  first = log.read_text()
  run_until(config(log), tmp_path / 'run', 'experience 1 (log)')
  write(log, 'Cy has a hen.', mode='a')
  with pytest.raises(errors.ChangedDaysError) as error:
    run(config(log), tmp_path / 'run')
  assert 'log.jsonl has 3 rows: 1 were appended to the 2' in str(error.value)
  assert '--config.data.growing=True' in str(error.value)
  run(config(log, growing=True), tmp_path / 'run')
  assert names(tmp_path / 'run') == ['log', 'log (rows 3-3)']
  report = (tmp_path / 'run' / 'report.html').read_text()
  assert 'log (rows 3-3)' in report
  # The same rows, in two starts that nothing interrupted.
  grown = log.read_text()
  log.write_text(first)
  run(config(log, growing=True), tmp_path / 'other')
  log.write_text(grown)
  run(config(log, growing=True), tmp_path / 'other')
  assert testing.same(weights(tmp_path / 'run'), weights(tmp_path / 'other'))
  # Rows that were learned must stay.
  log.write_text(grown.replace('cat', 'cow'))
  with pytest.raises(errors.ChangedDaysError, match='log.jsonl has other rows'):
    run(config(log, growing=True), tmp_path / 'run')


def test_growing_needs_files(tmp_path):
  c = tiny_study.config()
  c.data.growing = True
  with pytest.raises(errors.ConfigError, match='config.data.growing is True'):
    study.Study(c, str(tmp_path))


class Stdin(io.TextIOWrapper):
  """Standard input with a text, as from a pipe."""

  def __init__(self, text=''):
    super().__init__(io.BytesIO(text.encode()))


def rows(*texts):
  return ''.join(json.dumps({'text': text}) + '\n' for text in texts)


def test_days_on_standard_input_are_learned_once_each(tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  c = config('-')
  give = lambda text: monkeypatch.setattr(sys, 'stdin', Stdin(text))
  give('')
  with pytest.raises(errors.DataError, match='No day came on standard input'):
    run(c, folder)
  give(rows('Ann has a cat.'))
  run_until(c, folder, 'experience 1 (stdin_0001)')
  file = folder / 'days' / 'stdin_0001.jsonl'
  assert file.read_text() == rows('Ann has a cat.')
  assert stat.S_IMODE(file.stat().st_mode) == 0o600
  assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
  give('')  # Without a stream it continues.
  (record,), _ = run(c, folder)
  assert len(record['nights']) == 1
  give(rows('Ann has a cat.'))  # The same command with the same stream.
  (record,), _ = run(c, folder)
  assert len(record['nights']) == 1 and names(folder) == ['stdin_0001']
  give(rows('Bo has a dog.'))
  (record,), _ = run(c, folder)
  assert len(record['nights']) == 2
  assert names(folder) == ['stdin_0001', 'stdin_0002']
  # A stream that cannot be learned is kept, and is no day.
  for text, message in (
    (rows('Cy') + '{"text": ', r'stdin.part:2: not valid JSON'),
    (rows('Cy has a hen. ' * 9), 'stdin_0003.jsonl:1: the text has'),
  ):
    give(text)
    with pytest.raises(errors.DataError, match=message) as error:
      run(c, folder)
    (kept,) = (folder / 'days').glob('*.refused')
    assert str(kept) in str(error.value) and kept.read_text() == text
    kept.unlink()
  give('')
  (record,), _ = run(c, folder)
  assert len(record['nights']) == 2


def test_a_stream_that_was_cut_off_leaves_no_day(tmp_path, monkeypatch):
  class Broken(io.BytesIO):
    def read(self, size=-1):
      raise KeyboardInterrupt

  monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(Broken()))
  with pytest.raises(KeyboardInterrupt):
    stdin_days.receive(tmp_path)
  monkeypatch.setattr(sys, 'stdin', Stdin(rows('Ann has a cat.')))
  day = stdin_days.receive(tmp_path)
  assert [path.name for path in day.parent.iterdir()] == ['stdin_0001.jsonl']
  assert day.read_text() == rows('Ann has a cat.')


@pytest.mark.parametrize('ends', [False, True])
def test_a_stream_that_is_stopped_is_no_day(tmp_path, monkeypatch, ends):
  """Ctrl-C ends both programs of a pipe: what came may be a part."""
  reading, writing = os.pipe()
  os.write(writing, rows('Ann has a cat.').encode())
  if ends:
    os.close(writing)
  looks = iter([False, True])
  with open(reading, encoding='utf-8') as stream:
    monkeypatch.setattr(sys, 'stdin', stream)
    with pytest.raises(context.Interrupted, match='pass it again'):
      stdin_days.receive(tmp_path, lambda: next(looks, True))
  assert not list(tmp_path.glob('days/stdin_*.jsonl'))
  if not ends:
    os.close(writing)


def test_seeds_and_strategies_that_came_to_different_days(tmp_path):
  days = tmp_path / 'days'
  write(days / 'day_1.jsonl', 'Ann has a cat.')
  write(days / 'day_2.jsonl', 'Bo has a dog.')
  c = config(days)
  c.seeds, c.strategies = (0, 1), ('sleep', 'hope')
  run_until(c, tmp_path / 'run', 'hope: experience 2 (day_2)')
  # Seed 1 has not begun; day 2 is half learned by seed 0.
  write(days / 'day_2.jsonl', 'Cy has a hen.')
  for strategies in (('sleep',), ('hope',), ('sleep', 'hope')):
    c.strategies = strategies
    with pytest.raises(errors.ChangedDaysError, match='day_2.jsonl has other'):
      run(c, tmp_path / 'run')
  c.seeds = (1,)
  run(c, tmp_path / 'run')
  c.seeds = (0, 1)
  _, messages = run(c, tmp_path / 'run', accept_changed_days=True)
  assert sum('accepted: day_2.jsonl' in line for line in messages) == 1
  # What the first seed has learned of it is what the file had.
  first, second = (
    day_records.read(tmp_path / 'run' / f'seed_{seed}')[2] for seed in (0, 1)
  )
  assert first['digest'] != second['digest'] == first['accepted']


def test_a_rewind_is_refused_before_anything_is_deleted(tmp_path):
  days = tmp_path / 'days'
  for number, text in enumerate(('Ann.', 'Bo.', 'Cy.'), 1):
    write(days / f'day_{number}.jsonl', text)
  run(config(days), tmp_path / 'run')
  before = weights(tmp_path / 'run')
  write(days / 'day_1.jsonl', 'Other.')
  with pytest.raises(errors.ChangedDaysError, match='day_1.jsonl has other'):
    run(config(days), tmp_path / 'run', restore_cycle=2)
  assert testing.same(weights(tmp_path / 'run'), before)
  write(days / 'day_1.jsonl', 'Ann.')
  write(days / 'day_3.jsonl', 'Other.')
  (record,), _ = run(config(days), tmp_path / 'run', restore_cycle=2)
  assert len(record['nights']) == 3
  assert not testing.same(weights(tmp_path / 'run'), before)


def test_a_deleted_day_is_left_out_by_a_rewind(tmp_path):
  days = tmp_path / 'days'
  for number, text in enumerate(('Ann.', 'Bo.', 'Cy.'), 1):
    write(days / f'day_{number}.jsonl', text)
  run(config(days), tmp_path / 'run')
  (days / 'day_2.jsonl').unlink()
  (record,), said = run(config(days), tmp_path / 'run', restore_cycle=1)
  assert names(tmp_path / 'run') == ['day_1', 'day_3']
  assert len(record['nights']) == 2
  # How much of a day is read is said of those that are learned again.
  assert [line[:6] for line in said[0].split('\n') if ' row;' in line] == [
    'day_3:'
  ]


def test_a_strategy_that_reads_all_days_at_once_refuses_a_new_one(tmp_path):
  days = tmp_path / 'days'
  write(days / 'day_1.jsonl', 'Ann has a cat.')
  c = config(days)
  c.strategies = ('hope', 'joint')
  run(c, tmp_path / 'run')
  write(days / 'day_2.jsonl', 'Bo has a dog.')
  message = 'day_2.jsonl: new in .* joint_wake has begun.*Leave joint_wake out'
  for accept in (False, True):
    with pytest.raises(errors.ChangedDaysError, match=message):
      run(c, tmp_path / 'run', accept_changed_days=accept)
  c.strategies = ('hope',)
  run(c, tmp_path / 'run')
  assert names(tmp_path / 'run') == ['day_1', 'day_2']
  c.strategies = ('joint',)  # It has not read the second day since.
  with pytest.raises(errors.ChangedDaysError, match=message):
    run(c, tmp_path / 'run')


def test_extra_days_of_another_dataset_are_compared_too(tmp_path):
  c = tiny_study.config()
  c.data.update(context=24, extra_days=str(tmp_path / 'days'))
  c.strategies = ('hope',)
  write(tmp_path / 'days' / 'day_9.jsonl', 'Ann has a cat.')
  run_until(c, tmp_path / 'run', 'experience 3 (day_9)')
  write(tmp_path / 'days' / 'day_9.jsonl', 'Ann has a cow.')
  with pytest.raises(errors.ChangedDaysError, match='day_9.jsonl has other'):
    run(c, tmp_path / 'run')
  write(tmp_path / 'days' / 'day_9.jsonl', 'Ann has a cat.')
  write(tmp_path / 'days' / 'day_10.jsonl', 'Bo has a dog.')
  run(c, tmp_path / 'run')
  assert names(tmp_path / 'run') == ['day 1', 'day 2', 'day_9', 'day_10']
  write(tmp_path / 'days' / 'day 1.jsonl', 'Ann.')
  with pytest.raises(errors.DataError, match='the name of a day of the data'):
    run(c, tmp_path / 'run')


def test_a_half_learned_day_that_is_gone_is_finished_if_that_is_accepted(
  tmp_path,
):
  days = tmp_path / 'days'
  for number in (1, 2, 3):
    write(days / f'day_{number}.jsonl', f'Ann has {number} cats.')
  c = config(days)
  c.strategies = ('hope',)
  run_until(c, tmp_path / 'run', 'experience 2 (day_2)')
  (days / 'day_2.jsonl').unlink()
  with pytest.raises(
    errors.ChangedDaysError, match='day_2.jsonl .* is missing'
  ):
    run(c, tmp_path / 'run')
  (record,), messages = run(c, tmp_path / 'run', accept_changed_days=True)
  assert 'hope: experience 3 (day_3): 4 to do' in messages
  assert [e['experience'] for e in record['evaluations']][-1] == 3
  before = weights(tmp_path / 'run', strategy='hope')
  run(c, tmp_path / 'run')
  assert testing.same(before, weights(tmp_path / 'run', strategy='hope'))
  assert names(tmp_path / 'run') == ['day_1', 'day_2', 'day_3']

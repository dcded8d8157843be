"""A folder is watched: each new file is a day, whenever it arrives."""

import json
import os
import time

import pytest

from configs import jsonl
from sleep_jax import errors
from sleep_jax.runs import study, watching
from sleep_jax.storage import metric_writer
from tests import tiny_study

one_device = tiny_study.one_device


def _write(path, num=9, *, age=60.0):
  """Writes a file of rows that was changed `age` seconds ago."""
  rows = [{'text': f'{path.stem} at {n}.'} for n in range(num)]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  changed = time.time() - age
  os.utime(path, (changed, changed))
  return str(path)


def _watch(tmp_path, learn, record='watched.json'):
  return watching.Watch(
    str(tmp_path / 'days'), tmp_path / record, learn, lambda line: None
  )


@pytest.fixture(autouse=True)
def days(tmp_path):
  folder = tmp_path / 'days'
  folder.mkdir()
  return folder


def test_files_are_taken_one_at_a_time_in_natural_order(tmp_path, days):
  seen = []
  files = [_write(days / f'day_{n}.jsonl') for n in (10, 9, 2)]
  (days / 'notes.pdf').write_text('no rows')
  (days / '.day_1.jsonl').write_text('{"text": "hidden"}')
  (days / 'day_3.jsonl').touch()
  assert _watch(tmp_path, seen.append).run(0, lambda: False) == 3
  expected = files[::-1]
  assert seen == [expected[:1], expected[:2], expected[:3]]
  # Nothing is new.
  seen.clear()
  assert _watch(tmp_path, seen.append).run(0, lambda: False) == 0
  assert seen == [expected]


def test_a_file_that_comes_later_is_a_later_day_whatever_its_name(
  tmp_path, days
):
  seen = []
  late = _write(days / 'b.jsonl')
  _watch(tmp_path, seen.append).run(0, lambda: False)
  early = _write(days / 'a.jsonl')
  _watch(tmp_path, seen.append).run(0, lambda: False)
  assert seen[-1] == [late, early]


def test_a_file_that_is_being_written_waits(tmp_path, days):
  watch = _watch(tmp_path, lambda files: None)
  file = _write(days / 'a.jsonl', age=0)
  now = os.stat(file).st_mtime
  assert watch.waiting(now + 1) == [] and watch.waiting(now + 10) == [file]


def test_a_file_that_cannot_be_read_stops_and_is_no_day(tmp_path, days):
  def learn(files):
    if files[-1].endswith('b.jsonl'):
      raise errors.DataError('b.jsonl:1: not JSON')

  for name in 'abc':
    _write(days / f'{name}.jsonl')
  with pytest.raises(errors.DataError, match='b.jsonl:1'):
    _watch(tmp_path, learn).run(0, lambda: False)
  (days / 'b.jsonl').unlink()
  assert _watch(tmp_path, learn).run(0, lambda: False) == 1
  assert watching.read(tmp_path / 'watched.json')[1] == [
    'a.jsonl', 'c.jsonl'
  ]  # fmt: skip


def test_it_ends_when_it_is_asked_to(tmp_path, days):
  calls = iter(range(10**6))
  watch = _watch(tmp_path, lambda files: None)
  start = time.monotonic()
  assert watch.run(60, lambda: next(calls) > 3) == 0
  assert time.monotonic() - start < 5


def test_a_missing_folder_is_named(tmp_path):
  with pytest.raises(errors.MissingFileError, match='nowhere is no folder'):
    watching.Watch(str(tmp_path / 'nowhere'), tmp_path, print, print)


@pytest.mark.usefixtures('one_device')
def test_days_that_arrive_one_by_one_end_like_days_given_at_once(
  tmp_path, days
):
  config = tiny_study.shrink(jsonl.get_config())
  config.data.update(context=24, max_prompt=12)
  config.tokenizer.update(kind='bytes')
  files = [_write(days / f'{name}.jsonl') for name in ('mo', 'tu')]
  at_once = tmp_path / 'at_once'
  study.Study(config, at_once, days=files).run()
  folder = tmp_path / 'watched'
  learn = lambda files: study.Study(config, folder, days=files).run()
  assert _watch(tmp_path, learn).run(0, lambda: False) == 2
  expected, found = (
    metric_writer.read(run / 'seed_0/sleep/metrics.jsonl')
    for run in (at_once, folder)
  )
  losses = lambda rows: [row['loss'] for row in rows if 'loss' in row]
  assert losses(found) == losses(expected) and len(losses(found)) >= 6


def test_files_that_were_moved_away_are_missing_days(tmp_path, days):
  seen = []
  first, second = (_write(days / f'{name}.jsonl') for name in 'ab')
  _watch(tmp_path, seen.append).run(0, lambda: False)
  os.remove(first)
  _watch(tmp_path, seen.append).run(0, lambda: False)
  assert seen[-1] == [second]


def test_pretraining_text_is_no_day(tmp_path, days):
  _write(days / 'pretrain.jsonl')
  with pytest.raises(errors.DataError, match='pretrain.jsonl is in the folder'):
    _watch(tmp_path, lambda files: None).run(0, lambda: False)

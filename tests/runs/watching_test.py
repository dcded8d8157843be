"""A folder is watched: each new file is a day, whenever it arrives."""

import json
import os
import time
import types

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


@pytest.fixture
def clock(monkeypatch):
  """Time passes only when something waits, or when a test says so."""

  class Clock:
    now, waits = 0.0, 0
    on_wait = staticmethod(lambda: None)

    def wait(self, seconds, stop):
      self.now += seconds
      self.waits += 1
      self.on_wait()

  made, start = Clock(), time.time()
  monkeypatch.setattr(watching, '_wait', made.wait)
  monkeypatch.setattr(
    watching, 'time',
    types.SimpleNamespace(
      time=lambda: start + made.now, monotonic=lambda: made.now
    ),
  )  # fmt: skip
  return made


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


def test_a_file_that_is_being_written_waits(tmp_path, days, clock):
  watch = _watch(tmp_path, lambda files: None)
  file = _write(days / 'a.jsonl', age=0)
  assert watch.look() == ([], [file])
  clock.now += 1
  assert watch.look() == ([], [file])
  clock.now += 10
  assert watch.look() == ([file], [])


def test_a_time_that_is_ahead_is_not_waited_for(tmp_path, days, clock):
  """Clocks of cameras and servers differ: what counts is what is seen here."""
  age = -86_400
  watch = _watch(tmp_path, lambda files: None)
  file = _write(days / 'a.jsonl', age=age)
  assert watch.look() == ([], [file])
  clock.now += 4
  _write(days / 'a.jsonl', num=10, age=age)  # It grows: the wait begins again.
  assert watch.look() == ([], [file])
  clock.now += 4
  assert watch.look() == ([], [file])
  clock.now += 2
  assert watch.look() == ([file], [])


def test_one_look_waits_until_files_are_whole(tmp_path, days, clock):
  seen, said = [], []
  watch = watching.Watch(
    str(days), tmp_path / 'watched.json', seen.append, said.append
  )
  file = _write(days / 'a.jsonl', age=0)
  assert watch.run(0, lambda: False) == 1
  assert seen == [[file]] and 'changed a moment ago' in said[0]


def test_one_look_does_not_wait_for_a_file_that_goes_on_growing(
  tmp_path, days, clock
):
  said = []
  watch = watching.Watch(
    str(days), tmp_path / 'watched.json', lambda files: None, said.append
  )
  clock.on_wait = lambda: _write(days / 'a.jsonl', num=clock.waits + 1, age=-60)
  clock.on_wait()
  assert watch.run(0, lambda: False) == 0
  assert clock.waits < 100 and 'not learned now' in said[-1]


def test_a_second_process_is_refused(tmp_path, days):
  """Else it takes files that the first one then never learns."""
  _write(days / 'a.jsonl')

  def learn(files):
    with pytest.raises(errors.InUseError, match='in use by process'):
      _watch(tmp_path, print).run(0, lambda: False)

  assert _watch(tmp_path, learn).run(0, lambda: False) == 1


def test_files_that_the_config_names_are_no_days(tmp_path, days):
  seen = []
  day, probes = (_write(days / f'{name}.jsonl') for name in ('b', 'probes'))
  questions = _write(days / 'a_questions.jsonl')
  watch = watching.Watch(
    str(days), tmp_path / 'watched.json', seen.append, lambda line: None,
    other=[probes, questions],
  )  # fmt: skip
  assert watch.run(0, lambda: False) == 1
  assert seen == [[day]]


@pytest.mark.parametrize('begun', [False, True])
def test_a_file_that_fails_stays_a_day_only_if_it_was_begun(
  tmp_path, days, begun
):
  def learn(files):
    if begun:
      record = {'name': 'a', 'file': 'a.jsonl', 'rows': 9, 'digest': '1'}
      (tmp_path / 'seed_0').mkdir()
      (tmp_path / 'seed_0/days.json').write_text(json.dumps([record]))
    raise errors.StorageError('no space left')

  _write(days / 'a.jsonl')
  with pytest.raises(errors.StorageError):
    _watch(tmp_path, learn).run(0, lambda: False)
  names = watching.read(tmp_path / 'watched.json')[1]
  assert names == (['a.jsonl'] if begun else [])


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

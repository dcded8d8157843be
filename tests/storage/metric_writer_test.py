"""The record of a run survives what ends runs."""

import sys

import numpy as np
import pytest

from sleep_jax.storage import metric_backends, metric_writer, workdir
from tests import bucket as bucket_lib

bucket = bucket_lib.bucket


def test_what_is_written_is_read_and_appended_to(tmp_path):
  for event in (1, 2):
    with metric_writer.MetricWriter(tmp_path) as record:
      record.write({'event': event, 'scores': {'pretrain': np.float32(0.5)}})
  rows = metric_writer.read(tmp_path / 'metrics.jsonl')
  assert rows == [
    {'event': event, 'scores': {'pretrain': 0.5}} for event in (1, 2)
  ]


def test_a_row_is_on_disk_before_the_record_is_closed(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as record:
    record.write({'event': 1})
    assert metric_writer.read(record.path) == [{'event': 1}]


def test_going_back_drops_what_came_after(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as record:
    for event in range(5):
      record.write({'event': event, 'loss': 1.0})
    kept = record.truncate_after(2)
    record.write({'event': 3, 'loss': 2.0})
  rows = metric_writer.read(record.path)
  assert rows[:3] == kept
  assert [(row['event'], row['loss']) for row in rows[2:]] == [
    (2, 1.0),
    (3, 2.0),
  ]


def test_a_half_written_last_line_is_shed(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"event": 1}\n{"event": 2, "lo')
  with metric_writer.MetricWriter(tmp_path) as record:
    record.write({'event': 2})
  assert metric_writer.read(path) == [{'event': 1}, {'event': 2}]


def test_a_broken_line_is_named_and_nothing_is_lost(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  text = '{"event": 1}\n{"event": "x"}\n{"event": 3}\n'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2'):
    metric_writer.MetricWriter(tmp_path)
  assert path.read_text() == text


def test_nan_and_arrays_become_json(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as record:
    record.write(
      {
        'event': np.int64(1),
        'loss': float('nan'),
        'rates': np.array([0.5, np.inf]),
      }
    )
  assert metric_writer.read(record.path) == [
    {'event': 1, 'loss': None, 'rates': [0.5, None]}
  ]


def test_a_row_without_an_event_is_refused(tmp_path):
  record = metric_writer.MetricWriter(tmp_path)
  with record, pytest.raises(ValueError, match='event'):
    record.write({'loss': 1.0})


def test_an_unknown_writer_is_named_with_the_known_ones(tmp_path):
  with pytest.raises(ValueError, match=r'tensorbord.*tensorboard'):
    metric_writer.MetricWriter(tmp_path, writers=('tensorbord',))


@pytest.mark.parametrize('package', metric_writer.OPTIONAL_WRITERS)
def test_a_writer_that_is_not_installed_names_its_extra(
  package, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=rf'sleep-jax\[{package}\]'):
    metric_writer.MetricWriter(tmp_path, writers=(package,))


def test_tensorboard_reads_the_same_numbers_and_forgets_what_was_undone(
  tmp_path,
):
  accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  with metric_writer.MetricWriter(tmp_path, writers=('tensorboard',)) as record:
    for event in (1, 2, 3):
      record.write({'event': event, 'scores': {'pretrain': event / 4}})
    record.truncate_after(1)
    record.write({'event': 2, 'scores': {'pretrain': 1.0}})
  events = accumulator.EventAccumulator(str(tmp_path / 'tensorboard'))
  events.Reload()
  scalars = events.Scalars('scores/pretrain')
  assert [(s.step, s.value) for s in scalars] == [(1, 0.25), (2, 1.0)]


def test_wandb_runs_offline_and_goes_back_without_complaint(tmp_path):
  pytest.importorskip('wandb')
  with metric_writer.MetricWriter(tmp_path, writers=('wandb',)) as record:
    record.write({'event': 1, 'loss': 1.0})
    record.truncate_after(0)
    record.write({'event': 1, 'loss': 2.0})
  assert list((tmp_path / 'wandb').glob('offline-run-*'))


def test_a_record_in_a_bucket_is_the_same_as_on_disk(bucket, tmp_path):
  for folder in (tmp_path / 'run', 'gs://mine/run'):
    for first in (1, 3):  # The second goes on where the first ended.
      with metric_writer.MetricWriter(folder) as record:
        record.write({'event': first, 'loss': 0.5})
        record.write({'event': first + 1, 'name': 'ä'})
        record.write_dreams([{'dream': first}])
    with metric_writer.MetricWriter(folder) as record:
      assert [r['event'] for r in record.truncate_after(3)] == [1, 2, 3]
  for name in ('metrics.jsonl', 'dreams.jsonl'):
    there = workdir.path(f'gs://mine/run/{name}').read_text()
    assert there == (tmp_path / 'run' / name).read_text()
  assert len(bucket) == 2


def test_rows_are_in_the_bucket_when_asked_for_and_now_and_then(
  bucket, monkeypatch
):
  now = 0.0
  monkeypatch.setattr(metric_backends.time, 'monotonic', lambda: now)
  with metric_writer.MetricWriter('gs://mine/run') as record:
    there = lambda: [row['event'] for row in metric_writer.read(record.path)]
    record.write({'event': 1})
    assert there() == []  # A bucket takes about one write a second.
    record.flush()
    assert there() == [1]
    record.write({'event': 2})
    now = 60.0
    record.write({'event': 3})
    assert there() == [1, 2, 3]


@pytest.mark.parametrize('package', metric_writer.OPTIONAL_WRITERS)
def test_a_writer_that_needs_a_disk_is_refused_a_bucket(bucket, package):
  with pytest.raises(ValueError, match=rf'{package}.*gs://mine/run'):
    metric_writer.MetricWriter('gs://mine/run', writers=(package,))

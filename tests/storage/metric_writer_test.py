"""Metrics of a run survive interruptions."""

import sys

import numpy as np
import pytest

from sleep_jax.storage import metric_backends, metric_writer, workdir
from tests import bucket as bucket_lib

bucket = bucket_lib.bucket


def test_written_rows_are_read_back_and_appended_to(tmp_path):
  for event in (1, 2):
    with metric_writer.MetricWriter(tmp_path) as writer:
      writer.write({'event': event, 'scores': {'pretrain': np.float32(0.5)}})
  rows = metric_writer.read(tmp_path / 'metrics.jsonl')
  assert rows == [
    {'event': event, 'scores': {'pretrain': 0.5}} for event in (1, 2)
  ]


def test_row_is_on_disk_before_the_writer_is_closed(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.write({'event': 1})
    assert metric_writer.read(writer.path) == [{'event': 1}]


def test_truncating_drops_later_rows(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    for event in range(5):
      writer.write({'event': event, 'loss': 1.0})
    kept = writer.truncate_after(2)
    writer.write({'event': 3, 'loss': 2.0})
  rows = metric_writer.read(writer.path)
  assert rows[:3] == kept
  assert [(row['event'], row['loss']) for row in rows[2:]] == [
    (2, 1.0),
    (3, 2.0),
  ]


def test_half_written_last_line_is_dropped(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"event": 1}\n{"event": 2, "lo')
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.write({'event': 2})
  assert metric_writer.read(path) == [{'event': 1}, {'event': 2}]


def test_error_names_a_broken_line_and_the_file_is_unchanged(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  text = '{"event": 1}\n{"event": "x"}\n{"event": 3}\n'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'metrics\.jsonl:2'):
    metric_writer.MetricWriter(tmp_path)
  assert path.read_text() == text


def test_nan_and_arrays_are_converted_to_json(tmp_path):
  with metric_writer.MetricWriter(tmp_path) as writer:
    writer.write(
      {
        'event': np.int64(1),
        'loss': float('nan'),
        'rates': np.array([0.5, np.inf]),
      }
    )
  assert metric_writer.read(writer.path) == [
    {'event': 1, 'loss': None, 'rates': [0.5, None]}
  ]


def test_row_without_an_event_raises(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path)
  with writer, pytest.raises(ValueError, match='event'):
    writer.write({'loss': 1.0})


def test_error_of_an_unknown_writer_lists_the_known_ones(tmp_path):
  with pytest.raises(ValueError, match=r'tensorbord.*tensorboard'):
    metric_writer.MetricWriter(tmp_path, writers=('tensorbord',))


@pytest.mark.parametrize('package', metric_writer.OPTIONAL_WRITERS)
def test_error_of_a_missing_package_says_how_to_install_it(
  package, tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(ImportError, match=f'pip install {package}'):
    metric_writer.MetricWriter(tmp_path, writers=(package,))


def test_tensorboard_shows_the_same_numbers_and_drops_truncated_events(
  tmp_path,
):
  accumulator = pytest.importorskip(
    'tensorboard.backend.event_processing.event_accumulator'
  )
  with metric_writer.MetricWriter(tmp_path, writers=('tensorboard',)) as writer:
    for event in (1, 2, 3):
      writer.write({'event': event, 'scores': {'pretrain': event / 4}})
    writer.truncate_after(1)
    writer.write({'event': 2, 'scores': {'pretrain': 1.0}})
  logged = accumulator.EventAccumulator(str(tmp_path / 'tensorboard'))
  logged.Reload()
  scalars = logged.Scalars('scores/pretrain')
  assert [(s.step, s.value) for s in scalars] == [(1, 0.25), (2, 1.0)]


def test_wandb_runs_offline_and_accepts_repeated_events(tmp_path):
  pytest.importorskip('wandb')
  with metric_writer.MetricWriter(tmp_path, writers=('wandb',)) as writer:
    writer.write({'event': 1, 'loss': 1.0})
    writer.truncate_after(0)
    writer.write({'event': 1, 'loss': 2.0})
  assert list((tmp_path / 'wandb').glob('offline-run-*'))


def test_files_in_a_bucket_equal_files_on_disk(bucket, tmp_path):
  for folder in (tmp_path / 'run', 'gs://mine/run'):
    for first in (1, 3):  # The second writer continues the file of the first.
      with metric_writer.MetricWriter(folder) as writer:
        writer.write({'event': first, 'loss': 0.5})
        writer.write({'event': first + 1, 'name': 'ä'})
        writer.write_dreams([{'dream': first}])
    with metric_writer.MetricWriter(folder) as writer:
      assert [r['event'] for r in writer.truncate_after(3)] == [1, 2, 3]
  for name in ('metrics.jsonl', 'dreams.jsonl'):
    in_bucket = workdir.path(f'gs://mine/run/{name}').read_text()
    assert in_bucket == (tmp_path / 'run' / name).read_text()
  assert len(bucket) == 2


def test_rows_reach_the_bucket_on_flush_and_periodically(bucket, monkeypatch):
  now = 0.0
  monkeypatch.setattr(metric_backends.time, 'monotonic', lambda: now)
  with metric_writer.MetricWriter('gs://mine/run') as writer:
    events = lambda: [row['event'] for row in metric_writer.read(writer.path)]
    writer.write({'event': 1})
    assert events() == []  # A bucket accepts about one write per second.
    writer.flush()
    assert events() == [1]
    writer.write({'event': 2})
    now = 60.0
    writer.write({'event': 3})
    assert events() == [1, 2, 3]


@pytest.mark.parametrize('package', metric_writer.OPTIONAL_WRITERS)
def test_writer_that_needs_a_disk_rejects_a_bucket(bucket, package):
  with pytest.raises(ValueError, match=rf'{package}.*gs://mine/run'):
    metric_writer.MetricWriter('gs://mine/run', writers=(package,))

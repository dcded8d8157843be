"""A day that is given in passes over its rows instead of wake steps."""

import json

import numpy as np
import pytest

from configs import jsonl
from sleep_jax.runs import study
from sleep_jax.storage import checkpoint_reading, metric_writer
from tests import tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
SIZES = (5, 12, 3)  # Rows of three days; a step reads 8.


def _write_days(folder, num):
  folder.mkdir(exist_ok=True)
  for day, size in enumerate(SIZES[:num], 1):
    rows = [json.dumps({'text': f'Tea {day} at {n}.'}) for n in range(size)]
    (folder / f'day_{day}.jsonl').write_text('\n'.join(rows) + '\n')


def _study(home, folder, **how):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=24, max_prompt=12, path=str(home / 'days'))
  # Not trained on the days: these are added to.
  c.tokenizer.update(kind='bytes')
  c.wake.epochs = 2
  return study.Study(c, str(home / folder), **how)


def _weights(home, folder):
  path = home / folder / 'seed_0' / 'sleep' / 'checkpoints'
  return checkpoint_reading.latest_weights(str(path))[0]['params']


def _rows(home, folder):
  path = home / folder / 'seed_0' / 'sleep' / 'metrics.jsonl'
  return [
    tiny_study.without_times(row)
    for row in metric_writer.read(path)
    if row['kind'] in ('wake', 'night_round')
  ]


def _same(one, other):
  assert one.keys() == other.keys()
  return all(np.array_equal(one[name], other[name]) for name in one)


def test_days_in_passes_resume_grow_and_report_like_an_unbroken_run(tmp_path):
  _write_days(tmp_path / 'days', 2)
  calls = []
  stopping = _study(
    tmp_path, 'grown', stop=lambda: calls.append(0) or len(calls) == 6
  )
  with pytest.raises(Exception, match='the same command continues'):
    stopping.run()  # In the middle of the second day.
  _study(tmp_path, 'grown').run()
  _write_days(tmp_path / 'days', 3)
  progress = tiny_study.RecordingProgress()
  _study(tmp_path, 'grown', progress=progress).run()
  (schedule,) = [m for m in progress.messages if m.startswith('Schedule')]
  # The days that are learned are not listed again.
  assert schedule.splitlines()[-1] == (
    'day_3: 3 rows; 1 wake step reads each 2.67 times'
  )
  _study(tmp_path, 'unbroken').run()
  assert _same(_weights(tmp_path, 'grown'), _weights(tmp_path, 'unbroken'))
  # 2 passes of 5, 12 and 3 rows are 2, 3 and 1 steps.
  ends = [r['step'] for r in _rows(tmp_path, 'unbroken') if r['kind'] == 'wake']
  assert ends == [2, 5, 6]
  assert _rows(tmp_path, 'grown')[-3:] == _rows(tmp_path, 'unbroken')[-3:]
  page = (tmp_path / 'grown' / 'report.html').read_text()
  assert 'How much of each day is read' in page and '2.67' in page


def test_a_learned_day_keeps_its_steps_when_its_file_changes(tmp_path):
  _write_days(tmp_path / 'days', 1)
  _study(tmp_path, 'run').run()
  before = _weights(tmp_path, 'run')
  rows = [json.dumps({'text': f'More {n}.'}) for n in range(40)]
  (tmp_path / 'days' / 'day_1.jsonl').write_text('\n'.join(rows) + '\n')
  changed = _study(tmp_path, 'run', accept_changed_days=True)
  assert changed.is_finished()
  changed.run()
  assert _same(before, _weights(tmp_path, 'run'))

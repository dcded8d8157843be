"""Tests of the events of a run: `joint_night` takes the updates of `sleep`."""

import json
import shutil

import pytest

from sleep_jax.model import config as model_config
from sleep_jax.runs import context, run_plan, study
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoint_reading
from sleep_jax.strategies import registry
from tests import tiny_study

one_device = tiny_study.one_device
AWAKE, LONGEST, USED = 2 * 4, 2 * 12, 2 * 6


def _nights(*updates, phase='consolidate'):
  return [{'phase': phase, 'updates': number} for number in updates]


def test_the_budget_is_what_the_nights_of_a_finished_run_used():
  sleep = {'event': 9, 'nights': _nights(6, 0, 12)}
  assert run_plan.night_budget(None, sleep, 9) == 18
  sleep['nights'] += _nights(100, phase='merge')  # Not in the budget either.
  assert run_plan.night_budget(None, sleep, 9) == 18


def test_without_a_finished_run_the_budget_is_the_largest():
  sleep = {'event': 8, 'nights': _nights(6)}
  assert run_plan.night_budget(None, sleep, 9) is None
  assert run_plan.night_budget(None, None, 9) is None
  old = {'event': 9, 'nights': [{'phase': 'consolidate'}]}
  assert run_plan.night_budget(None, old, 9) is None


def test_a_run_that_has_begun_keeps_its_budget():
  sleep = {'event': 9, 'nights': _nights(6)}
  for number in (7, None):
    own = {'night_budget': number}
    assert run_plan.night_budget(own, sleep, 9) == number
    assert run_plan.night_budget(own, None, 9) == number
  # Of an earlier version, which planned the largest number.
  assert run_plan.night_budget({}, sleep, 9) is None


def test_the_plan_has_the_wake_steps_and_the_budget():
  c = json.loads(tiny_study.config().to_json_best_effort())
  levels = [model_config.make_level(level) for level in c['levels']]
  wake, night = registry.make('joint', num_levels=2)
  num_steps = lambda *args: sum(
    event.kind == events.WAKE for event in run_plan.make(c, levels, *args)
  )
  assert num_steps(night, [4, 5], 7) == num_steps(wake, [4, 5]) + 7 == 16
  assert num_steps(night, [4, 5]) == 9 + 2 * c['consolidate']['num_updates']
  assert num_steps(wake, [4, 5], 7) == 9


def _config(*strategies):
  c = tiny_study.config()
  c.strategies = strategies
  c.consolidate.num_updates = 12
  c.consolidate.adaptive.update(on=True, min_updates=6, tolerance=1e3)
  return c


def _run(folder, *strategies, **options):
  progress = tiny_study.RecordingProgress()
  found = study.Study(
    _config(*strategies), str(folder), progress=progress, **options
  ).run(show_schedule=False)
  steps = {run['strategy']: run['cost']['steps'] for run in found}
  return steps, '\n'.join(progress.messages)


@pytest.mark.usefixtures('one_device')
def test_joint_takes_the_updates_of_adaptive_nights_and_keeps_them(tmp_path):
  first = tmp_path / 'joint_first'
  steps, said = _run(first, 'joint')
  assert steps == {'joint_wake': AWAKE, 'joint_night': AWAKE + LONGEST}
  assert 'joint_night: takes as many updates as the nights of sleep' in said
  # A finished sleep run does not change a run that has begun.
  steps, said = _run(first, 'sleep', 'joint')
  assert steps['sleep'] == AWAKE + USED
  assert steps['joint_night'] == AWAKE + LONGEST and 'takes' not in said

  later = tmp_path / 'sleep_first'
  shutil.copytree(first, later)
  for name in ('joint_wake', 'joint_night'):
    shutil.rmtree(later / 'seed_0' / name)
  in_joint = later / 'seed_0/joint_night/checkpoints'
  calls = iter(range(10**6))
  stop = lambda: in_joint.exists() and next(calls) == 3
  with pytest.raises(context.Interrupted):
    _run(later, 'joint', stop=stop)
  begun = checkpoint_reading.latest_progress(str(in_joint))
  assert begun['night_budget'] == USED and 0 < begun['event'] < AWAKE
  # Nor does one that is gone: the run keeps the number that it began with.
  shutil.rmtree(later / 'seed_0/sleep')
  steps, said = _run(later, 'joint')
  assert steps['joint_night'] == AWAKE + USED and 'takes' not in said

"""The share of a day that is over, which a falling learning rate depends on."""

import types

import jax
import pytest

from sleep_jax.model import config as model_config
from sleep_jax.runs import context
from sleep_jax.schedule import events
from sleep_jax.strategies import registry
from tests import testing

STEPS = 4, 2, 2


def _shares(name):
  """Returns the shares at the wake steps of a run of three experiences."""
  levels = [
    model_config.make_level(x) for x in testing.levels((1, 'experience'))
  ]
  strategy, *_ = registry.make(name, num_levels=2)
  plan = tuple(strategy.plan(levels, len(STEPS), STEPS, {1: 2}))
  made = context.RunContext(
    types.SimpleNamespace(
      strategy=strategy,
      model=types.SimpleNamespace(config=types.SimpleNamespace(vocab_size=8)),
    ),
    types.SimpleNamespace(tokenizer=types.SimpleNamespace(decode=None)),
    None, None,
    context.Tools(progress=None, writer=None, checkpoints=None),
    plan=plan, day_steps=STEPS, advice={}, key=jax.random.key(0),
    guard_tolerance=None, save_seconds=0.0, num_samples=0,
  )  # fmt: skip
  return [made.day_share(e) for e in plan if e.kind == events.WAKE]


@pytest.mark.parametrize('name', ('sleep', 'sft'))
def test_each_day_begins_anew(name):
  assert _shares(name) == [0, 1 / 4, 2 / 4, 3 / 4, 0, 1 / 2, 0, 1 / 2]


def test_a_run_that_reads_all_days_at_once_has_one_long_day():
  assert _shares('joint') == [n / 8 for n in range(8)]

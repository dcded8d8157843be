"""Which changes made a night cheap, and what did each cost in accuracy?

Three nights on the dataset `facts`. Each step adds changes to those of all
steps before it; the last step has the settings of configs/facts.py.

    sleep-jax run --config=cost:priority --workdir=runs/cost/priority

Steps: see `STEPS`. Results: docs/results/seeding/cost/.
"""

import itertools

from configs import facts

STEPS = {
  'first': dict(
    num_updates=400, updates_per_round=20, sequences=96, draws=512,
    on_policy=0.5, priority=0.0, learning_rate=8e-3,
  ),
  'half': dict(num_updates=200),
  'rate': dict(learning_rate=1.6e-2),
  'lean': dict(on_policy=0.0, sequences=64),
  'priority': dict(priority=0.5),
  'fresh': dict(updates_per_round=10),
  'longer': dict(num_updates=280, draws=384),
  'today': dict(num_updates=320),
}  # fmt: skip


def get_config(step='today'):
  if step not in STEPS:
    raise ValueError(
      f'configs/cost.py:{step}: expected a step, one of {", ".join(STEPS)}.'
    )
  so_far = list(STEPS)[: list(STEPS).index(step) + 1]
  night = dict(itertools.chain(*(STEPS[name].items() for name in so_far)))
  c = facts.get_config()
  c.name = f'cost_{step}'
  c.seeds = (0,)
  c.strategies = ('sleep',)
  c.data.settings = dict(num_days=3)
  c.expert_optimizer.learning_rate = night.pop('learning_rate')
  old, day = c.consolidate.teachers
  rows = {name: night.pop(name) for name in ('sequences', 'draws')}
  c.consolidate.teachers = (old | rows, day)
  c.consolidate.update(night)
  return c

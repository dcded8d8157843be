"""Does memory survive when a full bank merges its two most similar experts?

Thirty nights share eight expert slots. From the ninth night on, two experts are
merged before each new one is added.

    sleep-jax run --config=banks --workdir=runs/banks

Results: docs/results/banks/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'banks'
  c.strategies = ('sleep',)
  # A small model and dataset, because the run has many nights.
  c.model.update(width=64, num_layers=2, head_size=16, unroll=2)
  c.data.settings = dict(num_pretrain=100, num_days=30, people_per_day=5)
  c.levels = (
    c.levels[0] | dict(hidden=192),
    c.levels[1] | dict(hidden=192, slots=8),
  )
  c.wake.steps = 40
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | dict(draws=256), day | dict(draws=64))
  c.consolidate.num_updates = 120
  c.consolidate.full = 'merge'
  return c

"""Four levels that sleep at 40, 160 and 640 steps; the slowest only grows.

python -m sleep_jax.main --config=configs/levels.py --workdir=runs/levels
"""

from configs import base, facts_literal


def get_config():
  c = base.get_config()
  c.name = 'levels'
  c.strategies = ('sleep',)
  c.data.settings = dict(num_days=8)
  c.levels = facts_literal.levels(
    (1, 4, 16), (40, 160, 640), slots=(0, 4, 4, 2)
  )
  c.wake.optimizers = (
    dict(learning_rate=1e-3),
    dict(learning_rate=1e-3),
    dict(learning_rate=1e-3),
  )
  c.replay.day = 512
  c.consolidate.num_updates = 120
  return c

"""Does memory pass through a chain of several levels?

Four levels; the three fast ones sleep every 40, 160 and 640 wake steps, and the
slowest only gains experts. Eight days of the dataset `facts`.

    sleep-jax run --config=levels --workdir=runs/levels

Results: docs/results/levels/.
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
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=96, draws=256, bos_share=0.3),
    day,
  )
  c.consolidate.num_updates = 120
  c.consolidate.updates_per_round = 20
  c.consolidate.priority = 0.0
  c.consolidate.on_policy = 0.5
  c.expert_optimizer.learning_rate = 8e-3
  return c

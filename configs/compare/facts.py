"""How does `sleep` compare with other strategies on invented facts?

The town of configs/banks.py over ten nights, three seeds and three orders of
the days. `--fast` has one seed, one order, four days and shorter phases: it
shows that everything runs, and no number of it is a result.

    sleep-jax compare --config=compare/facts [--fast]
"""

from configs import banks
from sleep_jax.strategies import registry


def get_config(size: str = 'full'):
  c = banks.get_config()
  c.name = 'compare_facts'
  c.seeds = (0, 1, 2)
  c.strategies = registry.names()
  c.data.settings.num_days = 10
  c.compare = dict(orders=(0, 1, 2), memory_gib=1.5)
  c.checkpoint.keep = 1
  if size == 'fast':
    c.name += '_fast'
    c.seeds = (0,)
    c.compare.orders = (0,)
    c.data.settings.num_days = 4
    c.pretrain.steps = 700
    c.pretrain.optimizer.decay_steps = 700
    c.wake.steps = 30
    c.tune.update(learning_rates=(1e-3, 3e-3), experiences=2)
    c.consolidate.num_updates = 80
  return c

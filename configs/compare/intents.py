"""How does `sleep` compare with other strategies on intents of real text?

The stream of configs/intents.py (CLINC150), three seeds and three orders of the
days. `--fast` has one seed, one order, three days and shorter phases: it shows
that everything runs, and no number of it is a result.

    sleep-jax compare --config=compare/intents --config.data.path=FOLDER
"""

from configs import intents
from sleep_jax.strategies import registry


def get_config(size: str = 'full'):
  c = intents.get_config()
  c.name = 'compare_intents'
  c.seeds = (0, 1, 2)
  c.strategies = registry.names()
  c.compare = dict(orders=(0, 1, 2), memory_gib=2.5)
  c.replay.store = 'rows'  # For `sleep_rows`; `er` stores as many tokens.
  c.checkpoint.keep = 1
  if size == 'fast':
    c.name += '_fast'
    c.seeds = (0,)
    c.compare.orders = (0,)
    c.data.settings.update(num_days=3, texts_per_class=3)
    c.pretrain.steps = 300
    c.pretrain.optimizer.decay_steps = 300
    c.wake.steps = 40
    c.tune.learning_rates = (3e-4,)
    c.consolidate.num_updates = 60
  return c

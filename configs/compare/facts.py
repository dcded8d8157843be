"""How does `sleep` compare with other strategies on invented facts?

The town of configs/lifetime.py over ten nights, with three seeds; each seed has
a town of its own. `sleep` has the settings of that config, but a chain of three
levels, which holds ten days, and shorter days. Every strategy that learns awake
has as many steps a day, and `er` stores as many tokens as `sleep`. With `:rows`
answers are stored beside prompts, for `sleep_rows`, and `er` has as many tokens
again. `--fast` has one seed, four days and shorter phases: it shows that
everything runs, and no number of it is a result.

    sleep-jax compare --config=compare/facts [--fast]
    sleep-jax compare --config=compare/facts:rows
"""

from configs import lifetime
from sleep_jax.schedule import chain
from sleep_jax.strategies import registry


def get_config(size: str = 'full'):
  c = lifetime.get_config()
  c.name = 'compare_facts'
  c.seeds = (0, 1, 2)
  c.strategies = registry.names()
  c.data.settings.num_days = 10
  c.wake.steps = 60
  c.wake.kl_penalty.draws = 1024  # Enough for the facts of ten days.
  c.levels = chain.make(
    hidden=192, ranks=(64, 128), fan_out=5, last_slots=2,
    nights=({}, dict(num_updates=400)),
  )  # fmt: skip
  # Wide enough that the best one of most strategies is not at an end.
  c.tune.learning_rates = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
  c.compare = dict(orders=(0,), memory_gib=1.5)
  c.checkpoint.keep = 1
  if size == 'rows':
    c.name += '_rows'
    c.strategies = ('sleep', 'sleep_rows', 'er', 'joint')
    c.replay.store = 'rows'
  if size == 'fast':
    c.name += '_fast'
    c.seeds = (0,)
    c.data.settings.num_days = 4
    c.pretrain.steps = 700
    c.pretrain.optimizer.decay_steps = 700
    c.wake.steps = 30
    c.tune.update(learning_rates=(1e-3, 3e-3), experiences=2)
    c.consolidate.num_updates = 80
  return c

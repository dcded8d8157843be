"""What do strategies remember after ten days of new facts, and at what cost?

The main comparison: all strategies learn facts about invented people for ten
days, from the same initial model, with three seeds.

    sleep-jax run --config=facts --workdir=runs/facts

Results: docs/results/facts/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'facts'
  c.seeds = (0, 1, 2)
  return c

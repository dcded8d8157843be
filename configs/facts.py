"""Ten nights in an invented town: all strategies from one birth, three seeds.

python -m sleep_jax.main --config=configs/facts.py --workdir=runs/facts
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'facts'
  c.seeds = (0, 1, 2)
  return c

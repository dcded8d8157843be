"""Ten nights in an invented town: all strategies from one birth, three seeds.

python -m sleep_jax.main --config=configs/facts.py --workdir=runs/facts
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'facts'
  c.seeds = (0, 1, 2)
  # The past grows to three times birth: more of it, and of it more than BOS.
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | dict(draws=512, bos_share=0.15), day)
  return c

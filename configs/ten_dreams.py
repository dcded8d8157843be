"""Does dreaming cause forgetting over ten nights?

The rows are those of configs/dream.py, with ten days. The question needs two of
them: `bash launch/rows.sh ten_dreams runs/ten_dreams full none`.

    sleep-jax run --config=ten_dreams:full --workdir=runs/ten_dreams/full

Results: docs/results/dream/ten_nights/.
"""

from configs import dream


def names():
  return dream.names()


def get_config(row='full'):
  c = dream.get_config(row)
  c.name = f'ten_{c.name}'
  c.data.settings.num_days = 10
  reader, own = c.levels
  c.levels = (reader | dict(slots=10), own)
  return c

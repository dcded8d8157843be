"""Ten nights in a row, with dreaming and without: what does it wear away?

    python -m sleep_jax.main --config=configs/ten_dreams.py:full \
      --workdir=runs/ten_dreams/full

Rows as in configs/dream.py; the two that answer it are run by
`bash launch/rows.sh ten_dreams [workdir] full none`.
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

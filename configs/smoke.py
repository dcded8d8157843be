"""A small world in minutes: sleep beside tuned fine-tuning, three nights.

bash launch/smoke.sh
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'smoke'
  c.strategies = ('sleep', 'sft')
  c.data.settings = dict(num_birth=60, num_days=3, people_per_day=12)
  return c

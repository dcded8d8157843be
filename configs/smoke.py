"""Does everything run? Sleep and tuned fine-tuning, three nights, in minutes.

Uses a small `facts` dataset. `bash launch/smoke.sh` also installs the
environment and reports run time and memory.

    sleep-jax run --config=smoke --workdir=runs/smoke

Results: docs/results/smoke/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'smoke'
  c.strategies = ('sleep', 'sft')
  c.data.settings = dict(num_pretrain=60, num_days=3, people_per_day=12)
  c.pretrain.steps = 800
  c.pretrain.optimizer.decay_steps = 800
  c.wake.steps = 60
  c.tune.experiences = 2
  c.consolidate.num_updates = 200
  return c

"""Does everything run? Sleep and tuned fine-tuning, four days, in minutes.

A small `facts` dataset, and a chain of three levels with fan-out 2: after days
2 and 4 a second night consolidates the bank into the slowest level, six nights
in all. `bash launch/smoke.sh` also installs the environment, and reports time
and memory.

    sleep-jax run --config=smoke --workdir=runs/smoke

Results: docs/results/smoke/.
"""

from configs import base
from sleep_jax.schedule import chain


def get_config():
  c = base.get_config()
  c.name = 'smoke'
  c.strategies = ('sleep', 'sft')
  c.data.settings = dict(num_pretrain=60, num_days=4, people_per_day=6)
  c.model.update(width=64, num_layers=2, head_size=16, unroll=2)
  c.pretrain.steps = 700
  c.pretrain.optimizer.decay_steps = 700
  c.levels = chain.make(
    hidden=192,
    ranks=(128, 192),
    fan_out=2,
    last_slots=2,
    nights=({}, dict(num_updates=240)),
  )
  c.wake.steps = 80
  # Keeps what was known, also in the evening, before the night.
  c.wake.kl_penalty.weight = 0.2
  c.tune.experiences = 1
  c.consolidate.num_updates = 180
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | dict(draws=256), day | dict(draws=64))
  return c

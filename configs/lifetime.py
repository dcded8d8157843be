"""Do a hundred days fit into a number of experts that does not grow?

Four levels: the first learns awake and sleeps every day into a bank of five
experts, which is consolidated into one expert of the next bank every five days,
and that bank into the last one every 25 days. 14 slots hold 100 days.

    sleep-jax run --config=lifetime --workdir=runs/lifetime

Results: docs/results/lifetime/.
"""

from configs import banks
from sleep_jax.schedule import chain


def get_config():
  c = banks.get_config()
  c.name = 'lifetime'
  c.data.settings.num_days = 100
  # The penalty keeps what was known, also in the evening, before the night. It
  # has to meet every old fact often enough, and with it a day takes more steps.
  c.wake.steps = 90
  c.wake.kl_penalty.update(weight=0.5, draws=2048)
  c.consolidate.full = 'error'
  c.consolidate.num_updates = 240
  # A slow level carries the days of a whole bank, and needs a longer night.
  old, day = c.consolidate.teachers
  slow = (old | dict(draws=384), day | dict(draws=256))
  awake, *slower = chain.make(
    hidden=192,
    ranks=(128, 192, 256),
    fan_out=5,
    last_slots=4,
    nights=({}, dict(num_updates=400), dict(num_updates=1200, teachers=slow)),
  )
  # Wider than the base: on seed 8 a day is then learned, and kept overnight,
  # better (docs/results/lifetime).
  c.levels = (awake | dict(hidden=384), *slower)
  return c

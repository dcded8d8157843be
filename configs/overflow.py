"""What happens when the slowest bank of a chain is full?

Thirty days in a chain that holds fifteen. On day 20 a handover finds the last
bank full: the slowest level absorbs the whole bank into its own MLP, or merges
two of its three experts.

    sleep-jax run --config=overflow:absorb --workdir=runs/overflow_absorb
    sleep-jax run --config=overflow:merge --workdir=runs/overflow_merge

Results: docs/results/lifetime/.
"""

from configs import lifetime
from sleep_jax.schedule import chain


def get_config(full: str = 'absorb'):
  c = lifetime.get_config()
  c.name = f'overflow_{full}'
  c.data.settings.num_days = 30
  old, day = c.consolidate.teachers
  slow = (old | dict(draws=384), day | dict(draws=256))
  last = dict(num_updates=800, teachers=slow, full=full)
  c.levels = chain.make(
    hidden=192, ranks=(64, 192), fan_out=5, last_slots=3, nights=({}, last)
  )
  # The absorption is a night of the slowest level itself.
  slowest = c.levels[-1] | dict(night=dict(last, num_updates=1200))
  c.levels = (*c.levels[:-1], slowest)
  return c

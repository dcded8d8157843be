"""What made a night cheap: three nights in the invented town, step by step.

    python -m sleep_jax.main --config=configs/cost.py:priority \
      --workdir=runs/cost/priority

Each step keeps what the ones before it changed; the last is configs/facts.py.
"""

from configs import facts

STEPS = ('first', 'half', 'rate', 'lean', 'priority', 'fresh')


def get_config(step='fresh'):
  if step not in STEPS:
    raise ValueError(
      f'configs/cost.py:{step}: expected one of {", ".join(STEPS)}.'
    )
  done = STEPS[: STEPS.index(step) + 1]
  c = facts.get_config()
  c.name = f'cost_{step}'
  c.seeds = (0,)
  c.strategies = ('sleep',)
  c.data.settings = dict(num_days=3)
  old, day = c.consolidate.teachers
  if 'half' not in done:
    c.consolidate.num_updates *= 2
  if 'rate' not in done:
    c.expert_optimizer.learning_rate /= 2
  if 'lean' not in done:
    c.consolidate.on_policy = 0.5
    c.consolidate.teachers = (old | dict(sequences=96), day)
  if 'priority' not in done:
    c.consolidate.priority = 0.0
  if 'fresh' not in done:
    c.consolidate.updates_per_round *= 2
  return c

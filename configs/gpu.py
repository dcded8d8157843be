"""Which GPU fits a night of Llama 1B, 3B and 8B, and how long does it take?

Planning uses the shapes of the base model only, not its weights:

    sleep-jax plan --config=gpu:llama3-1b --topology=gpu:8GB
    sleep-jax plan --config=gpu:llama3-8b:pages --topology=gpu:80GB

The argument is a size of configs/scale.py and a kind of day: 'facts' (twelve
facts in four wordings, rows of 48 tokens) or 'pages' (rows of 512 tokens, as in
configs/scale.py). Levels and gates are those that `convert out` exports
exactly. Results: docs/results/real/plan.md.
"""

from configs import scale

DAYS = ('facts', 'pages')


def get_config(argument: str = 'llama3-1b'):
  size, _, day = argument.partition(':')
  day = day or DAYS[0]
  if day not in DAYS:
    raise ValueError(
      f'configs/gpu.py:{argument}: the day is {day!r}: expected one of '
      f'{", ".join(DAYS)}.'
    )
  c = scale.get_config(size)
  c.name = f'{size}, a day of {day}'
  c.model.update(arrangement='independent', router='always', attention='auto')
  fast, own = c.levels
  c.levels = (fast | dict(hidden=256), own | dict(rank=32))
  c.mesh.fsdp = 1
  # Logits of a vocabulary of 128,256 for 512 tokens at a time: 0.8 GB.
  c.wake.block_tokens = c.consolidate.block_tokens = 512
  c.wake.steps = 60
  old, new = c.consolidate.teachers
  if day == 'facts':
    c.data.update(context=48, max_prompt=32, batch_size=16)
    c.wake.micro_batches = 1
    c.consolidate.teachers = (
      old | dict(sequences=12, draws=96), new | dict(sequences=12, draws=96)
    )  # fmt: skip
    c.consolidate.update(
      num_updates=80, updates_per_round=10, max_length=48, prompt_width=32,
      max_new=32,
    )  # fmt: skip
    return c
  c.data.update(context=512, batch_size=16)
  c.wake.micro_batches = c.consolidate.micro_batches = 4
  c.consolidate.teachers = (
    old | dict(sequences=16, draws=64), new | dict(sequences=16, draws=64)
  )  # fmt: skip
  c.consolidate.updates_per_round = 16
  return c

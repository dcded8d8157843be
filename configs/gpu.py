"""Which GPU fits a night of Llama 1B, 3B and 8B, and how long does it take?

Planning uses the shapes of the base model only, not its weights:

    sleep-jax plan --config=gpu:llama3-1b --topology=gpu:8GB
    sleep-jax plan --config=gpu:llama3-8b:pages --topology=gpu:80GB

The argument is a size of configs/scale.py and a kind of day: 'facts' (48 short
rows, learned as in configs/pretrained.py) or 'pages' (rows of 512 tokens and
the nights of configs/scale.py). Levels and gates are those that `convert out`
exports exactly. Results: docs/results/real/plan.md.
"""

from configs import pretrained, scale

DAYS = ('facts', 'pages')
_ROWS = 8  # Packed rows of 48 short ones: twelve facts in four wordings.


def get_config(argument: str = 'llama3-1b'):
  size, _, day = argument.partition(':')
  day = day or DAYS[0]
  if day not in DAYS:
    raise ValueError(
      f'configs/gpu.py:{argument}: the day is {day!r}: expected one of '
      f'{", ".join(DAYS)}.'
    )
  c = scale.get_config(size)
  c = _facts(c) if day == 'facts' else _pages(c)
  c.name = f'{size}, a day of {day}'
  c.model.update(arrangement='independent', router='always', attention='auto')
  c.mesh.fsdp = 1
  return c


def _facts(shape):
  """Returns configs/pretrained.py for a model of another shape."""
  c = pretrained.get_config()
  for name in ('tokenizer', 'pretrain', 'mesh'):
    c[name] = shape[name]
  gated = c.model.gated_experts
  c.model = shape.model
  c.model.gated_experts = gated
  fast, own = c.levels
  c.levels = (fast, own | dict(hidden=shape.levels[1]['hidden']))
  # In steps, because the rows are not read here.
  c.wake.update(
    steps=round(_ROWS * c.wake.epochs / c.data.batch_size), epochs=0.0
  )
  return c


def _pages(c):
  fast, own = c.levels
  c.levels = (fast | dict(hidden=256), own | dict(rank=32))
  # Logits of a vocabulary of 128,256 for 512 tokens at a time: 0.8 GB.
  c.wake.update(steps=60, micro_batches=4, block_tokens=512)
  c.data.update(context=512, batch_size=16)
  old, new = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=16, draws=64), new | dict(sequences=16, draws=64)
  )  # fmt: skip
  c.consolidate.update(micro_batches=4, block_tokens=512, updates_per_round=16)
  return c

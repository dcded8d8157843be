"""Does a change of answer format make a model forget more than one of domain?

As configs/small/formats.py, with a model of the paper's size. The things and
their facts are the same, and no file is needed:

    sleep-jax plan --config=paper/formats:qwen3-8b:domain --topology=v5e:8x8
    sleep-jax run --config=paper/formats:qwen3-8b:domain \
      --config.pretrain.base_model=DIR --workdir=WORKDIR

The argument is a shape of configs/paper/base.py and what changes from day to
day, `format`, `domain` or `none`. All values are ours. A base model has not
read the facts of pretraining, so `prior` means nothing.
"""

from configs.paper import base

CHANGES = ('format', 'domain', 'none')


def get_config(argument: str = base.SHAPES[0]):
  shape, _, change = argument.partition(':')
  change = change or CHANGES[0]
  if change not in CHANGES:
    raise ValueError(
      f'configs/paper/formats.py: the change is {change!r}: expected one of '
      f'{", ".join(CHANGES)}.'
    )
  c = base.get_config(shape)
  c.name = f'formats, {shape}, {change}'
  c.data.dataset = 'formats'
  c.data.settings = dict(change=change, num_days=4, subjects_per_day=20)
  c.data.update(context=128, max_prompt=96, batch_size=64, loss_on='response')
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(template_share=0.0), day | dict(template_share=0.0)
  )  # fmt: skip
  c.consolidate.update(max_length=128, prompt_width=96, max_new=64)
  return c

"""Dreams that choose how to learn from tasks of ARC, at the paper's size.

As configs/arc.py: 60 dreams of a task are written and 15 of them tried, as in
the paper, which has 11 tasks for training and 8 for the test:

    sleep-jax plan --config=paper/arc:qwen3-8b --topology=v5p:2x2x2
    sleep-jax run --config=paper/arc:qwen3-8b \
      --config.pretrain.base_model=DIR --config.data.path=FILE \
      --workdir=WORKDIR

FILE holds JSON lines {"id", "train", "test"}. The argument is a shape of
configs/paper/base.py. Our reading: the 8 tasks come one after the other, and
two of the 5 experts are merged when the bank is full.
"""

from configs.paper import base

_TOKENS = 1024  # Of the longest text; a character is a token or less.


def get_config(shape: str = base.SHAPES[0]):
  c = base.get_config(shape)
  c.name = f'arc, {shape}'
  # The rows of a trial are not divided over devices, so its matrices are.
  c.mesh.update(data=1, fsdp=1, tensor=8)
  c.data.dataset = 'arc'
  c.data.settings = dict(num_days=8, longest=_TOKENS - 4)
  c.data.update(
    context=_TOKENS, max_prompt=_TOKENS, prefix=16, batch_size=64,
    day_batch_size=1,
  )  # fmt: skip
  c.wake.steps = 8
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=8, draws=16, template_share=0.0),
    day | dict(sequences=4, draws=8, template_share=0.0),
  )  # fmt: skip
  c.consolidate.update(
    max_length=_TOKENS, prompt_width=_TOKENS, max_new=_TOKENS - 1
  )
  c.dream.update(
    on=True, rounds=1, candidates=60, texts=1, top=12, random=3, old=8,
    sequences=8,
  )  # fmt: skip
  c.dream.trial.update(steps=16, batch=4)
  return c

"""Passages of SQuAD that are incorporated, at the paper's size.

As configs/passages.py, with five dreams per passage:

    sleep-jax plan --config=paper/passages:qwen3-8b:200 --topology=v5p:2x2x2
    sleep-jax run --config=paper/passages:qwen3-8b:1 \
      --config.pretrain.base_model=DIR --config.data.path=FILE \
      --workdir=WORKDIR

FILE holds rows {"title", "context", "question", "answers"}. The argument is a
shape of configs/paper/base.py and the number of passages, all of one day: 1 or
200, as in the paper.
"""

from configs.paper import base

NUMBERS = ('1', '200')


def get_config(argument: str = base.SHAPES[0]):
  shape, _, number = argument.partition(':')
  number = number or NUMBERS[0]
  if number not in NUMBERS:
    raise ValueError(
      f'configs/paper/passages.py: {number!r} passages: expected one of '
      f'{", ".join(NUMBERS)}.'
    )
  c = base.get_config(shape)
  c.name = f'passages, {shape}, n={number}'
  # The rows of a trial are not divided over devices, so its matrices are.
  c.mesh.update(data=1, fsdp=1, tensor=8)
  c.data.dataset = 'passages'
  c.data.settings = dict(
    num_days=1, passages_per_day=int(number), practice=1
  )  # fmt: skip
  c.data.update(context=512, overlap=64, prefix=64, batch_size=16)
  c.consolidate.update(max_length=512, prompt_width=128, max_new=384)
  # Of one passage, five dreams are tried in each of two rounds. Of many, five
  # of each in all, in ten rounds, because those of a round are in memory.
  one = number == NUMBERS[0]
  c.dream.update(
    on=True, rounds=2 if one else 10, candidates=10 if one else 200, texts=1,
    whole=False, top=4 if one else 80, random=1 if one else 20, old=32,
    sequences=32,
  )  # fmt: skip
  return c

"""Recall of numbers in long texts after sleep, at the paper's size.

As configs/small/niah.py, with numbers of 7 digits, as in RULER, and sentences
of books as filler:

    sleep-jax plan --config=paper/niah:qwen3-8b:4096:4 --topology=v5e:8x8
    sleep-jax run --config=paper/niah:qwen3-8b:4096:4 \
      --config.pretrain.base_model=DIR --config.data.path=WORDS \
      --config.data.settings.haystack=BOOKS --workdir=WORKDIR

WORDS is a file with one word per line, BOOKS holds rows {"text"}. The argument
is a shape of configs/paper/base.py, the tokens of a text, 4096, 8192 or 16384,
and the number of levels, 1 to 4. Lengths are our choice.
"""

from configs.paper import base
from configs.small import niah as small
from sleep_jax.schedule import chain

LENGTHS = (4096, 8192, 16_384)
_AROUND = 400  # Tokens of the title, the needles and the question, or fewer.
_TOKENS_PER_WORD = 1.5  # Of books, or fewer.


def get_config(argument: str = base.SHAPES[0]):
  shape, _, rest = argument.partition(':')
  length, num_levels = small.parse(rest or f'{LENGTHS[0]}', LENGTHS)
  c = base.get_config(shape)
  c.name = f'niah, {shape}, {length} tokens, {num_levels} levels'
  c.data.dataset = 'niah'
  # 8 days, because four levels need as many.
  c.data.settings = dict(
    haystack='', words=int((length - _AROUND) / _TOKENS_PER_WORD), digits=7,
    num_pretrain=0, readings=0, num_days=8, documents_per_day=16,
  )  # fmt: skip
  c.data.update(context=length, max_prompt=96, prefix=64, batch_size=64)
  old, day = c.consolidate.teachers
  c.levels = chain.make_reader(
    num_levels=num_levels, num_days=8, hidden=c.levels[-1]['hidden'],
    rank=base.RANK, night=dict(teachers=(old, day)),
  )  # fmt: skip
  # A bank that is the only level gets an expert each day.
  c.levels = (
    *c.levels[:-1],
    c.levels[-1] | dict(slots=min(base.SLOTS, c.levels[-1]['slots'])),
  )
  c.wake.update(steps=1, optimizers=())
  c.consolidate.teachers = (
    old, day | dict(teacher='context', template_share=0.9)
  )  # fmt: skip
  c.replay.update(pretrain=0, past=512, day=64)
  c.consolidate.update(max_length=128, prompt_width=96, max_new=32)
  c.evaluate.chunk = 64
  return c

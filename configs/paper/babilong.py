"""Facts that sleep kept, against a window that has lost them.

As configs/small/babilong.py, at the paper's size and with the stories of bAbI
in sentences of books:

    sleep-jax plan --config=paper/babilong:qwen3-8b:8192:4 --topology=v5e:8x8
    sleep-jax run --config=paper/babilong:qwen3-8b:8192:4 \
      --config.pretrain.base_model=DIR --config.data.path=STORIES \
      --config.data.settings.haystack=BOOKS --workdir=WORKDIR

STORIES holds rows of bAbI, BOOKS rows {"text"}. The argument is a shape of
configs/paper/base.py, the tokens of a text, 4096, 8192 or 16384, and the number
of levels, 1 to 4. The context window has 4096 tokens. Lengths are our choice.
"""

from configs.paper import base, niah
from configs.small import niah as small


def get_config(argument: str = f'{base.SHAPES[0]}:8192'):
  shape, _, rest = argument.partition(':')
  window = niah.LENGTHS[0]
  length, num_levels = small.parse(rest or f'{2 * window}', niah.LENGTHS)
  c = niah.get_config(f'{shape}:{window}:{num_levels}')
  c.name = f'babilong, {shape}, {length} tokens, {num_levels} levels'
  c.data.dataset = 'babilong'
  page = c.data.settings.words
  del c.data.settings['digits']
  c.data.settings.update(words=page * length // window, page=page)
  # A day has at most 128 rows: of four people and five pages in each text.
  c.wake.steps, c.replay.day = 2, 128
  return c

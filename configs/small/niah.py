"""Is a number in a long text recalled after sleep, without the text?

Multi-key needles of RULER: four keys with numbers in filler text, one of which
is asked for, with the text in front of the question and on the next morning
without it. Nothing is trained awake: each night consolidates the context
window. A small model that is pretrained here.

    sleep-jax run --config=small/niah --workdir=runs/niah
    sleep-jax run --config=small/niah:320:3 --workdir=runs/niah_320_3

The argument is the tokens of a text, 160, 320 or 640, and the number of levels,
1 to 4. Results: docs/results/niah/.
"""

from configs import base
from sleep_jax import errors
from sleep_jax.schedule import chain

LENGTHS = (160, 320, 640)
_AROUND = 115  # Tokens of the title, the needles and the question.
_TOKENS_PER_WORD = 1.15  # Of the filler, with its full stops.


def parse(argument: str, lengths: tuple[int, ...]) -> tuple[int, int]:
  """Returns the tokens of a text and the number of levels."""
  length, _, levels = argument.partition(':')
  if length not in map(str, lengths) or levels not in ('', *'1234'):
    raise errors.ConfigError(
      f'The argument of this config is {argument!r}: expected LENGTH or '
      f'LENGTH:LEVELS, with a length of {", ".join(map(str, lengths))} tokens '
      'and 1 to 4 levels.'
    )
  return int(length), int(levels or 2)


def get_config(argument: str = '160:2'):
  length, num_levels = parse(argument, LENGTHS)
  c = base.get_config()
  c.name = f'niah_{length}_{num_levels}'
  c.strategies = ('sleep',)
  num_days = 8  # Four levels need as many, and fewer levels get the same days.
  c.model.update(width=64, head_size=16)
  c.data.dataset = 'niah'
  c.data.settings = dict(
    haystack='', words=int((length - _AROUND) / _TOKENS_PER_WORD),
    num_pretrain=100, readings=4000, num_days=num_days, documents_per_day=16,
  )  # fmt: skip
  c.data.update(context=length, max_prompt=40, prefix=24, batch_size=16)
  old, day = c.consolidate.teachers
  old |= dict(sequences=72)
  short = dict(sequences=48, draws=144)
  c.levels = chain.make_reader(
    num_levels=num_levels, num_days=num_days, hidden=192, rank=64,
    night=dict(teachers=(old, day | short)),
  )  # fmt: skip
  c.pretrain.steps = 3000
  c.pretrain.optimizer.decay_steps = 3000
  c.wake.epochs = 1  # Each row of a day is stored once.
  c.wake.optimizers = ()  # No level is trained awake.
  c.consolidate.teachers = (
    old, day | short | dict(teacher='context', template_share=0.9)
  )  # fmt: skip
  c.consolidate.update(num_updates=300, updates_per_round=20, on_policy=0.5)
  c.consolidate.update(max_length=44, prompt_width=40, max_new=6)
  c.expert_optimizer.learning_rate = 8e-3
  c.evaluate.chunk = 32
  return c

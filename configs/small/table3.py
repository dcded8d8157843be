"""What do dreams add to documents that were read? Table 3 in small.

One row per row of Table 3 of 2606.03979, on the documents of configs/dream.py:
eight days of twenty invented people, with three seeds. The paper has passages
of SQuAD, which a model of this size cannot write about.

    sleep-jax run --config=small/table3:no_dreaming \
      --workdir=runs/small/table3/no_dreaming

`bash launch/rows.sh small/table3` runs every row and writes their table.

    base                   the initial model, which learns nothing
    fine_tuned             all weights, on the documents, without dreaming
    seal                   self-edits; which are tried is random
    sleep                  two levels; dreams as in the paper
    four_levels            the same with four levels
    no_gradient_selection  which dreams are tried is random
    no_random_expert       no expert is opened while a dream is written
    no_dreaming            nights without dreams

The last three leave a part of `sleep` out. Ours: `fine_tuned` and `seal` have
one rate, which is not tuned; each level of `four_levels` but the slowest holds
two experts. `sleep` opens a random expert, as in the paper, although our dreams
are better without. The columns of the paper, one passage and 200 passages, are
configs/paper/passages.py. Results: docs/paper.md.
"""

from configs import dream
from sleep_jax.schedule import chain

_DAYS = 8  # Four levels need as many.


def rows(old, day):
  """Returns row -> changed fields; `old` and `day` are the two teachers."""
  at_random = {
    'dream.importance': 'random', 'dream.top': 0, 'dream.random': 40
  }  # fmt: skip
  # A bank has no document left to read; templates ask it what dreams taught.
  of_banks = (old, day | dict(teacher='next', template_share=0.5))
  four = chain.make_reader(
    num_levels=4, num_days=_DAYS, hidden=256, rank=64,
    night=dict(teachers=of_banks),
  )  # fmt: skip
  return {
    'base': {'strategies': ('hope',)},  # Never sleeps; its rate is 0.
    'fine_tuned': {'strategies': ('sft',), 'wake.steps': 60},
    'seal': {'strategies': ('seal',), 'dream.novelty': False, **at_random},
    'sleep': {},
    'four_levels': {'levels': four, 'wake.optimizers': ()},
    'no_gradient_selection': at_random,
    'no_random_expert': {'dream.novelty': False},
    'no_dreaming': {'dream.on': False},
  }


def names():
  return list(rows({}, {}))


def get_config(row='sleep'):
  c = dream.get_config('random_expert')
  c.name = f'table3_{row}'
  c.data.settings.num_days = _DAYS
  reader, own = c.levels
  c.levels = (reader | dict(slots=_DAYS), own)
  c.tune.learning_rates = (1e-3,)
  changes = rows(*c.consolidate.teachers)
  if row not in changes:
    raise ValueError(
      f'configs/small/table3.py:{row}: expected a row, one of '
      f'{", ".join(changes)}.'
    )
  c.update_from_flattened_dict(changes[row])
  return c

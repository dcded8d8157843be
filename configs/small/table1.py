"""Which parts of a night make a model better at problems? Table 1 in small.

One row per row of Table 1 of 2606.03979, on the problems of
configs/small/math.py, with three seeds:

    sleep-jax run --config=small/table1:no_imitation \
      --workdir=runs/small/table1/no_imitation

`bash launch/rows.sh small/table1` runs every row and writes their table.
Compare `acc_text`, avg@4 of the boxed answers.

    sleep               imitation with a judge, half of the rows by the student
    no_imitation        distillation only
    no_semantic_reward  imitation without the judge: closeness in tokens only
    no_expansion        the night trains the MLP of the blocks, no expert
    opsd                on-policy self-distillation of all weights, awake
    opsd_expansion      its loss at night, into an expert; no rehearsal either

Ours: the weights of imitation and of the student's rows, which are those of
configs/seeding.py; the judge, which asks for equal letters and digits; the rate
without an expert; and that `opsd_expansion` samples once in 20 updates, where
`opsd` samples in every step. No row dreams; whether the paper's rows do we do
not know. Results: docs/paper.md.
"""

from configs.small import math
from sleep_jax.schedule import chain


def rows(context):
  """Returns row -> changed fields; `context` is the teacher that reads."""
  return {
    'sleep': {},
    'no_imitation': {'consolidate.imitation.alpha': 1.0},
    'no_semantic_reward': {'consolidate.imitation.gamma': 0.0},
    'no_expansion': {
      'consolidate.into': 'base',
      'expert_optimizer.learning_rate': 1e-3,
    },
    'opsd': {'strategies': ('opsd',)},
    'opsd_expansion': {
      'consolidate.teachers': (context,),
      'consolidate.imitation.alpha': 1.0,
      # The share rounds to all 32 rows of an update, from the first one on.
      'consolidate.on_policy': 0.99,
      'consolidate.on_policy_after': 0.0,
      'consolidate.priority': 0.0,
      'consolidate.beta': 0.5,
    },
  }


def names():
  return list(rows({}))


def get_config(row='sleep'):
  c = math.get_config()
  c.name = f'table1_{row}'
  c.strategies = ('sleep',)
  c.seeds = (0, 1, 2)
  # A single level, because only the slowest one can be trained by a night.
  days, own = c.data.settings.num_days, c.levels[-1]
  c.levels = chain.make_reader(
    num_levels=1, num_days=days, hidden=own['hidden'], rank=128
  )
  c.wake.optimizers = ()
  c.consolidate.on_policy = 0.5
  c.consolidate.imitation.alpha = 0.9
  _, context = c.consolidate.teachers
  changes = rows(context)
  if row not in changes:
    raise ValueError(
      f'configs/small/table1.py:{row}: expected a row, one of '
      f'{", ".join(changes)}.'
    )
  c.update_from_flattened_dict(changes[row])
  return c

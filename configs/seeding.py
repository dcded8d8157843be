"""Which parts of a night matter? One row per part that is left out or changed.

Five short nights on a small `facts` dataset.

    sleep-jax run --config=seeding:no_templates \
      --workdir=runs/seeding/no_templates

`bash launch/rows.sh seeding` runs every row of `rows` and writes their table.
Results: docs/results/seeding/.
"""

from configs import base, facts_literal


def rows(old, day):
  """Returns row -> changed fields; `old` and `day` are the two teachers."""
  no_templates = dict(template_share=0.0)
  now = dict(teacher='now')
  return {
    'full': {},
    'no_imitation': {'consolidate.imitation.alpha': 1.0},
    'no_meaning': {'consolidate.imitation.gamma': 0.0},
    'no_templates': {
      'consolidate.teachers': (old | no_templates, day | no_templates)
    },
    'anchor_alone': {'consolidate.teachers': (old,)},
    'next_alone': {'consolidate.teachers': (day,)},
    'now_for_next': {'consolidate.teachers': (old, day | now)},
    'no_on_policy': {'consolidate.on_policy': 0.0},
    'no_priority': {'consolidate.priority': 0.0},
    'lean': {'consolidate.imitation.alpha': 1.0, 'consolidate.on_policy': 0.0},
    'no_router': {'model.router': 'always'},
    'no_expansion': {
      'consolidate.into': 'base',
      'expert_optimizer.learning_rate': 2e-3,
    },
    'kl_penalty': {'wake.kl_penalty.weight': 0.1},
    'kl_penalty_long': {'wake.kl_penalty.weight': 0.3, 'wake.steps': 160},
    'small_steps': {
      'wake.optimizers': (dict(learning_rate=3e-4),),
      'wake.steps': 160,
    },
    'literal': {
      'consolidate.teachers': (old | now, day | now),
      'consolidate.sender_after_sleep': 'updated',
      'consolidate.num_updates': 20,
      'consolidate.priority': 0.0,
      'expert_optimizer.warmup': 5,
      'levels': facts_literal.levels((20,), (20,), slots=(0, 20), hidden=256),
      'wake.optimizers': (dict(learning_rate=1e-2),),
    },
  }


def names():
  return list(rows(*base.get_config().consolidate.teachers))


def get_config(row='full'):
  c = base.get_config()
  c.name = f'seeding_{row}'
  c.strategies = ('sleep',)
  c.seeds = (0, 1, 2)
  c.data.settings = dict(num_days=5, people_per_day=20)
  c.levels = (c.levels[0], c.levels[1] | dict(slots=5))
  c.wake.steps = 80
  c.consolidate.num_updates = 100
  # Parts that are off in the other studies are on here.
  c.consolidate.on_policy = 0.5
  c.consolidate.imitation.alpha = 0.9
  changes = rows(*c.consolidate.teachers)
  if row not in changes:
    raise ValueError(
      f'configs/seeding.py:{row}: expected a row, one of {", ".join(changes)}.'
    )
  for name, value in changes[row].items():
    *parents, field = name.split('.')
    part = c
    for key in parents:
      part = part[key]
    part[field] = value
  return c

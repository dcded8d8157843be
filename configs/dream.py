"""Which parts of dreaming matter? One row per part that is left out or changed.

Days bring documents that are read and not trained on, as in configs/context.py.
The night rehearses statements without templates, so the model answers questions
only if it dreams about them. Dreams are tried on one fact of each person that
no probe asks about.

    sleep-jax run --config=dream:none --workdir=runs/dream/none

`bash launch/rows.sh dream` runs every row of `ROWS` and writes their table.
Results: docs/results/dream/.
"""

from configs import context

LONGER = 'none_longer'
ROWS = {
  'full': {},
  'none': {'on': False},
  LONGER: {'on': False},  # As many updates as with dreams.
  'chosen_at_random': {'importance': 'random', 'top': 0, 'random': 40},
  'by_norm': {'importance': 'norm'},
  'random_expert': {'novelty': True},  # As in the paper.
  'one_round': {'rounds': 1},
  'before': {'order': 'before'},
}


def names():
  return list(ROWS)


def get_config(row='full'):
  if row not in ROWS:
    raise ValueError(
      f'configs/dream.py:{row}: expected a row, one of {", ".join(ROWS)}.'
    )
  c = context.get_config()
  c.name = f'dream_{row}'
  c.seeds = (0, 1, 2)
  c.data.settings.practice = 1
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(template_share=0.0, pretrain_share=0.6),
    day | dict(template_share=0.0),
  )
  # Large enough to hold all pretraining facts: most stored prompts are of
  # documents about people that no probe asks about.
  c.replay.pretrain = 8192
  c.consolidate.num_updates = 200
  c.consolidate.on_policy = 0.0
  c.dream.update(
    on=True, candidates=80, texts=6, temperature=0.6, top=30, random=10,
    reading=16, old=72, num_updates=120,
  )  # fmt: skip
  c.dream.update(ROWS[row])
  if row == LONGER:
    c.consolidate.num_updates += c.dream.num_updates
  return c

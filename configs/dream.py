"""Dreaming, with everything else the same: which part does what.

Days bring documents that are read and never trained on, as in
configs/context.py, but the night rehearses statements alone: no stems. What is
asked in questions has to be dreamt. One fact of each person is asked in no
probe: dreams are tried on those.

    python -m sleep_jax.main --config=configs/dream.py:none \
      --workdir=runs/dream/none

`bash launch/rows.sh dream` runs every row and draws the table.
"""

from configs import context

LONGER = 'none_longer'
ROWS = {
  'full': {},
  'none': {'on': False},
  LONGER: {'on': False},  # As many updates as with the dreams'.
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
      f'configs/dream.py:{row}: expected one of {", ".join(ROWS)}.'
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
  # So wide that all facts of birth are asked again now and then: what is stored
  # of it are documents, for the most part, about people nobody asks about.
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

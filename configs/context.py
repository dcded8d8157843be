"""Can a night move knowledge from the context window into weights?

Pretraining teaches the model to answer from a document in its prompt. A day
brings one document per person, and no weight is updated awake. The night of the
context window (level 0) distills what the model can say with the document in
its prompt into an expert of level 1.

    sleep-jax run --config=context --workdir=runs/context

Results: docs/results/context/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'context'
  c.strategies = ('sleep',)
  c.data.settings = dict(
    num_days=3, people_per_day=20, attributes=3, readings=4000
  )
  c.data.context = 40
  reader, own = c.levels
  c.levels = (
    reader
    | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=3,
      rank=64,
    ),
    own | dict(slots=0, rank=0),
  )  # fmt: skip
  c.pretrain.steps = 2500
  c.pretrain.optimizer.decay_steps = 2500
  c.wake.steps = 1  # One batch holds all documents of a day.
  c.wake.optimizers = (dict(learning_rate=0.0),)  # No update.
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=72),
    day | dict(teacher='context', sequences=48, draws=144, template_share=0.7),
  )
  c.consolidate.num_updates = 300
  c.consolidate.updates_per_round = 20
  c.consolidate.on_policy = 0.5
  c.expert_optimizer.learning_rate = 8e-3
  return c

"""What does the literal protocol of the paper (v2) transfer?

On the dataset `facts`. Every level sleeps whenever it is updated (sleep_period
= update_period), the only teacher is the model at `now`, and the sender wakes
with its due update applied. The divergence before the first update of each
night shows whether there was anything to transfer.

    sleep-jax run --config=facts_literal --workdir=runs/facts_literal

Results: docs/results/facts_literal/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'facts_literal'
  c.strategies = ('sleep',)
  c.data.settings = dict(num_days=6)
  c.levels = levels((40, 120, 480), (40, 120, 480), slots=(0, 3, 4, 3))
  # Levels are updated only once in 40 steps or more, so the rates are high.
  c.wake.optimizers = tuple(dict(learning_rate=1e-2) for _ in range(3))
  c.replay.day = 512
  c.consolidate.teachers = (
    dict(
      teacher='now',
      prompts='old',
      sequences=32,
      draws=96,
      bos_share=0.3,
      cut_share=0.5,
      template_share=0.5,
    ),
    dict(
      teacher='now',
      prompts='day',
      sequences=32,
      draws=96,
      cut_share=0.5,
      template_share=0.5,
    ),
  )
  c.consolidate.sender_after_sleep = 'updated'
  c.consolidate.num_updates = 60
  c.consolidate.updates_per_round = 20
  c.consolidate.priority = 0.0
  c.consolidate.on_policy = 0.5
  c.expert_optimizer.update(learning_rate=8e-3, warmup=10)
  return c


def levels(update_periods, sleep_periods, *, slots, hidden=128, rank=32):
  """Returns small fast levels followed by the MLP of the block.

  Args:
    update_periods: wake steps between updates of each fast level.
    sleep_periods: wake steps between nights of each fast level.
    slots: expert slots of every level, the MLP of the block included.
    hidden: hidden units of a fast level.
    rank: hidden units of an expert of a fast level.
  """
  fast = [
    dict(
      hidden=hidden,
      update_period=update,
      sleep_period=sleep,
      slots=number,
      rank=rank if number else 0,
    )
    for update, sleep, number in zip(
      update_periods, sleep_periods, slots[:-1], strict=True
    )
  ]
  own = dict(
    hidden=256, update_period='infinite', sleep_period='infinite',
    slots=slots[-1], rank=64,
  )  # fmt: skip
  return (*fast, own)

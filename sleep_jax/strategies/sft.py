"""Sequential fine-tuning of all weights: the same steps, the same batches."""

from sleep_jax.strategies import strategy


def make(num_levels: int) -> strategy.Strategy:
  return strategy.Strategy(
    name='sft',
    owners=strategy.all_weights(num_levels),
    sleeps=False,
    plan=strategy.live_through,
    reading=strategy.one_by_one,
    tuned=True,
  )

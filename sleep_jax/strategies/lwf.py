"""Learning without forgetting (LwF), a baseline.

The loss of the new rows is joined by the divergence from the model as it was at
the start of the experience, on the same rows.

References: 1606.09282 (temperature 2, weight 1). There each task has outputs of
its own, and the loss is the cross-entropy, which has the same gradient. The
factor temperature^2 is that of 1503.02531, and keeps the size of the gradient.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sleep_jax.schedule import events
from sleep_jax.strategies import distillation, method, strategy
from sleep_jax.wake import terms

NAME = 'lwf'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the divergence.

  Attributes:
    weight: of `temperature^2 KL(old || new)` in the loss.
    temperature: divides the logits of both models.
  """

  weight: float
  temperature: float


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.END,), build=_build
  )


def _build(parts: method.Parts) -> method.Method:
  """Returns the divergence, and reviews that make the model the old one."""
  settings = Settings(**parts.config[NAME])
  trained = functools.partial(method.trained, paths=parts.paths)
  copy = lambda weights: {'old': jax.tree.map(jnp.copy, trained(weights))}

  def loss_fn(state, batch):
    old = state.weights.with_params(state.strategy['old'])

    def term(weights, _):
      value = distillation.mean_divergence(
        parts.model, old, weights,
        (batch.tokens_BT, batch.segments_BT, batch.positions_BT),
        batch.loss_BT, temperature=settings.temperature,
        num=parts.config.wake.micro_batches,
      )  # fmt: skip
      return settings.weight * settings.temperature**2 * value

    read = jnp.sum(batch.segments_BT >= 0)
    return state, [terms.Term(term)], method.counts(forward=read)

  def finish(state, *, moment):
    del moment
    return state.replace(strategy=copy(state.weights)), method.counts()

  return method.Method(allocate=copy, penalty=loss_fn, finish=finish)

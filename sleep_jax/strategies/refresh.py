"""Refresh, a baseline: after each day, a few steps on stored rows of before.

A day is learned as by `sft`. At its end, a few further steps of the same
optimizer read only stored rows of pretraining and of earlier days. The rows are
a reservoir as that of `er`, with as much room. Rows of the current day enter it
too, but are not drawn before the next day ends.

References: 2606.02398, a short refresh on an old domain.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.optim import optimizer
from sleep_jax.replay import row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import method, strategy
from sleep_jax.wake import row_loss

NAME = 'refresh'
_KEY_OFFSET = 2**30 + 2**24  # Keeps its keys apart from others.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the refresh.

  Attributes:
    steps: after each day; 0: none, which is `sft`.
  """

  steps: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.END,), build=_build, wrap=_store_rows,
    stores_rows=True, dates_rows=True,
  )  # fmt: skip


def _build(parts: method.Parts) -> method.Method:
  """Returns the review that refreshes.

  `State.strategy` has `start`, the number of wake steps before the current day.
  """
  settings, data = Settings(**parts.config[NAME]), parts.config.data
  num_rows = data.day_batch_size or data.batch_size
  ((owner, tx),) = parts.txs.items()

  def refresh(state):
    key = jax.random.fold_in(
      jax.random.fold_in(state.key, state.step), _KEY_OFFSET
    )

    def take_step(learned, step_key):
      old = row_buffer.sample_until(
        state.row_buffer, step_key, num_rows, state.strategy['start']
      )
      params, opt = learned
      _, grads = row_loss.value_and_grad(
        parts.likelihood, state.weights, params,
        types.Batch(**old, prompts=None), num=parts.config.wake.micro_batches,
      )  # fmt: skip
      learned = optimizer.update(tx, params, opt, grads)
      return learned, jnp.sum(old['segments_BT'] >= 0)

    (params, opt), tokens_S = jax.lax.scan(
      take_step,
      (method.trained(state.weights, parts.paths), state.opt[owner]),
      jax.random.split(key, settings.steps),
    )
    state = state.replace(
      weights=state.weights.with_params(params), opt={owner: opt}
    )
    return state, method.counts(jnp.sum(tokens_S), steps=settings.steps)

  def finish(state, *, moment):
    del moment
    costs = method.counts()
    if settings.steps:
      is_old_C = row_buffer.is_until(state.row_buffer, state.strategy['start'])
      # Without rows the momentum of the day would go on moving the weights.
      state, costs = jax.lax.cond(
        jnp.any(is_old_C), refresh, lambda state: (state, costs), state
      )
    return state.replace(strategy={'start': jnp.copy(state.step)}), costs

  allocate = lambda weights: {'start': jnp.zeros((), jnp.int32)}
  return method.Method(allocate=allocate, finish=finish)


def _store_rows(step: strategy.Step) -> strategy.Step:
  """Returns a step that stores the new rows, with its number, afterwards."""

  def wrapped(state, batch, held, *share):
    state, metrics = step(state, batch, held, *share)
    rows = row_buffer.insert(state.row_buffer, batch, state.key, state.step)
    return state.replace(row_buffer=rows), metrics

  return wrapped

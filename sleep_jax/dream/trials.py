"""Trials: is a dream worth learning from?

First by its gradient, for all dreams at once; then, for those that are kept, by
learning from each of them alone: one low-rank adapter a dream, trained side by
side under `vmap` beside matrices that they share and never touch.

References: 2606.03979 v2 section 3.4; 2506.10943 (SEAL), from which isolated
trials come.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.dream import importance
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings as settings_lib
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood
from sleep_jax.runtime import mesh

Array = types.Array


@dataclasses.dataclass(frozen=True)
class TrialPlacement:
  """How trials lie on devices; by default one after the other on one.

  Attributes:
    together: trials at once, side by side; divides all of them.
    place: spreads what has a leading axis of such trials over the mesh.
    alone: holds what is computed of one of them where that is.
    rows: devices that rows are spread over.
  """

  together: int = 1
  place: Callable[[Any], Any] = lambda tree: tree
  alone: Callable[[str, Array], Array] = lambda name, x: x
  rows: int = 1


def train_adapter(
  model: Any,
  weights: types.Weights,
  texts: types.Rollout,
  weight_B: Array,
  key: Array,
  *,
  adapter: lora.Adapter,
  settings: settings_lib.Adapter,
  size: int,
  rate: Array | float = 1.0,
  share: Array | float = 1.0,
) -> lora.Adapter:
  """Supervised fine-tuning of an adapter on texts, by their weights.

  Texts are taken in turn, `settings.batch` at a step, from a random order.
  Where no text weighs anything the adapter stays as it was.

  Args:
    rate: times the learning rate.
    share: of the steps that are taken.
  """
  tx = optax.adam(settings.learning_rate)
  order_B = jax.random.permutation(key, len(weight_B))
  # Those that weigh nothing come last, so that steps are not spent on them.
  order_B = order_B[jnp.argsort(weight_B[order_B] <= 0, stable=True)]
  count = jnp.maximum(jnp.sum(weight_B > 0), 1)
  batch = min(settings.batch, len(weight_B))

  def loss(adapter, rows, weight):
    worn = lora.worn(weights, adapter, scale=settings.scale)
    likely_BG, _ = answer_likelihood.log_likelihood(model, worn, rows, size)
    tokens_B = weight * (rows.length_B - rows.prompt_length_B)
    total = -jnp.sum(weight * jnp.sum(likely_BG, 1))
    return total / jnp.maximum(jnp.sum(tokens_B), 1)

  def step(carry, index):
    adapter, opt = carry
    place = jnp.arange(batch)
    turn = (index * batch + place) % count
    at = order_B[jnp.where(count >= batch, turn, place)]
    rows = jax.tree.map(lambda x: x[at], texts)
    grads = jax.grad(loss)(adapter, rows, weight_B[at])
    updates, opt = tx.update(grads, opt, adapter)
    goes = jnp.where(index < share * settings.steps, rate, 0.0)
    updates = jax.tree.map(lambda x: x * goes, updates)
    return (optax.apply_updates(adapter, updates), opt), None

  (learned, _), _ = jax.lax.scan(
    step, (adapter, tx.init(adapter)), jnp.arange(settings.steps)
  )
  anything = jnp.any(weight_B > 0)
  return jax.tree.map(
    lambda new, old: jnp.where(anything, new, old), learned, adapter
  )


def measure_gains(
  model: Any,
  weights: types.Weights,
  lessons: lessons_lib.Lessons,
  practice: types.Probes,
  key: Array,
  *,
  settings: settings_lib.Settings,
  size: int,
  spread: TrialPlacement = TrialPlacement(),
) -> tuple[Array, Array]:
  """What learning from each dream alone does to the practice.

  Args:
    lessons: of the dreams that are tried.
    size: most generated tokens of a lesson.

  Returns:
    Gain over no dream `[M, repeats]`, 0 where it is within rounding; and the
    score of no dream, in nats per answer token or as a share of right answers.
  """
  trial, (M, _) = settings.trial, lessons.weight_MK.shape
  one_of_many, axes = model.anywhere(spread.alone), None
  if spread.rows > 1:  # Other kernels would share out the rows of each trial.
    one_of_many, axes = one_of_many.plain(), mesh.ROWS

  def score(model, weights, rows=1):
    nats_B, right_B = answer_likelihood.score_answers(
      model, weights, practice, rows=rows
    )
    return jnp.mean(
      nats_B if settings.score == settings_lib.LIKELIHOOD else right_B
    )

  def one(own, key):
    begin_key, order_key = jax.random.split(key)
    begin = lora.init(
      begin_key, weights.params, rank=trial.rank, targets=trial.targets
    )
    learned = train_adapter(
      one_of_many, weights, lessons.rows if lessons.shared else own.rows,
      own.weight_MK, order_key, adapter=begin, settings=trial, size=size,
      rate=own.rate_M, share=own.share_M,
    )  # fmt: skip
    worn = lora.worn(weights, learned, scale=trial.scale)
    return score(one_of_many, worn)

  own = lessons.replace(rows=None) if lessons.shared else lessons
  again = functools.partial(jnp.repeat, repeats=settings.repeats, axis=0)
  each = jax.tree.map(again, own)
  keys = jax.random.split(key, M * settings.repeats)
  groups = jax.tree.map(
    lambda x: x.reshape(-1, spread.together, *x.shape[1:]), (each, keys)
  )
  many = jax.vmap(one, spmd_axis_name=axes)
  found = jax.lax.map(lambda group: many(*spread.place(group)), groups)
  nothing = score(model, weights, spread.rows)
  gain = found.reshape(M, settings.repeats) - nothing
  rounding = importance.ROUNDING * jnp.abs(nothing)
  return jnp.where(jnp.abs(gain) > rounding, gain, 0), nothing

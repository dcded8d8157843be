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
from flax import struct

from sleep_jax import sharding, types
from sleep_jax.model import lora
from sleep_jax.objectives import answers
from sleep_jax.phases import dreams

Array = types.Array
_ROUNDING = 1e-5  # Of a score: what the order of additions alone may change.


@dataclasses.dataclass(frozen=True)
class Spread:
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


class Lessons(struct.PyTreeNode):
  """What each of several dreams would have the model learn from.

  Attributes:
    rows: [M, K, T], of each dream its own; or [K, T], those of all.
    weight_MK: how much a row counts for a dream; 0: not at all.
    rate_M: the dream's learning rate, in units of the trial's.
    share_M: of the trial's steps, those that the dream takes.
  """

  rows: types.Rollout
  weight_MK: Array
  rate_M: Array
  share_M: Array

  @property
  def shared(self) -> bool:
    return self.rows.tokens_BT.ndim == 2

  def of(self, at_C: Array) -> 'Lessons':
    """Those of some of the dreams."""
    parts = self.replace(rows=None) if self.shared else self
    found = jax.tree.map(lambda x: x[at_C], parts)
    return found.replace(rows=self.rows) if self.shared else found


def from_texts(texts: types.Rollout, valid_MK: Array) -> Lessons:
  """Lessons that are the texts of dreams themselves.

  Args:
    texts: `[M K, T]`, those of a dream behind one another.
    valid_MK: 1 for a text that counts.
  """
  M, K = valid_MK.shape
  one_M = jnp.ones((M,))
  rows = jax.tree.map(lambda x: x.reshape(M, K, *x.shape[1:]), texts)
  return Lessons(rows, valid_MK.astype(jnp.float32), one_M, one_M)


def losses(
  model: Any, weights: types.Weights, lessons: Lessons, size: int
) -> Array:
  """Mean nats per generated token of each dream, `[M]`; 0 for an empty one.

  Args:
    size: most generated tokens.
  """
  flat = lessons.rows
  if not lessons.shared:
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), flat)
  likely_BG, _ = answers.told(model, weights, flat, size)
  weight_MK = lessons.weight_MK

  def fold(x_B):
    if lessons.shared:
      return weight_MK @ x_B.astype(weight_MK.dtype)
    return jnp.sum(x_B.reshape(weight_MK.shape) * weight_MK, 1)

  tokens_M = fold(flat.length_B - flat.prompt_length_B)
  return -fold(jnp.sum(likely_BG, 1)) / jnp.maximum(tokens_M, 1)


def importance(
  model: Any,
  weights: types.Weights,
  lessons: Lessons,
  practice: types.Probes,
  key: Array,
  *,
  size: int,
  how: str,
  targets: tuple[str, ...],
  rows: int = 1,
) -> Array:
  """A number for each dream, `[M]`; more is more important.

  By 'gradient', the product of the dream's gradient with that of the practice
  (mean nats of the right answers), over the matrices that adapters stand
  beside: one forward-mode derivative for all of them. Above 0, a small step
  down the dream's loss makes right answers likelier.

  Args:
    size: most generated tokens of a lesson.
    how, targets: see `dreams.Settings`.
    rows: devices that rows are spread over.
  """
  own = lora.targeted(weights.params, targets)
  (M,) = lessons.rate_M.shape
  plain = model.plain()
  dreamt = lambda own: losses(plain, weights.with_params(own), lessons, size)
  if how == dreams.RANDOM:
    return jax.random.uniform(key, (M,))
  if how == dreams.NORM:

    def one(place):
      mine = lessons.of(place[None])
      alone = lambda own: losses(model, weights.with_params(own), mine, size)[0]
      return optax.tree.norm(jax.grad(alone)(own))

    return jax.lax.map(one, jnp.arange(M))

  def missed(own):
    nats_B, _ = answers.scores(
      model, weights.with_params(own), practice, rows=rows
    )
    return -jnp.mean(nats_B)

  # As large as the matrices, and spread as they are.
  grads = {
    path: model.place(path, leaf)
    for path, leaf in jax.grad(missed)(own).items()
  }
  _, importance_M = jax.jvp(dreamt, (own,), (grads,))
  return importance_M


def choose(
  importance_M: Array, valid_M: Array, key: Array, *, top: int, random: int
) -> tuple[Array, Array]:
  """Which dreams are tried: the most important, and some of the others.

  Returns:
    Their places `[top + random]`, and whether a dream stands there: fewer may
    be valid.
  """
  rank_M = jnp.where(valid_M, importance_M, -jnp.inf)
  first = jax.lax.top_k(rank_M, top)[1]
  free_M = valid_M.at[first].set(False)
  lot_M = jnp.where(free_M, jax.random.uniform(key, free_M.shape), -jnp.inf)
  others = jax.lax.top_k(lot_M, random)[1]
  return (
    jnp.concatenate([first, others]),
    jnp.concatenate([valid_M[first], free_M[others]]),
  )


def learn(
  model: Any,
  weights: types.Weights,
  texts: types.Rollout,
  weight_B: Array,
  key: Array,
  *,
  adapter: lora.Adapter,
  settings: dreams.Adapter,
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
    likely_BG, _ = answers.told(model, worn, rows, size)
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


def gains(
  model: Any,
  weights: types.Weights,
  lessons: Lessons,
  practice: types.Probes,
  key: Array,
  *,
  settings: dreams.Settings,
  size: int,
  spread: Spread = Spread(),
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
    one_of_many, axes = one_of_many.plain(), sharding.ROWS

  def score(model, weights, rows=1):
    nats_B, right_B = answers.scores(model, weights, practice, rows=rows)
    return jnp.mean(nats_B if settings.score == dreams.LIKELIHOOD else right_B)

  def one(own, key):
    begin_key, order_key = jax.random.split(key)
    begin = lora.init(
      begin_key, weights.params, rank=trial.rank, targets=trial.targets
    )
    learned = learn(
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
  rounding = _ROUNDING * jnp.abs(nothing)
  return jnp.where(jnp.abs(gain) > rounding, gain, 0), nothing

"""Measures the gain of each selected dream by training on that dream alone.

Each trial trains a new low-rank adapter on one dream and scores the practice
questions with it. The adapters are trained in parallel under `vmap` next to
shared matrices that never change, so a trial cannot affect another one.

References: 2606.03979 v2 section 3.4; 2506.10943 (SEAL), the source of isolated
trials.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings as settings_lib
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood
from sleep_jax.runtime import mesh

Array = types.Array
# Relative change of a score that the order of additions alone can cause.
_ROUNDING = 1e-5


@dataclasses.dataclass(frozen=True)
class TrialPlacement:
  """How trials are spread over devices; by default one at a time on one device.

  Attributes:
    num_parallel: trials that run at once; must divide the number of trials.
    shard: shards the leading axis of a tree of parallel trials over the mesh.
    constrain: sharding constraint for an array inside one trial.
    rows: number of devices that the batch axis is sharded over.
  """

  num_parallel: int = 1
  shard: Callable[[Any], Any] = lambda tree: tree
  constrain: Callable[[str, Array], Array] = lambda name, x: x
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
  """Fine-tunes an adapter on weighted texts by Adam, and returns it.

  Texts are read in a random order, `settings.batch` per step. If all weights
  are 0 the adapter is returned unchanged.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model; they stay constant.
    texts: `[B, T]`; the loss is taken over their generated tokens.
    weight_B: weight of each text; 0 leaves it out.
    key: consumed.
    adapter: initial value.
    settings: of the training.
    size: maximum number of generated tokens of a text.
    rate: factor on the learning rate.
    share: share of `settings.steps` that is taken, 0 to 1.
  """
  tx = optax.adam(settings.learning_rate)
  order_B = jax.random.permutation(key, len(weight_B))
  # Texts of weight 0 come last, so that no step is spent on them.
  order_B = order_B[jnp.argsort(weight_B[order_B] <= 0, stable=True)]
  count = jnp.maximum(jnp.sum(weight_B > 0), 1)
  batch = min(settings.batch, len(weight_B))

  def loss_fn(adapter, rows, weight):
    adapted = lora.attach(weights, adapter, scale=settings.scale)
    log_prob_BG, _ = answer_likelihood.log_likelihood(
      model, adapted, rows, size
    )
    tokens_B = weight * (rows.length_B - rows.prompt_length_B)
    total = -jnp.sum(weight * jnp.sum(log_prob_BG, 1))
    return total / jnp.maximum(jnp.sum(tokens_B), 1)

  def step(carry, index):
    adapter, opt = carry
    place = jnp.arange(batch)
    turn = (index * batch + place) % count
    at = order_B[jnp.where(count >= batch, turn, place)]
    rows = jax.tree.map(lambda x: x[at], texts)
    grads = jax.grad(loss_fn)(adapter, rows, weight_B[at])
    updates, opt = tx.update(grads, opt, adapter)
    factor = jnp.where(index < share * settings.steps, rate, 0.0)
    updates = jax.tree.map(lambda x: x * factor, updates)
    return (optax.apply_updates(adapter, updates), opt), None

  (trained, _), _ = jax.lax.scan(
    step, (adapter, tx.init(adapter)), jnp.arange(settings.steps)
  )
  any_weight = jnp.any(weight_B > 0)
  return jax.tree.map(
    lambda new, old: jnp.where(any_weight, new, old), trained, adapter
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
  placement: TrialPlacement = TrialPlacement(),
) -> tuple[Array, Array]:
  """Returns how much training on each dream alone improves the practice score.

  Args:
    model: with `states_at`, `head` and `logits`.
    weights: of the model; they stay constant.
    lessons: of the M dreams that are tried.
    practice: practice questions of the task.
    key: consumed.
    settings: of the dreams.
    size: maximum number of generated tokens of a lesson.
    placement: how trials are spread over devices.

  Returns:
    Gain over the score without a dream, `[M, repeats]`, 0 where it is within
    rounding; and the score without a dream: mean log-likelihood in nats per
    answer token, or the share of right greedy answers.
  """
  trial, (M, _) = settings.trial, lessons.weight_MK.shape
  trial_model, axes = model.with_place(placement.constrain), None
  if placement.rows > 1:
    # Other attention kernels would shard the rows inside each trial.
    trial_model, axes = trial_model.with_xla_attention(), mesh.ROWS

  def score(model, weights, rows=1):
    log_prob_B, right_B = answer_likelihood.score_answers(
      model, weights, practice, rows=rows
    )
    return jnp.mean(
      log_prob_B if settings.score == settings_lib.LIKELIHOOD else right_B
    )

  def run_trial(own, key):
    init_key, order_key = jax.random.split(key)
    adapter = lora.init(
      init_key, weights.params, rank=trial.rank, targets=trial.targets
    )
    trained = train_adapter(
      trial_model,
      weights,
      lessons.rows if lessons.shared else own.rows,
      own.weight_MK,
      order_key,
      adapter=adapter,
      settings=trial,
      size=size,
      rate=own.rate_M,
      share=own.share_M,
    )
    adapted = lora.attach(weights, trained, scale=trial.scale)
    return score(trial_model, adapted)

  own = lessons.replace(rows=None) if lessons.shared else lessons
  repeat = functools.partial(jnp.repeat, repeats=settings.repeats, axis=0)
  repeated = jax.tree.map(repeat, own)
  keys = jax.random.split(key, M * settings.repeats)
  groups = jax.tree.map(
    lambda x: x.reshape(-1, placement.num_parallel, *x.shape[1:]),
    (repeated, keys),
  )
  run_trials = jax.vmap(run_trial, spmd_axis_name=axes)
  scores = jax.lax.map(
    lambda group: run_trials(*placement.shard(group)), groups
  )
  baseline = score(model, weights, placement.rows)
  gain = scores.reshape(M, settings.repeats) - baseline
  rounding = _ROUNDING * jnp.abs(baseline)
  return jnp.where(jnp.abs(gain) > rounding, gain, 0), baseline

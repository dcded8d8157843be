"""The examiner: every number that an evaluation yields, from frozen inputs.

Compiled once per stream and shared by all strategies of a seed.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.data import batches as batches_lib
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import candidates, probes
from sleep_jax.model import transformer
from sleep_jax.objectives import losses
from sleep_jax.runtime import processes

_GATED = 64  # Questions of each set, on which gates are read.


class HeldOutEvaluator:
  """Asks an unborn model the one thing it can be asked: to foretell text.

  It stands where an `Examiner` does during birth.

  Args:
    batches: of held-out text.
  """

  def __init__(
    self,
    model: transformer.Transformer,
    source: batches_lib.Source,
    batches: int,
  ):
    self._batches = [source.batch(index) for index in range(batches)]
    self._loss = jax.jit(lambda w, batch: _loss(model, w, batch)[0])

  def examine(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Held-out loss, nats per token, in an `Examiner`'s record."""
    del experience
    nats = [float(self._loss(weights, batch)) for batch in self._batches]
    mean = sum(nats) / len(nats)
    return {'scores': {}, 'template_scores': {}, 'held_out_loss': mean}

  def second(self, weights: types.Weights) -> dict[str, float]:
    """Nothing: an unborn model has no probes."""
    del weights
    return {}

  def gates(self, weights: types.Weights) -> dict[str, Any]:
    """Nothing, likewise."""
    del weights
    return {}

  def known(self, weights: types.Weights, experience: int) -> None:
    """Nothing, likewise."""
    del weights, experience

  def guard(self, weights: types.Weights, experience: int) -> None:
    """Nothing, likewise."""
    del weights, experience


class Evaluator:
  """Scores weights on a stream's probes and held-out text.

  Args:
    newborn: the weights before the first day, kept for comparison.
    chunk: probes per call.
    held_out_batches: of held-out text.
  """

  def __init__(
    self,
    model: transformer.Transformer,
    stream: stream_lib.Stream,
    initial_model: types.Weights,
    *,
    chunk: int,
    held_out_batches: int,
  ):
    self._model, self._initial_model = model, initial_model
    self._ranked = stream.dataset.score == 'rank'
    greedy = probes.greedy(model, eos=stream.tokenizer.eos)
    known = [*stream.probes.values()]
    rank = greedy
    if known:
      rank = candidates.rank(model.forward, candidates.lay_out(known[0]))
    first = rank if self._ranked else greedy
    forced = stream.dataset.score == 'forced'
    if forced:
      first = probes.forced(model)
    make = lambda correct, sets: probes.Scorer(correct, sets, chunk=chunk)
    self._score = make(first, stream.probes)
    self._score_templates = make(first, stream.template_probes)
    self._score_open = make(first, stream.open_probes)
    nats = probes.forced(model, nats=True)
    self._score_nats = make(nats, stream.probes if forced else {})
    # The other way of scoring, asked for once at the end.
    rankable = all((p.set_B >= 0).all() for p in known)
    other = greedy if self._ranked else rank
    sets = stream.probes if self._ranked or rankable else {}
    self._score_other = make(other, sets)
    guard = {'guard': stream.guard} if stream.guard is not None else {}
    self._score_guard = make(first, guard)
    self._last = len(stream.experiences)
    source = stream.held_out
    self._held_out: Sequence[types.Batch] = [
      jax.tree.map(jnp.asarray, source.batch(index))
      for index in range(held_out_batches if source is not None else 0)
    ]

    def text(weights, initial_model, batch):
      loss, logits_BTV = _loss(model, weights, batch)
      _, initial_BTV = _loss(model, initial_model, batch)
      kl_BT = losses.divergence(initial_BTV, logits_BTV, beta=0)[:, :-1]
      return loss, losses.masked_mean(kl_BT, batch.loss_BT[:, 1:])

    self._text = jax.jit(text)
    # A fixed number of questions of each set: one shape.
    self._some = {
      name: jax.tree.map(lambda x: jnp.asarray(np.resize(
        x, (_GATED, *x.shape[1:]))), p.prompts)
      for name, p in stream.probes.items()
    }  # fmt: skip
    self._activity = jax.jit(
      functools.partial(_activity, model), static_argnums=2
    )

  def examine(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Scores by key, held-out loss and KL(newborn || now), nats per token.

    Args:
      experience: number of experiences begun; later labels do not compete,
        and only the next experience is scored of those to come (forward
        transfer needs no more). 0, the newborn, is scored on all.
    """
    args = (jnp.int32(experience),) if self._ranked else ()
    sets = experience + 2 if experience else None  # Birth, and the next.
    numbers: dict[str, Any] = {
      'scores': self._score(weights, *args, sets=sets),
      'template_scores': self._score_templates(weights, *args, sets=sets),
      'open_scores': self._score_open(weights, *args, sets=experience or None),
      'log_scores': self._score_nats(weights, sets=sets),
      'held_out_loss': None,
      'kl_initial': None,
    }
    if self._held_out:
      pairs = [
        self._text(weights, self._initial_model, b) for b in self._held_out
      ]
      means = [float(sum(x) / len(pairs)) for x in zip(*pairs, strict=True)]
      numbers['held_out_loss'], numbers['kl_initial'] = means
    return numbers

  def known(self, weights: types.Weights, experience: int) -> float | None:
    """Mean score on birth and the experiences so far; None: no probes."""
    scores = self.examine(weights, experience)['scores']
    keys = ['pretrain', *map(str, range(1, experience + 1))]
    found = [scores[key] for key in keys if scores.get(key) is not None]
    return float(np.mean(found)) if found else None

  def gates(self, weights: types.Weights) -> dict[str, Any]:
    """How far experts open, and how much they add, on each set of probes.

    Returns:
      Level -> set of probes -> 'gate': mean gate of each active expert over
      the tokens of the questions and the level's blocks, and 'adds': the root
      mean square of what it adds there.
    """
    found: dict[str, Any] = {}
    active_NE = np.asarray(weights.active_NE)
    for number, level in enumerate(self._model.config.levels, 1):
      if not level.slots:
        continue
      slots = np.flatnonzero(active_NE[number - 1, : level.slots])
      found[str(number)] = {
        name: {
          key: value[slots].tolist()
          for key, value in processes.fetch(
            self._activity(weights, prompts, number)
          ).items()
        }
        for name, prompts in self._some.items()
      } | {'slots': slots.tolist()}
    # Asked of a newborn as well, so that nothing is compiled later.
    return {number: sets for number, sets in found.items() if sets['slots']}

  def second(self, weights: types.Weights) -> dict[str, float]:
    """Scores by the other way of scoring (ranking or greedy)."""
    args = () if self._ranked else (jnp.int32(self._last),)
    return self._score_other(weights, *args)

  def guard(self, weights: types.Weights, experience: int) -> float | None:
    """Accuracy on the guard's probes; None where there are none."""
    args = (jnp.int32(experience),) if self._ranked else ()
    scores = self._score_guard(weights, *args)
    return next(iter(itertools.chain(scores.values(), [None])))


def _activity(model, weights, prompts, level):
  """Mean gate and root mean square output of each expert, `[E]`."""
  rows = transformer.rows(prompts.tokens_BP, prompts.length_B)
  valid_BT = rows[1] > 0

  def total(gates_BTE, y_BTED):
    mean = lambda x: jnp.einsum('bte,bt->e', x, valid_BT.astype(x.dtype))
    return mean(gates_BTE), mean(jnp.mean(jnp.square(y_BTED), -1))

  gate_LE, square_LE = model.additions(weights, *rows, level, total)
  count = jnp.sum(valid_BT)
  return {
    'gate': jnp.mean(gate_LE, 0) / count,
    'adds': jnp.sqrt(jnp.mean(square_LE, 0) / count),
  }


def _loss(model, weights, batch):
  """Mean loss per target token, and the logits."""
  logits_BTV = model.forward(
    weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT
  )
  return (
    losses.next_token(logits_BTV, batch.tokens_BT, batch.loss_BT),
    logits_BTV,
  )

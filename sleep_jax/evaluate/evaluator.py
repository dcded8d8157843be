"""Evaluates weights on frozen probes and held-out text.

An evaluator is compiled once per stream and shared by all strategies of a seed.
"""

import copy
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.data import batches as batches_lib
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import candidates, probes, text_scores
from sleep_jax.objectives import losses
from sleep_jax.runtime import processes

_GATE_PROMPTS = 64  # Questions of each set on which gates are measured.


class HeldOutEvaluator:
  """Evaluates the held-out loss only; replaces `Evaluator` in pretraining.

  Before pretraining there are no initial weights to compare with and no
  knowledge to probe, so the other methods return nothing.

  Args:
    model: the transformer.
    source: held-out text.
    batches: number of batches of it.
  """

  sizes: Mapping[str, int] = {}  # See `Evaluator`.

  def __init__(
    self,
    model: types.Model,
    source: batches_lib.Source,
    batches: int,
  ):
    self._batches = [source.batch(index) for index in range(batches)]
    self._loss = jax.jit(lambda w, batch: _loss(model, w, batch)[0])

  def evaluate(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Returns a record as `Evaluator.evaluate` does, with the loss in nats."""
    del experience
    losses_nats = [float(self._loss(weights, batch)) for batch in self._batches]
    mean = sum(losses_nats) / len(losses_nats)
    return {'scores': {}, 'template_scores': {}, 'held_out_loss': mean}

  def second_scores(self, weights: types.Weights) -> dict[str, float]:
    """Returns no scores."""
    del weights
    return {}

  def expert_gates(self, weights: types.Weights) -> dict[str, Any]:
    """Returns no gates."""
    del weights
    return {}

  def known_accuracy(self, weights: types.Weights, experience: int) -> None:
    """Returns no accuracy."""
    del weights, experience

  def guard_accuracy(self, weights: types.Weights) -> None:
    """Returns no accuracy."""
    del weights


class Evaluator:
  """Scores weights on the probes and the held-out text of a stream.

  Args:
    model: the transformer.
    stream: the stream of experiences with its probes.
    initial_model: the weights before the first day, kept for comparison.
    chunk: number of probes per call.
    held_out_batches: number of batches of held-out text.

  Attributes:
    sizes: costs of answering, of `cost.SIZES`; none here.
  """

  sizes: Mapping[str, int] = {}

  def __init__(
    self,
    model: types.Model,
    stream: stream_lib.Stream,
    initial_model: types.Weights,
    *,
    chunk: int,
    held_out_batches: int,
  ):
    self.model, self._initial_model = model, initial_model
    self._ranked = stream.dataset.score == 'rank'
    greedy = probes.greedy(model, eos=stream.tokenizer.eos)
    known = [*stream.probes.values()]
    rank = greedy
    if known:
      # Other kernels do not let candidates share the question before them.
      forward = model.with_xla_attention().forward
      rank = candidates.rank(forward, candidates.flatten(known[0]))
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
    self._score_text = text_scores.TextScorer(
      model, stream.tokenizer, stream.dataset, stream.probes, chunk=chunk
    )
    # The other scoring method, used once at the end.
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

    def text_losses(weights, initial_model, batch):
      loss, logits_BTV = _loss(model, weights, batch)
      _, initial_BTV = _loss(model, initial_model, batch)
      kl_BT = losses.divergence(initial_BTV, logits_BTV, beta=0)[:, :-1]
      return loss, losses.masked_mean(kl_BT, batch.loss_BT[:, 1:])

    self._text_losses = jax.jit(text_losses)
    # The same number of questions for each set, so that one program serves.
    self._gate_prompts = {
      name: jax.tree.map(lambda x: jnp.asarray(np.resize(
        x, (_GATE_PROMPTS, *x.shape[1:]))), p.prompts)
      for name, p in stream.probes.items()
    }  # fmt: skip
    self._activity = jax.jit(
      functools.partial(_activity, model), static_argnums=2
    )

  def with_probes(self, probe_sets: dict[str, types.Probes]) -> 'Evaluator':
    """Returns an evaluator that asks other questions, with the same answers.

    Args:
      probe_sets: by the keys of the stream's probes. Scores that the stream
        does not have are not added.
    """
    made = copy.copy(self)
    for name in ('_score', '_score_nats', '_score_text', '_score_other'):
      scorer = getattr(self, name)
      setattr(made, name, scorer.with_sets(probe_sets if scorer.names else {}))
    return made

  def evaluate(self, weights: types.Weights, experience: int) -> dict[str, Any]:
    """Returns the scores by probe set and the losses on held-out text.

    Args:
      weights: the weights to evaluate.
      experience: number of experiences begun. Labels of later experiences do
        not compete. Of the experiences to come only the next one is scored
        (forward transfer needs no more); with 0, the initial model, all are.

    Returns:
      Dict of 'scores', 'template_scores', 'open_scores', 'log_scores' and
      'text_scores' by probe set, and of 'held_out_loss' and 'kl_initial', the
      divergence KL(initial model || weights), both in nats per token or None if
      there is no held-out text.
    """
    args = (jnp.int32(experience),) if self._ranked else ()
    # Pretraining, the experiences begun, and the next one.
    sets = experience + 2 if experience else None
    numbers: dict[str, Any] = {
      'scores': self._score(weights, *args, sets=sets),
      'template_scores': self._score_templates(weights, *args, sets=sets),
      'open_scores': self._score_open(weights, *args, sets=experience or None),
      'log_scores': self._score_nats(weights, sets=sets),
      'text_scores': self._score_text(weights, sets=sets),
      'held_out_loss': None,
      'kl_initial': None,
    }
    if self._held_out:
      pairs = [
        self._text_losses(weights, self._initial_model, b)
        for b in self._held_out
      ]
      means = [float(sum(x) / len(pairs)) for x in zip(*pairs, strict=True)]
      numbers['held_out_loss'], numbers['kl_initial'] = means
    return numbers

  def known_accuracy(
    self, weights: types.Weights, experience: int
  ) -> float | None:
    """Returns the mean score on pretraining and the experiences so far.

    It is None if the stream has no probes.
    """
    scores = self.evaluate(weights, experience)['scores']
    keys = ['pretrain', *map(str, range(1, experience + 1))]
    found = [scores[key] for key in keys if scores.get(key) is not None]
    return float(np.mean(found)) if found else None

  def expert_gates(self, weights: types.Weights) -> dict[str, Any]:
    """Returns the gates and output sizes of experts on each probe set.

    Returns:
      Dict from level to probe set to 'gate', the mean gate of each active
      expert over the tokens of the questions and the level's blocks, and
      'adds', the root mean square of its output there. The key 'slots' of a
      level lists the active experts.
    """
    found: dict[str, Any] = {}
    active_NE = np.asarray(weights.active_NE)
    for number, level in enumerate(self.model.config.levels, 1):
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
        for name, prompts in self._gate_prompts.items()
      } | {'slots': slots.tolist()}
    # Computed for the initial model as well, so that nothing compiles later.
    return {number: sets for number, sets in found.items() if sets['slots']}

  def second_scores(self, weights: types.Weights) -> dict[str, float]:
    """Returns the scores of the method not used by `evaluate`.

    That is greedy for a ranked stream, ranking otherwise (empty if its answers
    have no candidates).
    """
    args = () if self._ranked else (jnp.int32(self._last),)
    return self._score_other(weights, *args)

  def guard_accuracy(self, weights: types.Weights) -> float | None:
    """Returns the accuracy on the guard's probes, or None without any.

    All labels of the stream compete, at any time. Otherwise the same model
    would have a lower score as soon as a day brings labels, and nights that
    harm nothing would be discarded.
    """
    args = (jnp.int32(self._last),) if self._ranked else ()
    scores = self._score_guard(weights, *args)
    return next(iter(itertools.chain(scores.values(), [None])))


def _activity(model, weights, prompts, level):
  """Returns the mean gate and root mean square output of each expert `[E]`."""
  rows = types.model_inputs(prompts.tokens_BP, prompts.length_B)
  valid_BT = rows[1] > 0

  def total(gates_BTE, y_BTED):
    mean = lambda x: jnp.einsum('bte,bt->e', x, valid_BT.astype(x.dtype))
    return mean(gates_BTE), mean(jnp.mean(jnp.square(y_BTED), -1))

  gate_LE, square_LE = model.map_expert_outputs(weights, *rows, level, total)
  count = jnp.sum(valid_BT)
  return {
    'gate': jnp.mean(gate_LE, 0) / count,
    'adds': jnp.sqrt(jnp.mean(square_LE, 0) / count),
  }


def _loss(model, weights, batch):
  """Returns the mean loss per target token, in nats, and the logits."""
  logits_BTV = model.forward(
    weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT
  )
  return (
    losses.next_token_loss(logits_BTV, batch.tokens_BT, batch.loss_BT),
    logits_BTV,
  )

"""Lets the model choose among the few classes that a classifier finds likely.

The classifier is right about the likeliest few more often than about the first,
and the model has fewer labels to confuse. A label's score does not depend on
the labels beside it, so all are scored and those that are not kept are left
out; the prompt is the question alone.

References: 2412.15563. There the prompt also describes the classes that are
kept, in sentences that the model wrote about their rows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.data import stream as stream_lib
from sleep_jax.evaluate import candidates
from sleep_jax.runtime import processes

_ROWS = 64  # Questions that are scored at once.


def choose(
  score_NC: np.ndarray, found_NC: np.ndarray, *, top_k: int
) -> np.ndarray:
  """Returns the class of best score among the `top_k` likeliest, `[N]`.

  Args:
    score_NC: of the model; -inf for a class that does not compete.
    found_NC: discriminants of the classifier. A class of which it knows no row
      has -inf, and follows the others that compete.
    top_k: number of classes that are kept.
  """
  absent_NC = np.isneginf(score_NC)
  order_NC = np.lexsort((-found_NC, absent_NC), axis=-1)
  kept_NC = np.zeros(score_NC.shape, bool)
  np.put_along_axis(kept_NC, order_NC[:, :top_k], True, 1)
  return np.argmax(np.where(kept_NC, score_NC, -np.inf), 1)


class Narrowing:
  """Chooses classes for the questions of a stream, see `classified.Choose`."""

  def __init__(
    self, stream: stream_lib.Stream, model: types.Model, *, top_k: int
  ):
    """Compiles nothing yet.

    Args:
      stream: with one set of candidates, see `classified.check`.
      model: scores the candidates.
      top_k: number of candidates that are kept.
    """
    self._probes, self._top_k = stream.probes, top_k
    labels = candidates.flatten(next(iter(stream.probes.values())))
    # Other kernels do not let candidates share the question before them.
    forward = model.with_xla_attention().forward
    self._score = jax.jit(
      lambda weights, probes, experience: candidates.score_competing(
        forward, weights, probes, labels, experience
      )
    )

  def __call__(
    self,
    weights: types.Weights,
    key: str,
    found_NC: np.ndarray,
    experience: int,
  ) -> np.ndarray:
    """Returns the class of each question of a set of probes, `[N]`.

    Args:
      weights: of the model.
      key: of the probes.
      found_NC: discriminants of the classifier.
      experience: labels introduced after it do not compete, but the right one.
    """
    probes, num, parts = self._probes[key], len(found_NC), []
    for start in range(0, num, _ROWS):
      # The last question fills the last part: one program serves all.
      at_B = np.minimum(np.arange(start, start + _ROWS), num - 1)
      score_BC = self._score(
        weights, _take(probes, at_B), jnp.int32(experience)
      )
      parts.append(np.asarray(processes.fetch(score_BC)))
    return choose(np.concatenate(parts)[:num], found_NC, top_k=self._top_k)


def _take(probes: types.Probes, at_B: np.ndarray) -> types.Probes:
  """Returns some of the probes, with the same sets of candidates."""
  own = ('prompts', 'answer_BA', 'answer_length_B', 'set_B', 'gold_B')
  return probes.replace(**{
    name: jax.tree.map(lambda x: x[at_B], getattr(probes, name))
    for name in own
  })  # fmt: skip

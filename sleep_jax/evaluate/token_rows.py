"""Reads token sequences in packed rows; the head reads only what it predicts.

Sequences of any length share rows, so there is one compiled program and hardly
any padding. A beginning that all sequences have in common, such as the system
turn of a chat template, is read once per row. The head is the largest matrix of
a small model, so only the states that predict a target reach it, in blocks.

The first rows do not depend on later sequences. A part of a set therefore has
the same numbers, bit for bit, as in the whole set.
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.runtime import processes

# Tokens of a row. On a CPU attention takes 18 % of the time of SmolLM2 at this
# width, and 34 % at twice the width.
WIDTH = 256
_BLOCK = 128  # States per call of the head: logits of 25 MB at 49,152 tokens.


@dataclasses.dataclass(frozen=True)
class Target:
  """A sequence and which of its tokens are predicted.

  Attributes:
    tokens: the sequence.
    first: index of the first target, at least 1; all later ones are targets.
  """

  tokens: Sequence[int]
  first: int


@dataclasses.dataclass(frozen=True)
class TokenRows:
  """Packed rows and the places of their targets; M counts targets.

  Attributes:
    tokens_NT, segments_NT, positions_NT: as in `types.Batch`. Segment 0 is the
      common beginning.
    at_M: place of the state that predicts each target, row by row.
    target_M: the targets, in the order of the sequences.
  """

  tokens_NT: np.ndarray
  segments_NT: np.ndarray
  positions_NT: np.ndarray
  at_M: np.ndarray
  target_M: np.ndarray


def pack(sequences: Iterable[Target], *, width: int = WIDTH) -> TokenRows:
  """Returns rows that hold sequences in their order.

  The last token of a sequence is predicted but not read. A row is as wide as
  the longest sequence needs, at least `width`.
  """
  given = list(sequences)
  common = _common(given)
  reads = [list(s.tokens[len(common) : -1]) for s in given]
  width = max([width, *(len(common) + len(read) for read in reads)])
  rows: list[list[int]] = []
  used = width
  for number, read in enumerate(reads):
    if used + len(read) > width:
      rows.append([])
      used = len(common)
    rows[-1].append(number)
    used += len(read)
  shape = (len(rows), width)
  tokens, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  segments = np.full(shape, -1, np.int32)
  at, target = [], []
  for row, members in enumerate(rows):
    start = len(common)
    tokens[row, :start], segments[row, :start] = common, 0
    positions[row, :start] = np.arange(start)
    for segment, number in enumerate(members, 1):
      sequence, stop = given[number], start + len(reads[number])
      tokens[row, start:stop] = reads[number]
      segments[row, start:stop] = segment
      positions[row, start:stop] = len(common) + np.arange(stop - start)
      # The state of token i predicts token i + 1.
      offset = row * width + start - len(common) - 1
      predicted = range(sequence.first, len(sequence.tokens))
      at += [offset + index for index in predicted]
      target += [sequence.tokens[index] for index in predicted]
      start = stop
  return TokenRows(
    tokens, segments, positions,
    np.array(at, np.int64), np.array(target, np.int32),
  )  # fmt: skip


def _common(sequences: Sequence[Target]) -> list[int]:
  """Returns the beginning that all sequences have in common.

  It stays so short that each sequence has a token of its own, whose state
  predicts the first target.
  """
  if len(sequences) < 2:
    return []
  shared = os.path.commonprefix([list(s.tokens) for s in sequences])
  return [*shared[: min(s.first for s in sequences) - 1]]


def states(
  model: types.Model, weights: types.Weights, rows: TokenRows
) -> np.ndarray:
  """Returns the inputs of the head that predict each target, `[M, D]`.

  Args:
    model, weights: of the model that reads.
    rows: what it reads.
  """
  model = model.with_xla_attention()  # The others have no common beginning.
  N, T = rows.tokens_NT.shape
  found = []
  for row in range(N):
    here_M = rows.at_M[rows.at_M // T == row] % T
    if len(here_M):
      states_1TD = _states(
        model, weights, rows.tokens_NT[row : row + 1],
        rows.segments_NT[row : row + 1], rows.positions_NT[row : row + 1],
      )  # fmt: skip
      found.append(processes.fetch(states_1TD)[0, here_M])
  return np.concatenate(found)


def nats(
  model: types.Model,
  weights: types.Weights,
  states_MD: np.ndarray,
  target_M: np.ndarray,
) -> np.ndarray:
  """Returns the loss of each target, nats, f32 `[M]`.

  Args:
    model, weights: give the head.
    states_MD, target_M: see `states` and `TokenRows`.
  """
  score = lambda x, target: _nats(_logits(model, weights, x), target)
  return _in_blocks(score, states_MD, target_M)


def divergences(
  model: types.Model,
  first: types.Weights,
  first_MD: np.ndarray,
  weights: types.Weights,
  states_MD: np.ndarray,
) -> np.ndarray:
  """Returns KL(initial model || model) at each target, nats, f32 `[M]`.

  Exact over the whole vocabulary: the initial model's logits are computed again
  from the inputs of its head.

  Args:
    model: both have this network.
    first: weights of the initial model, of which only the head is used.
    first_MD: its states, as `states` returns them.
    weights, states_MD: of the other model.
  """
  score = lambda p, q: _divergences(
    _logits(model, first, p), _logits(model, weights, q)
  )
  return _in_blocks(score, first_MD, states_MD)


def _in_blocks(score: Callable, *arrays: np.ndarray) -> np.ndarray:
  """Calls a function on blocks of rows of one size; returns f32 `[M]`."""
  size = len(arrays[0])
  pad = -size % _BLOCK
  padded = [
    np.pad(x, ((0, pad), *((0, 0),) * (x.ndim - 1)), mode='edge')
    for x in arrays
  ]
  found = [
    processes.fetch(score(*(x[start : start + _BLOCK] for x in padded)))
    for start in range(0, size, _BLOCK)
  ]
  return np.concatenate(found)[:size]


@functools.partial(jax.jit, static_argnums=0)
def _states(model, weights, tokens_BT, segments_BT, positions_BT):
  return model.states(weights, tokens_BT, segments_BT, positions_BT)


@functools.partial(jax.jit, static_argnums=0)
def _logits(model, weights, states_MD):
  # A program of its own: XLA's CPU compiler makes two such products in one
  # program 1.7 times as slow.
  return model.logits(weights, states_MD.astype(model.head(weights).dtype))


@jax.jit
def _nats(logits_MV, target_M):
  return -losses.token_log_likelihood(logits_MV[None], target_M[None])[0]


@jax.jit
def _divergences(p_MV, q_MV):
  return losses.divergence(p_MV[None], q_MV[None], beta=0)[0]

"""Rewards of imitation: compares completions with the teacher's text.

A teacher's sequence is cut and the student completes it. The completion is
compared with the teacher's text by tokens (`closeness`) and by meaning (a
judge). All completions of one cut form a group, whose mean reward is the
baseline.

References: 2606.03979 v2 section 3.3 (Learning to Imitate); the group's
baseline, 2402.03300 (GRPO).
"""

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def edit_distance(
  a_BT: Array, a_length_B: Array, b_BS: Array, b_length_B: Array
) -> Array:
  """Returns the Levenshtein distance of token sequences, int32 `[B]`.

  The dynamic programme scans over rows of the table of prefixes. Within a row
  the dependence on the entry to the left is a running minimum, so a row is one
  vectorised step.

  Args:
    a_BT, b_BS: int32; tokens beyond the lengths are ignored.
    a_length_B, b_length_B: int32.
  """
  place_1S1 = jnp.arange(b_BS.shape[1] + 1, dtype=jnp.int32)[None]

  def step(row_BS1, at):
    index, token_B = at
    change_BS = (token_B[:, None] != b_BS).astype(jnp.int32)
    best_BS = jnp.minimum(row_BS1[:, 1:] + 1, row_BS1[:, :-1] + change_BS)
    first_B1 = jnp.full_like(row_BS1[:, :1], index + 1)
    best_BS1 = jnp.concatenate([first_B1, best_BS], 1)
    new_BS1 = jax.lax.cummin(best_BS1 - place_1S1, 1) + place_1S1
    inside_B1 = index < a_length_B[:, None]
    return jnp.where(inside_B1, new_BS1, row_BS1), None

  T = a_BT.shape[1]
  row_BS1 = jnp.broadcast_to(place_1S1, (len(b_BS), place_1S1.shape[1]))
  row_BS1, _ = jax.lax.scan(
    step, row_BS1, (jnp.arange(T, dtype=jnp.int32), a_BT.T)
  )
  return jnp.take_along_axis(row_BS1, b_length_B[:, None], 1)[:, 0]


def closeness(
  a_BT: Array,
  a_length_B: Array,
  b_BS: Array,
  b_length_B: Array,
  *,
  threshold: float,
) -> Array:
  """Returns `1 - z / longest`, or 0 if the edit distance z is too large, `[B]`.

  Two empty sequences are identical and score 1.

  Args:
    a_BT, a_length_B, b_BS, b_length_B: see `edit_distance`.
    threshold: largest z that counts, as a share of the longer length.
  """
  z_B = edit_distance(a_BT, a_length_B, b_BS, b_length_B)
  longest_B = jnp.maximum(a_length_B, b_length_B)
  near_B = 1 - z_B / jnp.maximum(longest_B, 1)
  return jnp.where(z_B <= threshold * longest_B, near_B, 0.0)


def advantages(reward_BG: Array) -> Array:
  """Returns rewards less the mean of their group (row), `[B, G]`."""
  return reward_BG - reward_BG.mean(1, keepdims=True)


def repetition(tokens_BS: Array, length_B: Array) -> Array:
  """Returns the share of token pairs that occurred earlier in the row, `[B]`.

  A pair is two neighbouring tokens.

  References: seq-rep-2 of 1908.04319, per sequence.
  """
  pair_BS = jnp.stack([tokens_BS[:, :-1], tokens_BS[:, 1:]], -1)
  size = pair_BS.shape[1]
  same_BSS = jnp.all(pair_BS[:, :, None] == pair_BS[:, None], -1)
  earlier_1SS = jnp.tril(jnp.ones((1, size, size), bool), -1)
  again_BS = jnp.any(same_BSS & earlier_1SS, 2)
  inside_BS = jnp.arange(size)[None] < length_B[:, None] - 1
  num_B = jnp.maximum(inside_BS.sum(1), 1)
  return jnp.sum(again_BS & inside_BS, 1) / num_B


def continuation(
  rollout: types.Rollout, start_B: Array, *, size: int
) -> tuple[Array, Array]:
  """Returns the tokens of each row from a position on.

  Args:
    rollout: sequences.
    start_B: int32, first position to return.
    size: S, largest number of tokens.

  Returns:
    Tokens `[B, S]` and their lengths `[B]`.
  """
  place_BS = start_B[:, None] + jnp.arange(size)[None]
  last = rollout.tokens_BT.shape[1] - 1
  tokens_BS = jnp.take_along_axis(
    rollout.tokens_BT, jnp.minimum(place_BS, last), 1
  )
  return tokens_BS, jnp.minimum(rollout.length_B - start_B, size)

"""Learning to imitate: a reward for going on as the teacher did.

A teacher's sequence is cut, the student writes the rest, and what it wrote is
compared with what the teacher had written: token by token (`closeness`) and in
meaning (a judge). Completions of one cut are a group, whose mean is the
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
  """Levenshtein distance of token sequences, int32 `[B]`.

  One row of the table of all prefixes at a time; inside a row, what depends on
  the entry to the left is a running minimum, so that a row is one step.

  Args:
    a_BT, b_BS: int32; tokens beyond the lengths are not read.
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
  """`1 - z / longest`, or 0 where the edit distance z is too large; `[B]`.

  Two empty sequences are identical: 1.

  Args:
    threshold: largest z that counts, as a share of the longer length.
  """
  z_B = edit_distance(a_BT, a_length_B, b_BS, b_length_B)
  longest_B = jnp.maximum(a_length_B, b_length_B)
  near_B = 1 - z_B / jnp.maximum(longest_B, 1)
  return jnp.where(z_B <= threshold * longest_B, near_B, 0.0)


def advantages(reward_BG: Array) -> Array:
  """Rewards `[B, G]` less their group's mean: what all get teaches nothing."""
  return reward_BG - reward_BG.mean(1, keepdims=True)


def repetition(tokens_BS: Array, length_B: Array) -> Array:
  """Share of the pairs of neighbours that came before in the row, `[B]`.

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
  """What stands in each row from a place on: tokens `[B, size]`, lengths."""
  place_BS = start_B[:, None] + jnp.arange(size)[None]
  last = rollout.tokens_BT.shape[1] - 1
  tokens_BS = jnp.take_along_axis(
    rollout.tokens_BT, jnp.minimum(place_BS, last), 1
  )
  return tokens_BS, jnp.minimum(rollout.length_B - start_B, size)

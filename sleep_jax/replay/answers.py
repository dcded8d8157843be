"""Stored answers: what follows a prompt in its text, for `sleep_rows`.

They replace what a teacher would write, so that its errors are not rehearsed,
and cost the bytes of their tokens.
"""

import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def of_batch(batch: types.Batch, width: int) -> types.Texts:
  """Returns what follows each prompt of a batch in its text, `[N, width]`.

  Args:
    batch: rows of one text, or packed, with N prompts.
    width: most tokens of an answer; what follows is left out.
  """
  length_N = batch.prompts.length_B
  # The k-th prompt of a row is that of its k-th text, see `Source.batch`.
  row_N, text_N = jnp.divmod(
    jnp.arange(len(length_N)), len(length_N) // len(batch.tokens_BT)
  )
  inside_NT = batch.segments_BT[row_N] == 1 + text_N[:, None]
  start_N = jnp.argmax(inside_NT, 1) + length_N
  at_NA = start_N[:, None] + jnp.arange(width)[None]
  tokens_NA = jnp.take_along_axis(
    batch.tokens_BT[row_N], jnp.minimum(at_NA, inside_NT.shape[1] - 1), 1
  )
  rest_N = jnp.sum(inside_NT, 1) - length_N
  return types.Texts(tokens_NA, jnp.clip(rest_N, 0, width))


def after_cut(
  tokens_BP: Array, length_B: Array, cut_B: Array, answers: types.Texts
) -> types.Texts:
  """Returns what follows prompts that are cut: their rest, then the answers.

  Args:
    tokens_BP, length_B: the whole prompts.
    cut_B: tokens of each that are left, at most `length_B`.
    answers: of the whole prompts, `[B, A]`. One of length 0 is not known.

  Returns:
    The first A tokens of each, `[B, A]`; of length 0 where the answer is not
    known.
  """
  width = answers.tokens_BT.shape[1]
  both_BT = jnp.concatenate(
    [tokens_BP, jnp.zeros_like(answers.tokens_BT)], axis=1
  )
  place_BT = jnp.arange(both_BT.shape[1])[None] - length_B[:, None]
  answer_BT = jnp.take_along_axis(
    answers.tokens_BT, jnp.clip(place_BT, 0, width - 1), 1
  )
  both_BT = jnp.where(place_BT < 0, both_BT, answer_BT)
  at_BA = cut_B[:, None] + jnp.arange(width)[None]
  num_B = jnp.minimum(length_B - cut_B + answers.length_B, width)
  return types.Texts(
    jnp.take_along_axis(both_BT, jnp.minimum(at_BA, both_BT.shape[1] - 1), 1),
    jnp.where(answers.length_B > 0, num_B, 0),
  )


def replace_known(
  rollout: types.Rollout, answers: types.Texts, *, max_new: int
) -> types.Rollout:
  """Returns sequences with the answers that are known in place of their own.

  `is_stored_B` says which have one; the teacher's states of these are of what
  it wrote, and have no use.

  Args:
    rollout: sampled sequences, `[B, T]`.
    answers: of their prompts, `[B, A]`; one of length 0 is not known.
    max_new: most tokens of an answer. One that does not fit is cut.
  """
  width = rollout.tokens_BT.shape[1]
  is_stored_B = answers.length_B > 0
  place_BT = jnp.arange(width)[None] - rollout.prompt_length_B[:, None]
  last = answers.tokens_BT.shape[1] - 1
  stored_BT = jnp.take_along_axis(
    answers.tokens_BT, jnp.clip(place_BT, 0, last), 1
  )
  num_B = jnp.minimum(answers.length_B, max_new)
  end_B = jnp.minimum(rollout.prompt_length_B + num_B, width)
  is_answer_BT = is_stored_B[:, None] & (place_BT >= 0)
  return rollout.replace(
    tokens_BT=jnp.where(is_answer_BT, stored_BT, rollout.tokens_BT),
    length_B=jnp.where(is_stored_B, end_B, rollout.length_B),
    is_stored_B=is_stored_B,
  )

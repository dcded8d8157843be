"""Array tests on the texts of dreams: usable, a known choice, duplicates."""

import jax.numpy as jnp

from sleep_jax import types


def is_usable(texts: types.Rollout, eos: int | None) -> types.Array:
  """Returns whether each text has content, `[B]`.

  Args:
    texts: generated texts, `[B, T]`.
    eos: token that has to end a text; its content does not count it. None: a
      text may stop anywhere.
  """
  tokens_B = texts.length_B - texts.prompt_length_B
  if eos is None:
    return tokens_B > 0
  last_B1 = jnp.maximum(texts.length_B - 1, 0)[:, None]
  ended_B = jnp.take_along_axis(texts.tokens_BT, last_B1, 1)[:, 0] == eos
  return ended_B & (tokens_B > 1)


def match_choices(
  texts: types.Rollout, choices: types.Choices
) -> tuple[types.Array, types.Array]:
  """Returns the index of the choice that each text is, and whether it is one.

  A text matches a choice if both have the same tokens, EOS included.

  Args:
    texts: generated texts, `[B, T]`.
    choices: texts that are allowed, `[C, G]`.

  Returns:
    int32 `[B]`, 0 if no choice matches; bool `[B]`.
  """
  size_B = texts.length_B - texts.prompt_length_B
  place_G = jnp.arange(choices.text_CG.shape[1])
  at_BG = texts.prompt_length_B[:, None] + place_G[None]
  generated_BG = jnp.take_along_axis(
    texts.tokens_BT, jnp.minimum(at_BG, texts.tokens_BT.shape[1] - 1), 1
  )
  padding_CG = place_G[None] >= choices.length_C[:, None]
  equal_BC = jnp.all(
    (generated_BG[:, None] == choices.text_CG[None]) | padding_CG[None], -1
  )
  equal_BC &= size_B[:, None] == choices.length_C[None]
  return jnp.argmax(equal_BC, 1), jnp.any(equal_BC, 1)


def pairwise_equal(
  tokens_BT: types.Array, length_B: types.Array
) -> types.Array:
  """Returns whether texts i and j have the same tokens, bool `[B, B]`."""
  place = jnp.arange(tokens_BT.shape[1])[None]
  valid_BT = jnp.where(place < length_B[:, None], tokens_BT, -1)
  return jnp.all(valid_BT[:, None] == valid_BT[None], -1)

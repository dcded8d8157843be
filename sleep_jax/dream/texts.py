"""TODO: dream.texts (from phases.curriculum)."""

import jax.numpy as jnp

from sleep_jax import types


def is_usable(texts, eos):
  """Whether a text says something and, with `eos`, comes to its end."""
  tokens_B = texts.length_B - texts.prompt_length_B
  if eos is None:
    return tokens_B > 0
  last_B1 = jnp.maximum(texts.length_B - 1, 0)[:, None]
  ended_B = jnp.take_along_axis(texts.tokens_BT, last_B1, 1)[:, 0] == eos
  return ended_B & (tokens_B > 1)


def chosen(
  texts: types.Rollout, choices: types.Choices
) -> tuple[types.Array, types.Array]:
  """Which choice each text is, `[B]`, and whether it is one."""
  size_B = texts.length_B - texts.prompt_length_B
  place_G = jnp.arange(choices.text_CG.shape[1])
  at_BG = texts.prompt_length_B[:, None] + place_G[None]
  said_BG = jnp.take_along_axis(
    texts.tokens_BT, jnp.minimum(at_BG, texts.tokens_BT.shape[1] - 1), 1
  )
  beyond_CG = place_G[None] >= choices.length_C[:, None]
  alike_BC = jnp.all(
    (said_BG[:, None] == choices.text_CG[None]) | beyond_CG[None], -1
  )
  alike_BC &= size_B[:, None] == choices.length_C[None]
  return jnp.argmax(alike_BC, 1), jnp.any(alike_BC, 1)


def same(tokens_BT: types.Array, length_B: types.Array) -> types.Array:
  """Whether two texts are the same, `[B, B]`."""
  place = jnp.arange(tokens_BT.shape[1])[None]
  said_BT = jnp.where(place < length_B[:, None], tokens_BT, -1)
  return jnp.all(said_BT[:, None] == said_BT[None], -1)

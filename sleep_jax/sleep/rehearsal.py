"""TODO: sleep.rehearsal (from phases.night)."""

import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.sleep import settings as settings_lib


def empty_rollout(
  num: int, settings: settings_lib.Settings, *, document: int = 0
) -> types.Rollout:
  """Room for sequences, `[num, max_length]`, behind documents or not."""
  context = None
  if document:
    context = types.Texts(
      tokens_BT=jnp.zeros((num, document), jnp.int32),
      length_B=jnp.ones((num,), jnp.int32),
    )
  return types.Rollout(
    tokens_BT=jnp.zeros((num, settings.max_length), jnp.int32),
    prompt_length_B=jnp.zeros((num,), jnp.int32),
    length_B=jnp.zeros((num,), jnp.int32),
    context=context,
  )

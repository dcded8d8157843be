"""Documents in front of a sequence that only a teacher reads.

The difference between the model with a document in its window and the model
without it is the knowledge of the context window (level 0). A teacher samples
and scores with the document in front; the student sees the sequence alone.

References: 2606.03979 v2 section 3.3 (from in-context to parametric);
self-study, 2506.06266.
"""

import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def prepend_to_rollout(rollout: types.Rollout) -> types.Rollout:
  """Returns sequences with their documents in front, as a teacher reads them.

  BOS opens the document; the BOS of the sequence is left out. A rollout
  without documents is returned as it is.
  """
  context = rollout.context
  if context is None:
    return rollout
  more_B = context.length_B - 1
  return types.Rollout(
    tokens_BT=_prepend(context, rollout.tokens_BT),
    prompt_length_B=rollout.prompt_length_B + more_B,
    length_B=rollout.length_B + more_B,
  )


def prepend_to_prompts(prompts: types.Prompts) -> types.Prompts:
  """Returns prompts with their documents in front, if they have any."""
  context = prompts.context
  if context is None:
    return prompts
  return types.Prompts(
    tokens_BP=_prepend(context, prompts.tokens_BP),
    length_B=prompts.length_B + context.length_B - 1,
    subject_B2=jnp.zeros_like(prompts.subject_B2),
  )


def remove_from_rollout(
  rollout: types.Rollout, context: types.Texts | None, *, width: int
) -> types.Rollout:
  """Returns sequences without their documents, as the student reads them.

  Args:
    rollout: documents and sequences.
    context: the documents; None returns the rollout as it is.
    width: tokens of a resulting row.
  """
  if context is None:
    return rollout
  less_B = context.length_B - 1
  place = jnp.arange(width)[None]
  # Place 0 is the BOS that opened the document.
  at_BT = jnp.where(place == 0, 0, place + less_B[:, None])
  at_BT = jnp.minimum(at_BT, rollout.tokens_BT.shape[1] - 1)
  return types.Rollout(
    tokens_BT=jnp.take_along_axis(rollout.tokens_BT, at_BT, 1),
    prompt_length_B=rollout.prompt_length_B - less_B,
    length_B=jnp.minimum(rollout.length_B - less_B, width),
    context=context,
  )


def _prepend(context: types.Texts, tokens_BT: Array) -> Array:
  length_B1, tokens = context.length_B[:, None], context.tokens_BT
  # One place more than needed, so that a mesh that divides both widths also
  # divides their sum.
  size = tokens.shape[1] + tokens_BT.shape[1]
  place = jnp.arange(size)[None]
  own = jnp.clip(place - length_B1 + 1, 0, tokens_BT.shape[1] - 1)
  own_BT = jnp.take_along_axis(tokens_BT, own, 1)
  padded_BT = jnp.pad(tokens, ((0, 0), (0, tokens_BT.shape[1])))
  return jnp.where(place < length_B1, padded_BT, own_BT)

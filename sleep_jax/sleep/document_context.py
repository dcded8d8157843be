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

  BOS opens the document; the BOS of the sequence is left out, or as many
  tokens as the document replaces. A rollout without documents is returned as it
  is.
  """
  context = rollout.context
  if context is None:
    return rollout
  more_B = context.length_B - _replaced(context)
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
    length_B=prompts.length_B + context.length_B - _replaced(context),
    subject_B2=jnp.zeros_like(prompts.subject_B2),
  )


def remove_from_rollout(
  rollout: types.Rollout, prompts: types.Prompts, *, width: int
) -> types.Rollout:
  """Returns sequences without their documents, as the student reads them.

  Args:
    rollout: documents and sequences.
    prompts: the prompts without documents in front; if they have no documents,
      the rollout is returned as it is.
    width: tokens of a resulting row.
  """
  context = prompts.context
  if context is None:
    return rollout
  replaced_B = _replaced(context)
  less_B = context.length_B - replaced_B
  place = jnp.arange(width)[None]
  at_BT = jnp.clip(place + less_B[:, None], 0, rollout.tokens_BT.shape[1] - 1)
  rest_BT = jnp.take_along_axis(rollout.tokens_BT, at_BT, 1)
  own = jnp.minimum(place, prompts.tokens_BP.shape[1] - 1)
  own_BT = jnp.take_along_axis(
    prompts.tokens_BP, jnp.broadcast_to(own, rest_BT.shape), 1
  )
  return types.Rollout(
    tokens_BT=jnp.where(place < replaced_B[:, None], own_BT, rest_BT),
    prompt_length_B=rollout.prompt_length_B - less_B,
    length_B=jnp.minimum(rollout.length_B - less_B, width),
    context=context,
    states_BGD=rollout.states_BGD,
  )


def count_tokens(rollout: types.Rollout) -> tuple[Array, Array]:
  """Returns the numbers of generated tokens, and of those of the prompts.

  Documents in front of the prompts count as read with them.
  """
  whole = prepend_to_rollout(rollout)
  prompted = jnp.sum(whole.prompt_length_B)
  return jnp.sum(whole.length_B) - prompted, prompted


def zeros(num: int, width: int) -> types.Texts:
  """Allocates documents of one token.

  Args:
    num: number of documents.
    width: of each, in tokens.
  """
  return types.Texts(
    tokens_BT=jnp.zeros((num, width), jnp.int32),
    length_B=jnp.ones((num,), jnp.int32),
  )


def empty(num: int, *, like: types.Texts) -> types.Texts:
  """Allocates documents of one token, of the width and structure of others."""
  found = zeros(num, like.tokens_BT.shape[1])
  if like.replaces_B is None:
    return found
  return found.replace(replaces_B=jnp.ones((num,), jnp.int32))


def _replaced(context: types.Texts) -> Array:
  """Returns how many tokens of a prompt each document stands for."""
  if context.replaces_B is None:
    return jnp.ones_like(context.length_B)
  return context.replaces_B


def _prepend(context: types.Texts, tokens_BT: Array) -> Array:
  length_B1, tokens = context.length_B[:, None], context.tokens_BT
  # One place more than needed, so that a mesh that divides both widths also
  # divides their sum.
  size = tokens.shape[1] + tokens_BT.shape[1]
  place = jnp.arange(size)[None]
  own = place - length_B1 + _replaced(context)[:, None]
  own = jnp.clip(own, 0, tokens_BT.shape[1] - 1)
  own_BT = jnp.take_along_axis(tokens_BT, own, 1)
  padded_BT = jnp.pad(tokens, ((0, 0), (0, tokens_BT.shape[1])))
  return jnp.where(place < length_B1, padded_BT, own_BT)

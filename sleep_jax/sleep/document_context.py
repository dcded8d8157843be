"""Context: a document in front of a sequence, which only a teacher reads.

What the model can say with a document in its window, and not without, is what
the context window (level 0) knows. A teacher writes and judges with the
document in front; the student has the sequence alone.

References: 2606.03979 v2 section 3.3 (from in-context to parametric);
self-study, 2506.06266.
"""

import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.sleep import settings as settings_lib

Array = types.Array


def read(rollout: types.Rollout) -> types.Rollout:
  """A sequence with its document in front, as a teacher sees it.

  BOS opens the document; that of the sequence is left out.
  """
  context = rollout.context
  if context is None:
    return rollout
  more_B = context.length_B - 1
  return types.Rollout(
    tokens_BT=_joined(context, rollout.tokens_BT),
    prompt_length_B=rollout.prompt_length_B + more_B,
    length_B=rollout.length_B + more_B,
  )


def asked(prompts: types.Prompts) -> types.Prompts:
  """Prompts with their documents in front."""
  context = prompts.context
  if context is None:
    return prompts
  return types.Prompts(
    tokens_BP=_joined(context, prompts.tokens_BP),
    length_B=prompts.length_B + context.length_B - 1,
    subject_B2=jnp.zeros_like(prompts.subject_B2),
  )


def write(
  model: sampling.Cached,
  weights: types.Weights,
  prompts: types.Prompts,
  key: Array,
  *,
  settings: settings_lib.Settings,
  eos: int,
  temperature: float,
) -> types.Rollout:
  """What is written on prompts, behind their documents if they have any."""
  whole = asked(prompts)
  more = whole.tokens_BP.shape[1] - prompts.tokens_BP.shape[1]
  written = sampling.sample(
    model, weights, whole, key, max_length=more + settings.max_length,
    max_new=settings.max_new, eos=eos, temperature=temperature,
  )  # fmt: skip
  return taken_off(written, prompts.context, width=settings.max_length)


def taken_off(
  written: types.Rollout, context: types.Texts | None, *, width: int
) -> types.Rollout:
  """What was written behind a document, as the student sees it.

  Args:
    written: the document and the sequence.
    context: the document.
    width: tokens of the result.
  """
  if context is None:
    return written
  less_B = context.length_B - 1
  place = jnp.arange(width)[None]
  # Place 0 is the BOS that opened the document.
  at_BT = jnp.where(place == 0, 0, place + less_B[:, None])
  at_BT = jnp.minimum(at_BT, written.tokens_BT.shape[1] - 1)
  return types.Rollout(
    tokens_BT=jnp.take_along_axis(written.tokens_BT, at_BT, 1),
    prompt_length_B=written.prompt_length_B - less_B,
    length_B=jnp.minimum(written.length_B - less_B, width),
    context=context,
  )


def _joined(context: types.Texts, tokens_BT: Array) -> Array:
  length_B1, tokens = context.length_B[:, None], context.tokens_BT
  # A place more than is read: a mesh that divides both divides it.
  size = tokens.shape[1] + tokens_BT.shape[1]
  place = jnp.arange(size)[None]
  own = jnp.clip(place - length_B1 + 1, 0, tokens_BT.shape[1] - 1)
  own_BT = jnp.take_along_axis(tokens_BT, own, 1)
  padded_BT = jnp.pad(tokens, ((0, 0), (0, tokens_BT.shape[1])))
  return jnp.where(place < length_B1, padded_BT, own_BT)

"""Samples continuations of prompts that may have a document in front.

References: 2606.03979 v2 section 3.3 (from in-context to parametric).
"""

from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.sleep import document_context
from sleep_jax.sleep import settings as settings_lib

Array = types.Array


def sample(
  model: sampling.CachedModel,
  weights: types.Weights,
  prompts: types.Prompts,
  key: Array,
  *,
  settings: settings_lib.Settings,
  eos: int,
  temperature: float,
  keep_states: bool = False,
) -> types.Rollout:
  """Samples on prompts, with their documents in front if they have any.

  Args:
    model: with `prefill` and `decode`.
    weights: of the model that writes.
    prompts: may have documents in `context`.
    key: consumed.
    settings: of the night, for `max_length` and `max_new`.
    eos: token id that ends a sequence.
    temperature: of sampling.
    keep_states: see `sampling.sample`.

  Returns:
    The sequences without the documents, which are kept in `context`.
  """
  with_document = document_context.prepend_to_prompts(prompts)
  more = with_document.tokens_BP.shape[1] - prompts.tokens_BP.shape[1]
  rollout = sampling.sample(
    model, weights, with_document, key, max_length=more + settings.max_length,
    max_new=settings.max_new, eos=eos, temperature=temperature,
    keep_states=keep_states,
  )  # fmt: skip
  return document_context.remove_from_rollout(
    rollout, prompts, width=settings.max_length
  )

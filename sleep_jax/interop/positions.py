"""The number of positions that a pretrained model was made for."""

from collections.abc import Sequence

from sleep_jax import errors
from sleep_jax.interop import hf_config, open_model


def max_positions(loaded: open_model.LoadedModel) -> int | None:
  """Returns max_position_embeddings, or None for a model pretrained here.

  A field that config.json lacks has the default of transformers.
  """
  if loaded.base_model is None:
    return None
  config = loaded.base_model.config
  family = hf_config.FAMILIES.get(str(config.get('model_type')))
  default = family.max_positions if family else None
  return config.get('max_position_embeddings', default)


def check(
  loaded: open_model.LoadedModel,
  prompts: Sequence[Sequence[int]],
  max_new: int,
) -> None:
  """Refuses prompts that leave no room for new tokens.

  Rotary positions go on beyond the largest one that the model was trained with,
  but what it writes there is worthless.

  Args:
    loaded: the model.
    prompts: tokens of each prompt.
    max_new: most tokens that follow.

  Raises:
    UsageError: a prompt is empty, or too long.
  """
  limit = max_positions(loaded)
  for number, prompt in enumerate(prompts, 1):
    if not prompt:
      raise errors.UsageError(
        f'Prompt {number} has no tokens: give a text that is not empty.'
      )
    if limit is not None and len(prompt) + max_new > limit:
      raise errors.UsageError(
        f'Prompt {number} has {len(prompt)} tokens, and {max_new} may follow '
        f'(max_new), but the model has {limit} positions '
        '(max_position_embeddings in config.json). Shorten the prompt or '
        'max_new; in a chat, /sleep empties the context. If the model was '
        'trained for more positions, correct config.json.'
      )

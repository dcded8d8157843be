"""How a pretrained model reads conversations: in its chat template, if any."""

import datetime

from sleep_jax import errors, types
from sleep_jax.data import chat_rows, chat_template
from sleep_jax.interop import hf_checkpoint, hf_tokenizer

# What a template that writes the date of today writes into rows. Rows that were
# learned must have the same tokens at every start.
DATE_OF_ROWS = datetime.datetime(2025, 1, 1)


def load_writer(
  base_model: hf_checkpoint.HfCheckpoint | None, tokenizer: types.Tokenizer
) -> chat_rows.Writer | None:
  """Returns what writes conversations in the chat template of a model.

  Args:
    base_model: the checkpoint; None for a model that was pretrained here.
    tokenizer: its tokenizer.

  Returns:
    The writer, or None if the model has no template: conversations are then
    read in the plain format of `datasets.conversations`.

  Raises:
    ModelFileError: the template cannot be used.
  """
  if base_model is None:
    return None
  ends = hf_tokenizer.end_tokens(base_model, tokenizer)
  try:
    template = chat_template.ChatTemplate(
      str(base_model.folder),
      ends,
      date=DATE_OF_ROWS,
      vocab_size=base_model.vocab_size,
    )
  except errors.MissingFileError:
    return None
  return chat_rows.Writer(template)

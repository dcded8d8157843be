"""Decodes generated tokens to text incrementally, for streaming output.

A token can end in the middle of a UTF-8 character, and many tokenizers decode
the first token of a text differently from a later one. Text is therefore held
back until its last character is complete, and decoded together with a few of
the tokens before it.
"""

from sleep_jax import types

_REPLACEMENT = '\ufffd'  # Decoders write it for incomplete characters.
_NUM_CONTEXT = 4  # Emitted tokens that new ones are decoded with.


class Detokenizer:
  """Incremental decoder; its pieces add up to the text of all tokens."""

  def __init__(self, tokenizer: types.Tokenizer):
    self._tokenizer = tokenizer
    self._tokens: list[int] = []
    self._num_emitted = 0  # Tokens whose text has been returned.

  def add(self, token: int) -> str:
    """Adds a token and returns the text it completes, '' if there is none."""
    self._tokens.append(token)
    text = self._pending()
    if text.endswith(_REPLACEMENT):
      return ''
    self._num_emitted = len(self._tokens)
    return text

  def end(self) -> str:
    """Returns the text that is still held back, complete or not."""
    text = self._pending()
    self._num_emitted = len(self._tokens)
    return text

  def _pending(self) -> str:
    """Returns the text of the tokens that have not been emitted."""
    first = max(self._num_emitted - _NUM_CONTEXT, 0)
    before = self._tokenizer.decode(self._tokens[first : self._num_emitted])
    whole = self._tokenizer.decode(self._tokens[first:])
    return whole[len(before) :]

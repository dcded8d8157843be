"""TODO: data.detokenizer (from decoding)."""

from sleep_jax.data import tokenizer as tokenizer_lib

_BROKEN = '\ufffd'
_BEFORE = 4  # Tokens that a piece of text is decoded behind.


class Detokenizer:
  """Text of tokens as they come; all pieces together are the text of all.

  A piece is held back while its last character lacks bytes.
  """

  def __init__(self, tokenizer: tokenizer_lib.Tokenizer):
    self._words = tokenizer
    self._known: list[int] = []
    self._shown = 0  # Tokens whose text has been handed out.

  def add(self, token: int) -> str:
    """The text that is complete with one more token; '' if none is."""
    self._known.append(token)
    text = self._rest()
    if text.endswith(_BROKEN):
      return ''
    self._shown = len(self._known)
    return text

  def end(self) -> str:
    """What was held back."""
    text = self._rest()
    self._shown = len(self._known)
    return text

  def _rest(self) -> str:
    """Text of tokens not shown yet, decoded behind those before them.

    What opens a text is decoded otherwise than what goes on with it.
    """
    first = max(self._shown - _BEFORE, 0)
    before = self._words.decode(self._known[first : self._shown])
    whole = self._words.decode(self._known[first:])
    return whole[len(before) :]

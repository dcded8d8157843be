"""Encodes text as the `hf` model of lm-evaluation-harness does.

The names of special tokens in a text are tokens, because the harness puts
conversations into a chat template before it passes them on. BOS stands before a
text if the tokenizer's file says so; `add_bos_token` overrides it.

References: lm_eval 0.4.13, `models/huggingface.py`; transformers 5.24, of which
the harness uses the tokenizers.
"""

import pathlib
from collections.abc import Sequence

import tokenizers
from tokenizers import processors

from sleep_jax import errors
from sleep_jax.data import template_files
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import open_model

# What transformers takes if tokenizer_config.json does not name a token.
_DEFAULTS = {
  'LlamaTokenizer': ('<s>', '</s>'), 'LlamaTokenizerFast': ('<s>', '</s>'),
  'GemmaTokenizer': ('<bos>', '<eos>'),
  'GemmaTokenizerFast': ('<bos>', '<eos>'),
  'Qwen2Tokenizer': (None, '<|endoftext|>'),
  'Qwen2TokenizerFast': (None, '<|endoftext|>'),
}  # fmt: skip
_MAX_LENGTH = 10**9  # A larger model_max_length means that there is no limit.


class EvalTokenizer:
  """Encodes the texts of requests.

  Args:
    loaded: the model.
    add_bos_token: whether BOS stands before each text. None: as the file of the
      tokenizer says; a model that was pretrained here has one.
    prefix_token_id: token before a text of which all is scored. None: BOS, or
      EOS if the tokenizer has no BOS.
    truncation: whether contexts to be continued are cut to the tokenizer's
      `model_max_length`.

  Attributes:
    prefix_token_id: see above.
    eot_token_id: EOS.
    model_max_length: of tokenizer_config.json, or None.
  """

  def __init__(
    self,
    loaded: open_model.LoadedModel,
    *,
    add_bos_token: bool | None = None,
    prefix_token_id: int | None = None,
    truncation: bool = False,
  ):
    self._own, self._add_bos_token = loaded.tokenizer, add_bos_token
    self._truncation = truncation
    self._raw: tokenizers.Tokenizer | None = None
    bos, self.eot_token_id = loaded.tokenizer.bos, loaded.tokenizer.eos
    self._bos: int | None = bos
    self.model_max_length: int | None = None
    if isinstance(loaded.tokenizer, tokenizer_lib.HuggingFace):
      self._raw = loaded.tokenizer.raw()
      self._raw.no_padding()
      self._raw.no_truncation()
      if loaded.base_model is not None:
        self._read_config(loaded.base_model.folder)
      if add_bos_token is not None:
        self._replace_bos(add_bos_token)
    self.prefix_token_id = self._prefix(prefix_token_id, loaded)
    self._prefix_text = self.decode([self.prefix_token_id])

  @property
  def eos_text(self) -> str:
    """The text of EOS, which is a stop string; '' if it has none."""
    return self.decode([self.eot_token_id])

  def encode(
    self, text: str, *, add_special_tokens: bool | None = None
  ) -> list[int]:
    """Encodes a text.

    Args:
      text: the text.
      add_special_tokens: whether BOS and the like are put around it. None: as
        configured, but not if the text begins with the prefix token.
    """
    if add_special_tokens is None:
      if self._raw is not None and text.startswith(self._prefix_text):
        add_special_tokens = False
      else:
        add_special_tokens = self._adds_special_tokens()
    return self._encode(text, add_special_tokens)

  def encode_context(self, text: str) -> list[int]:
    """Encodes a context that is continued."""
    begun = (
      self._raw is not None
      and self._bos is not None
      and text.startswith(self.decode([self._bos]))
    )
    return self._encode(
      text, not begun and self._adds_special_tokens(), self._truncation
    )

  def decode(
    self, ids: Sequence[int], *, skip_special_tokens: bool = False
  ) -> str:
    """Returns the text of tokens."""
    if self._raw is None:
      return self._own.decode(ids)
    return self._raw.decode(list(ids), skip_special_tokens=skip_special_tokens)

  def _adds_special_tokens(self) -> bool:
    return True if self._add_bos_token is None else self._add_bos_token

  def _encode(self, text, add_special_tokens, truncation=False) -> list[int]:
    if self._raw is None:
      bos = [self._own.bos] if add_special_tokens else []
      return bos + self._own.encode(text)
    if truncation and self.model_max_length is not None:
      self._raw.enable_truncation(
        self.model_max_length, direction=self._truncation_side
      )
    try:
      return self._raw.encode(text, add_special_tokens=add_special_tokens).ids
    finally:
      self._raw.no_truncation()

  def _read_config(self, home: pathlib.Path) -> None:
    """Reads what tokenizer_config.json says, if there is one."""
    config = template_files.read_json(home / template_files.CONFIG)
    length = config.get('model_max_length')
    if isinstance(length, int | float) and 0 < length < _MAX_LENGTH:
      self.model_max_length = int(length)
    self._truncation_side = config.get('truncation_side', 'right')
    if not config:
      return
    assert self._raw is not None
    tokens = template_files.special_tokens(home, config)
    defaults = _DEFAULTS.get(str(config.get('tokenizer_class')), (None, None))
    bos, eos = (
      self._raw.token_to_id(name) if name is not None else None
      for name in (
        tokens.get(field, None if field in config else default)
        for field, default in zip(
          ('bos_token', 'eos_token'), defaults, strict=True
        )
      )
    )
    self._bos = bos
    self.eot_token_id = self.eot_token_id if eos is None else eos

  def _replace_bos(self, add_bos_token: bool) -> None:
    """Replaces the special tokens that the file puts around a text."""
    assert self._raw is not None
    if add_bos_token and self._bos is None:
      raise errors.UsageError(
        'add_bos_token=True, but tokenizer_config.json has no "bos_token": '
        'leave the option out.'
      )
    single, special = '$A', []
    if add_bos_token:
      name = self._raw.id_to_token(self._bos)
      single, special = f'{name} $A', [(name, self._bos)]
    self._raw.post_processor = processors.TemplateProcessing(
      single=single, special_tokens=special
    )

  def _prefix(self, chosen: int | None, loaded) -> int:
    found = chosen
    if found is None:
      found = self.eot_token_id if self._bos is None else self._bos
    if not 0 <= found < loaded.tokenizer.vocab_size:
      raise errors.UsageError(
        f'prefix_token_id={found}: expected a token id from 0 to '
        f'{loaded.tokenizer.vocab_size - 1}.'
      )
    return found

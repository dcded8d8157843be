"""Tokenizers: UTF-8 bytes, a trained BPE, or a Hugging Face tokenizer.json.

None of them needs a download. A run saves its tokenizer beside its checkpoints.
No tokenizer encodes text as a special token, so no input can contain BOS or
EOS: bytes and BPE number them after the vocabulary of the text, and the
Hugging Face tokenizer reads the names of special tokens as plain text.

The BPE is byte-level, so no text is unknown, and puts a space before every
piece of text. A word is therefore the same token at the start of a text, in its
middle, and at the start of a response.

References:
  Sennrich et al. 2016, arXiv 1508.07909; byte-level as in GPT-2.
"""

import hashlib
import json
import re
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from sleep_jax import errors
from sleep_jax.data import control_tokens
from sleep_jax.storage import workdir

Offsets = list[tuple[int, int]]  # Characters [start, end) of each token.
_FILE = 'tokenizer.json'
_MAX_WORD = 1024  # Characters of a word that a BPE is trained on.
# Runs of letters and digits, of other signs, and of white space. A longer word
# of the byte-level BPE is within one. The lookbehind makes the search linear.
_LONG_WORD = re.compile(
  '|'.join(
    rf'(?<!{kind}){kind}{{{_MAX_WORD + 1},}}'
    for kind in (r'\w', r'[^\w\s]', r'\s')
  )
)


class Bytes:
  """Encodes UTF-8 bytes; 256 is BOS and 257 is EOS."""

  kind = 'bytes'
  vocab_size = 258
  bos = 256
  eos = 257
  fingerprint = 'bytes'

  def encode(self, text: str) -> list[int]:
    """Returns the token ids of a text, without BOS and EOS."""
    return list(text.encode())

  def encode_continuation(self, text: str) -> list[int]:
    """Returns the token ids of a text that follows another."""
    return self.encode(text)

  def encode_prompt(self, text: str) -> list[int]:
    """Returns the token ids of a text to continue, BOS first."""
    return [self.bos, *self.encode(text)]

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Returns the token ids and the characters [start, end) of each."""
    offsets = []
    for index, character in enumerate(text):
      offsets += [(index, index + 1)] * len(character.encode())
    return self.encode(text), offsets

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of tokens, without BOS and EOS."""
    return bytes(i for i in ids if i < self.bos).decode(errors='replace')

  def special_token(self, token: int) -> str | None:
    """Returns the name of a special token, or None for another token."""
    return {self.bos: BOS, self.eos: EOS}.get(token)

  def save(self, folder: str) -> None:
    """Writes the tokenizer to a folder, for `load`."""
    _write(folder, {'kind': self.kind})


BOS, EOS = '<bos>', '<eos>'  # Their names in an exported tokenizer.


class Bpe:
  """Byte-level BPE; BOS and EOS are the last two ids."""

  kind = 'bpe'

  def __init__(self, model: str):
    """Reads the JSON text of a `tokenizers.Tokenizer`."""
    self._model = model
    self._tokenizer = tokenizers.Tokenizer.from_str(model)
    self.bos = self._tokenizer.get_vocab_size()
    self.eos = self.bos + 1
    self.vocab_size = self.bos + 2
    self.fingerprint = hashlib.sha256(model.encode()).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the token ids of a text, without BOS and EOS."""
    return self._tokenizer.encode(text).ids

  def encode_continuation(self, text: str) -> list[int]:
    """Returns the token ids of a text that follows another."""
    return self.encode(text)

  def encode_prompt(self, text: str) -> list[int]:
    """Returns the token ids of a text to continue, BOS first."""
    return [self.bos, *self.encode(text)]

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Returns the token ids and the characters [start, end) of each.

    The space before a word is not part of the word's span. If the space is a
    token of its own, its span is the character after it, so that it stays with
    its word.
    """
    encoding = self._tokenizer.encode(text)
    return encoding.ids, [
      (start, max(end, start + 1)) for start, end in encoding.offsets
    ]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of tokens with its leading space, no BOS, no EOS."""
    return self._tokenizer.decode([i for i in ids if i < self.bos])

  def special_token(self, token: int) -> str | None:
    """Returns the name of a special token, or None for another token."""
    return {self.bos: BOS, self.eos: EOS}.get(token)

  def to_hugging_face(self) -> tokenizers.Tokenizer:
    """Returns an equal tokenizer for export.

    BOS and EOS are special tokens there, and BOS is put before every text.
    """
    exported = tokenizers.Tokenizer.from_str(self._model)
    exported.add_special_tokens([BOS, EOS])
    add_bos = processors.TemplateProcessing(
      single=f'{BOS} $A', special_tokens=[(BOS, self.bos)]
    )
    exported.post_processor = processors.Sequence(
      [processors.ByteLevel(trim_offsets=True), add_bos]
    )
    return exported

  def save(self, folder: str) -> None:
    """Writes the tokenizer to a folder, for `load`."""
    _write(folder, {'kind': self.kind, 'model': self._model})


class HuggingFace:
  """Tokenizer from a Hugging Face tokenizer.json.

  Special tokens in a text are encoded as plain text.
  """

  kind = 'huggingface'

  def __init__(
    self,
    model: str,
    *,
    bos: int,
    eos: int,
    vocab_size: int,
    parsed: tokenizers.Tokenizer | None = None,
  ):
    """Reads a tokenizer.

    Args:
      model: JSON text of a tokenizer.json.
      bos: id of the model's BOS.
      eos: id of the model's EOS.
      vocab_size: rows of the model's embedding.
      parsed: what `model` describes, which belongs to this object then; None
        parses it here, 0.1 seconds for 49,000 tokens.
    """
    self._model = model
    if parsed is None:
      parsed = tokenizers.Tokenizer.from_str(model)
    self._tokenizer = parsed
    self._tokenizer.encode_special_tokens = True
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self.bos, self.eos, self.vocab_size = bos, eos, vocab_size
    inside = control_tokens.encode_inside(parsed, 'a')
    self._adds_space = self.encode('a') != inside.ids
    self.fingerprint = hashlib.sha256(
      f'{model}{bos} {eos}'.encode()
    ).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the token ids of a text, without BOS and EOS."""
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def encode_continuation(self, text: str) -> list[int]:
    """Returns the token ids of a text that follows another.

    Some tokenizers put a space before every text, as that of Llama 2 does,
    which the second of two texts must not have.
    """
    if not self._adds_space:
      return self.encode(text)
    return control_tokens.encode_inside(self._tokenizer, text).ids

  def encode_prompt(self, text: str) -> list[int]:
    """Returns the token ids of a text to continue, as transformers encodes it.

    The file says which special tokens stand around a text; many have none. A
    text without tokens is BOS alone.
    """
    ids = self._tokenizer.encode(text, add_special_tokens=True).ids
    return ids or [self.bos]

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Returns the token ids and the characters [start, end) of each."""
    encoding = self._tokenizer.encode(text, add_special_tokens=False)
    return encoding.ids, [
      (start, max(end, start + 1)) for start, end in encoding.offsets
    ]

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of tokens, without special tokens."""
    return self._tokenizer.decode(list(ids))

  def raw(self) -> tokenizers.Tokenizer:
    """Returns a copy as the file describes it.

    It reads the names of special tokens as tokens, and adds the special tokens
    that the file puts around a text.
    """
    return tokenizers.Tokenizer.from_str(self._model)

  def special_token(self, token: int) -> str | None:
    """Returns the name of a special token, or None for another token."""
    added = self._tokenizer.get_added_tokens_decoder().get(token)
    return added.content if added is not None and added.special else None

  def save(self, folder: str) -> None:
    """Writes the tokenizer to a folder, for `load`."""
    sizes = {'bos': self.bos, 'eos': self.eos, 'vocab_size': self.vocab_size}
    _write(folder, {'kind': self.kind, 'model': self._model, **sizes})


Tokenizer = Bytes | Bpe | HuggingFace


def make(
  kind: str, texts: Iterable[str] = (), vocab_size: int = 1024
) -> Tokenizer:
  """Returns a tokenizer, trained on texts if its kind needs training.

  Args:
    kind: 'bytes' or 'bpe'.
    texts: pretraining text.
    vocab_size: largest vocabulary of a BPE, BOS and EOS included. It is smaller
      if the texts have nothing more to merge.

  Raises:
    ConfigError: the kind is unknown or the vocabulary too small.
  """
  if kind == 'bytes':
    return Bytes()
  if kind != 'bpe':
    raise errors.ConfigError(
      f"config.tokenizer.kind is {kind!r}: expected 'bytes' or 'bpe'."
    )
  if vocab_size < 258:
    raise errors.ConfigError(
      f'config.tokenizer.vocab_size is {vocab_size}: expected 258 or more, '
      'because a byte-level BPE has 256 bytes, BOS and EOS.'
    )
  trained = tokenizers.Tokenizer(models.BPE())
  trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
  trained.post_processor = processors.ByteLevel(trim_offsets=True)
  trained.decoder = decoders.ByteLevel()
  trained.train_from_iterator(
    map(_split_long_words, texts),
    trainers.BpeTrainer(
      vocab_size=vocab_size - 2,
      min_frequency=2,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False,
    ),
  )
  return Bpe(trained.to_str())


def _split_long_words(text: str) -> str:
  """Returns a text in which no word is longer than `_MAX_WORD`.

  Training takes quadratic time in the length of a word, such as 5 MB of base64.
  """
  return _LONG_WORD.sub(_split_word, text) if len(text) > _MAX_WORD else text


def _split_word(match: re.Match[str]) -> str:
  word = match.group()
  starts = range(0, len(word), _MAX_WORD)
  # White space is a word too, so a space would not split it.
  separator = 'a' if word.isspace() else ' '
  return separator.join(word[start : start + _MAX_WORD] for start in starts)


def load(folder: str) -> Tokenizer:
  """Reads the tokenizer that `save` wrote to a folder.

  Raises:
    MissingFileError: the folder has no tokenizer.
    ModelFileError: its file cannot be read.
  """
  path = workdir.path(folder) / _FILE
  if not path.exists():
    raise errors.MissingFileError(
      f'{path} does not exist: a run saves its tokenizer there when it is '
      'pretrained. Pass the folder of a pretrained run.'
    )
  try:
    saved = json.loads(path.read_text(encoding='utf-8'))
    if saved['kind'] == Bytes.kind:
      return Bytes()
    if saved['kind'] == HuggingFace.kind:
      sizes = {name: saved[name] for name in ('bos', 'eos', 'vocab_size')}
      return HuggingFace(saved['model'], **sizes)
    return Bpe(saved['model'])
  except (ValueError, KeyError, TypeError) as error:
    raise errors.ModelFileError(
      f'{path} is not a tokenizer of this project ({error}): restore the file, '
      'or delete the run and start it again.'
    ) from error


def _write(folder: str, content: dict) -> None:
  text = json.dumps(content, ensure_ascii=False)
  workdir.write_text(workdir.path(folder) / _FILE, text)

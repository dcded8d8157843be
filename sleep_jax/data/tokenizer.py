"""Tokenizers that need no download: bytes, a BPE trained on birth text, a file.

A run saves its tokenizer beside its checkpoints. Neither kind ever reads a
special token out of text: BOS and EOS are numbers past the vocabulary of the
text, so no input can forge them.

The BPE is byte-level (nothing is unknown) and opens every piece of text with a
space, so a word is the same token at the start of a text, in its middle, and
at the start of a response.

References:
  Sennrich et al. 2016, arXiv 1508.07909; byte-level as in GPT-2.
"""

import hashlib
import json
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from sleep_jax.storage import workdir

Offsets = list[tuple[int, int]]
_FILE = 'tokenizer.json'


class Bytes:
  """UTF-8 bytes; 256 is BOS and 257 is EOS."""

  kind = 'bytes'
  vocab_size = 258
  bos = 256
  eos = 257
  fingerprint = 'bytes'

  def encode(self, text: str) -> list[int]:
    """Token numbers of a text, without BOS and EOS."""
    return list(text.encode())

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Token numbers, and the characters [start, end) behind each."""
    offsets = []
    for place, character in enumerate(text):
      offsets += [(place, place + 1)] * len(character.encode())
    return self.encode(text), offsets

  def decode(self, ids: Iterable[int]) -> str:
    """Text of tokens; BOS and EOS are left out."""
    return bytes(i for i in ids if i < self.bos).decode(errors='replace')

  def save(self, folder: str) -> None:
    """Writes what `load` needs into a folder."""
    _write(folder, {'kind': self.kind})


BOS, EOS = '<bos>', '<eos>'  # As others are told of them.


class Bpe:
  """A byte-level BPE; BOS and EOS are the last two numbers."""

  kind = 'bpe'

  def __init__(self, model: str):
    """Makes one from the JSON text of a `tokenizers.Tokenizer`."""
    self._model = model
    self._tokenizer = tokenizers.Tokenizer.from_str(model)
    self.bos = self._tokenizer.get_vocab_size()
    self.eos = self.bos + 1
    self.vocab_size = self.bos + 2
    self.fingerprint = hashlib.sha256(model.encode()).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Token numbers of a text, without BOS and EOS."""
    return self._tokenizer.encode(text).ids

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Token numbers, and the characters [start, end) behind each.

    The space that opens a word is no part of its span. Where that space is
    a token of its own, it counts as the character after it, so that it stays
    with its word.
    """
    encoding = self._tokenizer.encode(text)
    return encoding.ids, [
      (start, max(end, start + 1)) for start, end in encoding.offsets
    ]

  def decode(self, ids: Iterable[int]) -> str:
    """Text of tokens, with the space that opens it; no BOS, no EOS."""
    return self._tokenizer.decode([i for i in ids if i < self.bos])

  def to_hugging_face(self) -> tokenizers.Tokenizer:
    """The same with BOS and EOS as special tokens, BOS before every text."""
    made = tokenizers.Tokenizer.from_str(self._model)
    made.add_special_tokens([BOS, EOS])
    first = processors.TemplateProcessing(
      single=f'{BOS} $A', special_tokens=[(BOS, self.bos)]
    )
    made.post_processor = processors.Sequence([
      processors.ByteLevel(trim_offsets=True), first
    ])  # fmt: skip
    return made

  def save(self, folder: str) -> None:
    """Writes what `load` needs into a folder."""
    _write(folder, {'kind': self.kind, 'model': self._model})


class HuggingFace:
  """A tokenizer.json as Hugging Face saves it, with its model's BOS and EOS.

  Special tokens that stand in a text are read as plain text.
  """

  kind = 'huggingface'

  def __init__(self, model: str, *, bos: int, eos: int, vocab_size: int):
    """Args: model the JSON text; vocab_size rows of the model's embedding."""
    self._model = model
    self._tokenizer = tokenizers.Tokenizer.from_str(model)
    self._tokenizer.encode_special_tokens = True
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self.bos, self.eos, self.vocab_size = bos, eos, vocab_size
    self.fingerprint = hashlib.sha256(
      f'{model}{bos} {eos}'.encode()
    ).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Token numbers of a text, without BOS and EOS."""
    return self._tokenizer.encode(text, add_special_tokens=False).ids

  def encode_offsets(self, text: str) -> tuple[list[int], Offsets]:
    """Token numbers, and the characters [start, end) behind each."""
    encoding = self._tokenizer.encode(text, add_special_tokens=False)
    return encoding.ids, [
      (start, max(end, start + 1)) for start, end in encoding.offsets
    ]

  def decode(self, ids: Iterable[int]) -> str:
    """Text of tokens; special ones are left out."""
    return self._tokenizer.decode(list(ids))

  def save(self, folder: str) -> None:
    """Writes what `load` needs into a folder."""
    about = {'bos': self.bos, 'eos': self.eos, 'vocab_size': self.vocab_size}
    _write(folder, {'kind': self.kind, 'model': self._model, **about})


Tokenizer = Bytes | Bpe | HuggingFace


def make(
  kind: str, texts: Iterable[str] = (), vocab_size: int = 1024
) -> Tokenizer:
  """A tokenizer, trained on texts where its kind needs training.

  Args:
    kind: 'bytes' or 'bpe'.
    texts: birth text.
    vocab_size: the most tokens a BPE may have, BOS and EOS included; it
      stays below where the texts hold nothing more to merge.
  """
  if kind == 'bytes':
    return Bytes()
  if kind != 'bpe':
    raise ValueError(f"Tokenizer kind {kind!r}: use 'bytes' or 'bpe'.")
  if vocab_size < 258:
    raise ValueError(
      f'A byte-level BPE needs 256 bytes, BOS and EOS, but vocab_size is '
      f'{vocab_size}: set it to 258 or more.'
    )
  trained = tokenizers.Tokenizer(models.BPE())
  trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
  trained.post_processor = processors.ByteLevel(trim_offsets=True)
  trained.decoder = decoders.ByteLevel()
  trained.train_from_iterator(
    texts,
    trainers.BpeTrainer(
      vocab_size=vocab_size - 2,
      min_frequency=2,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
      show_progress=False,
    ),
  )
  return Bpe(trained.to_str())


def load(folder: str) -> Tokenizer:
  """Reads the tokenizer that `save` wrote into a folder."""
  path = workdir.path(folder) / _FILE
  if not path.exists():
    raise FileNotFoundError(
      f'{path} does not exist: a run saves its tokenizer there at birth. '
      'Point at the folder of a run that was born.'
    )
  try:
    saved = json.loads(path.read_text(encoding='utf-8'))
    if saved['kind'] == Bytes.kind:
      return Bytes()
    if saved['kind'] == HuggingFace.kind:
      about = {name: saved[name] for name in ('bos', 'eos', 'vocab_size')}
      return HuggingFace(saved['model'], **about)
    return Bpe(saved['model'])
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path} is no tokenizer of this project ({error}): delete the run and '
      'start it again, or restore the file.'
    ) from error


def _write(folder: str, content: dict) -> None:
  text = json.dumps(content, ensure_ascii=False)
  workdir.write_text(workdir.path(folder) / _FILE, text)

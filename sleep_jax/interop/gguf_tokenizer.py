"""Builds a tokenizer.json from the vocabulary in a GGUF file's metadata.

Two kinds are read: byte-level BPE ('gpt2'), whose pre-tokenizer is known by a
name, and SentencePiece BPE ('llama'), whose merges follow from the scores of
its pieces. Control tokens become special tokens; tokens that a user defined are
found in texts too, but are not special.
"""

import collections
import dataclasses
import pathlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import (
  decoders,
  models,
  normalizers,
  pre_tokenizers,
  processors,
)

from sleep_jax import errors
from sleep_jax.interop import hf_fields

_PREFIX = 'tokenizer.ggml.'
# Types of tokens.
_NORMAL, _UNKNOWN, _CONTROL, _USER, _BYTE = 1, 2, 3, 4, 6
SPACE = '\u2581'  # Stands for a space in SentencePiece.
# Splits of byte-level BPE, by Llama 3 and by Qwen 2: contractions, words, up to
# three digits or one, other signs, and white space.
_SPLIT = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}|"
  r' ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
LLAMA3_SPLIT = _SPLIT.format(digits=r'\p{N}{1,3}')
QWEN2_SPLIT = _SPLIT.format(digits=r'\p{N}')
# Pre-tokenizers with the same splits -> how ours is named.
_PRE = {
  'gpt-2': 'gpt-2', 'default': 'gpt-2', 'smollm': 'smollm',
  'llama-bpe': 'llama-bpe', 'llama3': 'llama-bpe', 'llama-v3': 'llama-bpe',
  'qwen2': 'qwen2', 'deepseek-r1-qwen': 'qwen2',
}  # fmt: skip
# Tokens that end a text in llama.cpp, whatever the metadata says.
_ENDS = {
  '<|endoftext|>', '<|end_of_text|>', '<|im_end|>', '<|eot_id|>', '<|eom_id|>',
  '<|end|>', '<end_of_turn>', '<end_of_utterance>', '<EOT>', '_<EOT>',
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """The vocabulary of a GGUF file.

  Attributes:
    tokens: text of each token.
    kinds: type of each token.
    bos, eos, pad, unknown: ids of special tokens; None if there is none.
    ends: ids of all tokens that end a text.
  """

  tokens: Sequence[str]
  kinds: Sequence[int]
  bos: int | None
  eos: int
  pad: int | None
  unknown: int | None
  ends: Sequence[int]


def read_vocabulary(
  metadata: Mapping[str, Any], path: pathlib.Path
) -> Vocabulary:
  """Returns the vocabulary, after checking it.

  Raises:
    ModelFileError: the file has no tokenizer, or a damaged one. The message
      names the metadata key.
  """
  tokens = _list(metadata, 'tokens', str, path)
  if len(set(tokens)) < len(tokens):
    counts = collections.Counter(tokens)
    twice = next(token for token, n in counts.items() if n > 1)
    _fail(metadata, 'tokens', path, f'no token twice, found {twice!r} twice')
  kinds = [_NORMAL] * len(tokens)
  if f'{_PREFIX}token_type' in metadata:
    kinds = _list(metadata, 'token_type', int, path, len(tokens))

  def token_id(name):
    key = f'{_PREFIX}{name}_token_id'
    found = metadata.get(key)
    if found is not None and (
      type(found) is not int or not 0 <= found < len(tokens)
    ):
      hf_fields.fail(path, key, found, f'a token below {len(tokens)}')
    return found

  eos = token_id('eos')
  if eos is None:
    _fail(metadata, 'eos_token_id', path, 'the token that ends a text')
  ends = [eos, token_id('eot'), token_id('eom')]
  ends += [number for number, token in enumerate(tokens) if token in _ENDS]
  return Vocabulary(
    tokens, kinds, token_id('bos'), eos, token_id('padding'),
    token_id('unknown'),
    list(dict.fromkeys(end for end in ends if end is not None)),
  )  # fmt: skip


def build(
  metadata: Mapping[str, Any], vocabulary: Vocabulary, path: pathlib.Path
) -> tokenizers.Tokenizer:
  """Returns the tokenizer.

  Args:
    metadata: of the file.
    vocabulary: its vocabulary.
    path: the file, for messages.

  Raises:
    ModelFileError: the kind of tokenizer is not supported, or it is damaged.
  """
  kind = metadata.get(f'{_PREFIX}model')
  if kind == 'gpt2':
    made, adds_bos = _byte_level(metadata, vocabulary, path)
  elif kind == 'llama':
    made, adds_bos = _sentence_piece(metadata, vocabulary, path)
  else:
    _fail(
      metadata, 'model', path,
      "'gpt2' (byte-level BPE) or 'llama' (SentencePiece)",
    )  # fmt: skip
  _add_tokens(made, vocabulary)
  bos, eos = (
    _flag(metadata, f'add_{name}_token', default, path)
    for name, default in (('bos', adds_bos), ('eos', False))
  )
  if bos and vocabulary.bos is None:
    _fail(metadata, 'bos_token_id', path, 'the token that starts each text')
  _add_ends(made, vocabulary, bos=bos, eos=eos)
  return made


def _byte_level(metadata, vocabulary, path):
  """Returns a byte-level BPE, and whether BOS starts a text by default."""
  name = metadata.get(f'{_PREFIX}pre', 'default')
  if not isinstance(name, str) or name not in _PRE:
    _fail(
      metadata, 'pre', path,
      f'one of {tuple(_PRE)}; use a model with one of these tokenizers',
    )  # fmt: skip
  if name == 'default':
    warnings.warn(
      f'{path}: {_PREFIX}pre does not name the pre-tokenizer, so texts are '
      'split as by GPT-2. Convert the model again with a current llama.cpp if '
      'its tokenizer is another one.',
      errors.ModelFileWarning,
      stacklevel=2,
    )
  pairs = []
  for merge in _list(metadata, 'merges', str, path):
    left, _, right = merge.partition(' ')
    pairs.append((left, right))
  ids = {token: number for number, token in enumerate(vocabulary.tokens)}
  for pair in pairs:
    if not all(part in ids for part in (*pair, ''.join(pair))):
      _fail(
        metadata, 'merges', path,
        f'merges of tokens, found {" ".join(pair)!r}; download it again',
      )  # fmt: skip
  made = tokenizers.Tokenizer(
    models.BPE(
      ids, pairs, fuse_unk=False, byte_fallback=False,
      ignore_merges=_PRE[name] == 'llama-bpe',
    )
  )  # fmt: skip
  made.normalizer, made.pre_tokenizer = splits(_PRE[name])
  made.decoder = decoders.ByteLevel()
  return made, _PRE[name] == 'llama-bpe'


def splits(
  name: str,
) -> tuple[normalizers.Normalizer | None, pre_tokenizers.PreTokenizer]:
  """Returns normalizer and pre-tokenizer of a byte-level BPE.

  Args:
    name: 'gpt-2', 'smollm', 'llama-bpe' or 'qwen2'.
  """
  bytes_alone = pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
  if name == 'gpt-2':
    return None, words
  if name == 'smollm':
    digits = pre_tokenizers.Digits(individual_digits=True)
    return None, pre_tokenizers.Sequence([digits, words])
  pattern = LLAMA3_SPLIT if name == 'llama-bpe' else QWEN2_SPLIT
  split = pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated')
  # Qwen's own tokenizer composes characters first.
  normalizer = normalizers.NFC() if name == 'qwen2' else None
  return normalizer, pre_tokenizers.Sequence([split, bytes_alone])


def _sentence_piece(metadata, vocabulary, path):
  """Returns a SentencePiece BPE, and whether BOS starts a text by default."""
  tokens, kinds = vocabulary.tokens, vocabulary.kinds
  scores = _list(metadata, 'scores', float, path, len(tokens))
  if _flag(metadata, 'remove_extra_whitespaces', False, path):
    _fail(
      metadata, 'remove_extra_whitespaces', path,
      'false; such tokenizers are not supported',
    )  # fmt: skip
  pieces = {
    token: (score, number)
    for number, (token, kind, score) in enumerate(
      zip(tokens, kinds, scores, strict=True)
    )
    if kind == _NORMAL
  }
  unknown = next((n for n, k in enumerate(kinds) if k == _UNKNOWN), None)
  if unknown is None:
    unknown = vocabulary.unknown or 0
  has_bytes = {
    token for token, k in zip(tokens, kinds, strict=True) if k == _BYTE
  }
  made = tokenizers.Tokenizer(
    models.BPE(
      {token: number for number, token in enumerate(tokens)}, merges(pieces),
      unk_token=tokens[unknown], fuse_unk=True,
      byte_fallback=len(has_bytes) == 256,
    )
  )  # fmt: skip
  prefix = _flag(metadata, 'add_space_prefix', True, path)
  replace = normalizers.Replace(' ', SPACE)
  made.normalizer = (
    normalizers.Sequence([normalizers.Prepend(SPACE), replace])
    if prefix
    else replace
  )
  steps = [
    decoders.Replace(SPACE, ' '), decoders.ByteFallback(), decoders.Fuse(),
  ]  # fmt: skip
  if prefix:
    steps.append(decoders.Strip(' ', 1, 0))
  made.decoder = decoders.Sequence(steps)
  return made, True


def merges(pieces: Mapping[str, tuple[float, int]]) -> list[tuple[str, str]]:
  """Returns merges which build pieces in the order of their scores.

  SentencePiece joins the neighbours whose piece has the highest score.

  Args:
    pieces: score and id of each piece.
  """
  ranked = []
  for piece, (score, number) in pieces.items():
    for cut in range(1, len(piece)):
      left, right = piece[:cut], piece[cut:]
      if left in pieces and right in pieces:
        # Of several ways to build a piece, the longest start comes first.
        order = (-score, -len(left), -len(right), number)
        ranked.append((order, left, right))
  ranked.sort()
  return [(left, right) for _, left, right in ranked]


def _add_tokens(made, vocabulary) -> None:
  """Marks special tokens, and those that are found in texts."""
  special = {vocabulary.bos, vocabulary.pad, *vocabulary.ends} - {None}
  added = []
  for number, kind in enumerate(vocabulary.kinds):
    is_special = kind in (_CONTROL, _UNKNOWN) or number in special
    if is_special or kind == _USER:
      added.append(
        tokenizers.AddedToken(
          vocabulary.tokens[number], special=is_special, normalized=False
        )
      )
  made.add_tokens(added)


def _add_ends(made, vocabulary, *, bos: bool, eos: bool) -> None:
  """Puts BOS before, and EOS after a text, if that is wanted."""
  byte_level = processors.ByteLevel(trim_offsets=False)
  steps = [byte_level] if isinstance(made.decoder, decoders.ByteLevel) else []
  ends = [
    vocabulary.bos if bos else None, vocabulary.eos if eos else None
  ]  # fmt: skip
  names = [
    None if end is None else (vocabulary.tokens[end], end) for end in ends
  ]
  if any(names):
    first, last = ([] if name is None else [name[0]] for name in names)
    steps.append(
      processors.TemplateProcessing(
        single=[*first, '$A', *last],
        special_tokens=[name for name in dict.fromkeys(names) if name],
      )
    )
  if steps:
    made.post_processor = processors.Sequence(steps)


def _flag(metadata, name, default, path) -> bool:
  return hf_fields.flag(metadata, f'{_PREFIX}{name}', default, path)


def _list(metadata, name, kind, path, size=None) -> list:
  """Returns a list of metadata whose items have one type."""
  found = metadata.get(f'{_PREFIX}{name}')
  if not isinstance(found, list) or not found or type(found[0]) is not kind:
    _fail(
      metadata, name, path,
      f'a list of {kind.__name__}; the file has no complete tokenizer: '
      'download it again, or use another file of this model',
    )  # fmt: skip
  if size is not None and len(found) != size:
    raise errors.ModelFileError(
      f'{path}: {_PREFIX}{name} has {len(found):,} items, but '
      f'{_PREFIX}tokens has {size:,}: the file is damaged; download it again.'
    )
  return found


def _fail(metadata, name, path, expected):
  """Raises the error for a metadata key of the tokenizer."""
  found = metadata.get(f'{_PREFIX}{name}')
  if not isinstance(found, list):
    hf_fields.fail(path, f'{_PREFIX}{name}', found, expected)
  raise errors.ModelFileError(
    f'{path}: {_PREFIX}{name} is a list of {len(found):,} items: expected '
    f'{expected}.'
  )

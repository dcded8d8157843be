"""Converts a tokenizer.json to the metadata of a GGUF file.

The reverse of `gguf_tokenizer`. A GGUF file names its pre-tokenizer instead of
describing it, so only known ones can be written.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from sleep_jax import errors
from sleep_jax.interop import gguf_tokenizer

_NORMAL, _UNKNOWN, _CONTROL, _USER, _UNUSED, _BYTE = range(1, 7)
_SPLITS = ('gpt-2', 'smollm', 'llama-bpe', 'qwen2')
_SPACE = gguf_tokenizer.SPACE
_AT_ONCE = 64  # Tokens of a text that is compared.


def make(
  tokenizer: tokenizers.Tokenizer,
  *,
  bos: int | None,
  ends: Sequence[int],
  vocab_size: int,
) -> dict[str, Any]:
  """Returns the metadata, with keys as in the file.

  Args:
    tokenizer: as its tokenizer.json describes it.
    bos: id of BOS, which may be that of EOS; None if there is none.
    ends: ids of the tokens that end a text, EOS first.
    vocab_size: rows of the embedding; the rest of them get names.

  Raises:
    UsageError: GGUF cannot express this tokenizer. The message says why.
  """
  content = json.loads(tokenizer.to_str())
  model = content['model']
  if model.get('type') != 'BPE':
    raise errors.UsageError(
      f'tokenizer.json is of type {model.get("type")!r}: only BPE is '
      'written as GGUF. Export a Hugging Face directory instead.'
    )
  ids = tokenizer.get_vocab(with_added_tokens=True)
  names = {number: token for token, number in ids.items()}
  tokens = [names.get(n, f'[PAD{n}]') for n in range(vocab_size)]
  kinds = [_NORMAL if n in names else _UNUSED for n in range(vocab_size)]
  for added in content['added_tokens']:
    if added['id'] < vocab_size:
      kinds[added['id']] = _CONTROL if added['special'] else _USER
  if model['byte_fallback']:
    made = _sentence_piece(content, tokens, kinds, ids)
  else:
    made = _byte_level(content)
  first, last = _added_ends(tokenizer)
  made |= dict(tokens=tokens, token_type=kinds)
  made |= dict(eos_token_id=ends[0])
  made |= {} if bos is None else dict(bos_token_id=bos)
  made |= dict(add_bos_token=first == [bos], add_eos_token=last == ends[:1])
  # Others are recognised by their names, see `check`.
  made |= dict(zip(('eot_token_id', 'eom_token_id'), ends[1:], strict=False))
  return {f'tokenizer.ggml.{key}': value for key, value in made.items()}


def check(
  metadata: Mapping[str, Any],
  path: pathlib.Path,
  tokenizer: tokenizers.Tokenizer,
  *,
  ends: Sequence[int],
) -> None:
  """Compares a tokenizer with the one that is read back from a file.

  Args:
    metadata: of the file.
    path: the file, for messages.
    tokenizer: as its tokenizer.json describes it.
    ends: ids of the tokens that end a text.

  Raises:
    UsageError: they make other tokens of a text, or end it at others.
  """
  vocabulary = gguf_tokenizer.read_vocabulary(metadata, path)
  lost = [tokenizer.id_to_token(n) for n in {*ends} - {*vocabulary.ends}]
  if lost:
    raise errors.UsageError(
      f'GGUF has names for three tokens that end a text, and {lost[0]!r} is a '
      'further one. Export a Hugging Face directory instead.'
    )
  found = gguf_tokenizer.build(metadata, vocabulary, path)
  texts = _probes(tokenizer)
  both = zip(*(x.encode_batch(texts) for x in (tokenizer, found)), strict=True)
  for text, (wanted, made) in zip(texts, both, strict=True):
    if wanted.ids != made.ids:
      raise errors.UsageError(
        f'tokenizer.json splits {text[:60]!r} into {wanted.tokens[:12]}, and a '
        f'GGUF file would into {made.tokens[:12]}. Export a Hugging Face '
        'directory instead.'
      )


def _probes(tokenizer: tokenizers.Tokenizer) -> list[str]:
  """Returns texts: sentences, and all tokens one after the other."""
  ids = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
  words = tokenizer.decode_batch([[n] for n in ids], skip_special_tokens=False)
  parts = [words[n : n + _AT_ONCE] for n in range(0, len(words), _AT_ONCE)]
  return [
    '', 'a', ' a', 'In 2024, 12345 + 6 = 12351.', "It's  what?\n\n ok",
    'Größe, naïve: cafe\u0301 und 漢字, \U0001f600!',
    *(''.join(part) for part in parts), *(' '.join(part) for part in parts),
  ]  # fmt: skip


def _byte_level(content) -> dict[str, Any]:
  """Returns what only a byte-level BPE has."""
  parts = _plain(content['normalizer']), _plain(content['pre_tokenizer'])
  for name in _SPLITS:
    probe = tokenizers.Tokenizer(tokenizers.models.BPE())
    probe.normalizer, probe.pre_tokenizer = gguf_tokenizer.splits(name)
    known = json.loads(probe.to_str())
    if parts == (_plain(known['normalizer']), _plain(known['pre_tokenizer'])):
      merges = [
        pair if isinstance(pair, str) else ' '.join(pair)
        for pair in content['model']['merges']
      ]
      return dict(model='gpt2', pre=name, merges=merges)
  raise errors.UsageError(
    f'tokenizer.json has the pre-tokenizer {content["pre_tokenizer"]}, which '
    f'has no name in GGUF: expected that of one of {_SPLITS}. Export a Hugging '
    'Face directory instead.'
  )


def _plain(part: Any) -> Any:
  """Returns a part of a tokenizer.json without what changes no tokens."""
  if isinstance(part, list):
    return [_plain(one) for one in part]
  if not isinstance(part, Mapping):
    return part
  for name in ('normalizers', 'pretokenizers'):
    if len(part.get(name, ())) == 1:
      return _plain(part[name][0])
  defaults = {'use_regex': True} if part.get('type') == 'ByteLevel' else {}
  fields = defaults | {k: _plain(v) for k, v in part.items()}
  fields.pop('trim_offsets', None)
  return fields


def _sentence_piece(content, tokens, kinds, ids) -> dict[str, Any]:
  """Returns what only a SentencePiece BPE has; marks its bytes."""
  replace = {
    'type': 'Replace', 'pattern': {'String': ' '}, 'content': _SPACE,
  }  # fmt: skip
  prefix = {
    'type': 'Sequence',
    'normalizers': [{'type': 'Prepend', 'prepend': _SPACE}, replace],
  }
  normalizer = content['normalizer']
  if normalizer not in (replace, prefix):
    raise errors.UsageError(
      f'tokenizer.json has the normalizer {normalizer}: expected one that only '
      f'replaces spaces by {_SPACE!r}. Export a Hugging Face directory instead.'
    )
  for number in range(256):
    token = ids.get(f'<0x{number:02X}>')
    if token is not None:
      kinds[token] = _BYTE
  unknown = ids.get(content['model']['unk_token'])
  if unknown is not None and kinds[unknown] == _NORMAL:
    kinds[unknown] = _UNKNOWN
  # Pieces are joined in the order of their first merge.
  ranks: dict[str, int] = {}
  for rank, pair in enumerate(content['model']['merges']):
    pair = pair.split(' ') if isinstance(pair, str) else pair
    ranks.setdefault(''.join(pair), rank)
  normal = {t for t, kind in zip(tokens, kinds, strict=True) if kind == _NORMAL}
  for token in normal - ranks.keys():
    if any({token[:n], token[n:]} <= normal for n in range(1, len(token))):
      raise errors.UsageError(
        f'tokenizer.json never builds the token {token!r}, but a GGUF file '
        'would. Export a Hugging Face directory instead.'
      )
  scores = [
    -float(ranks.get(token, len(ranks) + n)) for n, token in enumerate(tokens)
  ]
  found = dict(
    model='llama', scores=scores, add_space_prefix=normalizer == prefix
  )  # fmt: skip
  return found | ({} if unknown is None else {'unknown_token_id': unknown})


def _added_ends(tokenizer) -> tuple[list[int], list[int]]:
  """Returns the tokens that are put before and after a text."""
  plain = tokenizer.encode('a', add_special_tokens=False).ids
  whole = tokenizer.encode('a').ids
  for at in range(len(whole)):
    if whole[at : at + len(plain)] == plain:
      return whole[:at], whole[at + len(plain) :]
  return [], []

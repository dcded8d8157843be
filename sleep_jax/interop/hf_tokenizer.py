"""Loads the tokenizer of a Hugging Face checkpoint, and its special tokens.

Every id that the tokenizer can produce must be a row of the embedding: a larger
one would be clamped to the last row without an error.
"""

import pathlib
import warnings
from typing import Any

import tokenizers

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_checkpoint, json_file


def load(base_model: hf_checkpoint.HfCheckpoint) -> tokenizer_lib.HuggingFace:
  """Loads the tokenizer of a checkpoint.

  If the checkpoint defines no BOS token, EOS is used as BOS.

  Raises:
    MissingFileError: tokenizer.json is missing.
    ModelFileError: tokenizer.json cannot be parsed, has tokens beyond the
      embedding, or no EOS token is defined.
  """
  path = base_model.folder / 'tokenizer.json'
  if not path.is_file():
    raise errors.MissingFileError(_no_tokenizer(base_model.folder))
  text = json_file.read_text(path)
  parsed = _parse(text, path)
  _check_ids(parsed, base_model, path)
  config_path = base_model.folder / 'tokenizer_config.json'
  config = hf_checkpoint.check_token_ids(config_path, base_model.vocab_size)
  eos, bos = (
    _special_token(base_model, parsed, name, config, config_path)
    for name in ('eos', 'bos')
  )
  if eos is None:
    raise errors.ModelFileError(
      f'{base_model.folder}: neither config.json nor tokenizer_config.json '
      'defines an EOS token: set eos_token_id in config.json.'
    )
  return tokenizer_lib.HuggingFace(
    text,
    bos=eos if bos is None else bos,
    eos=eos,
    vocab_size=base_model.vocab_size,
    parsed=parsed,
  )


def end_tokens(
  base_model: hf_checkpoint.HfCheckpoint, tokenizer: types.Tokenizer
) -> tuple[int, ...]:
  """Returns the ids of all tokens that end a generation.

  Raises:
    ModelFileError: generation_config.json names an id that is no token.
  """
  found = base_model.config.get('eos_token_id')
  override = hf_checkpoint.check_token_ids(
    base_model.folder / 'generation_config.json', base_model.vocab_size
  ).get('eos_token_id')
  found = found if override is None else override
  ids = found if isinstance(found, list) else [found]
  ends = [tokenizer.eos, *(end for end in ids if end is not None)]
  return tuple(dict.fromkeys(ends))


def _no_tokenizer(home: pathlib.Path) -> str:
  """Returns what to do with a directory without tokenizer.json."""
  other = [
    name for name in ('tokenizer.model', 'spiece.model', 'vocab.json')
    if (home / name).is_file()
  ]  # fmt: skip
  if not other:
    return (
      f'{home / "tokenizer.json"} does not exist: only fast tokenizers are '
      'supported. Download it.'
    )
  return (
    f'{home / "tokenizer.json"} does not exist, and {other[0]} is not read: '
    'only fast tokenizers are supported. Convert it with transformers: '
    'AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER).'
  )


def _parse(text: str, path: pathlib.Path) -> tokenizers.Tokenizer:
  """Parses a tokenizer.json."""
  try:
    return tokenizers.Tokenizer.from_str(text)
  except (KeyboardInterrupt, SystemExit):
    raise
  # The library raises nothing more specific; its panics are no `Exception`.
  except BaseException as error:
    raise errors.ModelFileError(
      f'{path} is not a valid tokenizer ({error}): download it again.'
    ) from error


def _check_ids(
  parsed: tokenizers.Tokenizer,
  base_model: hf_checkpoint.HfCheckpoint,
  path: pathlib.Path,
) -> None:
  """Checks that all tokens that occur in texts are rows of the embedding."""
  size = base_model.vocab_size
  beyond = {
    token: text
    for text, token in parsed.get_vocab(with_added_tokens=True).items()
    if token >= size
  }
  added = parsed.get_added_tokens_decoder()
  # Special tokens in a text are encoded as letters, so those are never used.
  # Gemma 3 has such a token, for images.
  unused = {n for n in beyond if n in added and added[n].special}
  if set(beyond) - unused:
    token = max(set(beyond) - unused)
    raise errors.ModelFileError(
      f'{path} has {parsed.get_vocab_size()} tokens, but the embedding of '
      f'{base_model.folder} has {size} rows: token {beyond[token]!r} has id '
      f'{token}. They belong to two models; use the tokenizer of this one.'
    )
  if unused:
    first = min(unused)
    others = f' and {len(unused) - 1} more' if len(unused) > 1 else ''
    warnings.warn(
      f'{path}: special token {beyond[first]!r} with id {first}{others} is '
      f'beyond the {size} rows of the embedding: it is read as plain text.',
      errors.ModelFileWarning,
      stacklevel=3,
    )


def _special_token(
  base_model: hf_checkpoint.HfCheckpoint,
  parsed: tokenizers.Tokenizer,
  name: str,
  config: dict[str, Any],
  path: pathlib.Path,
) -> int | None:
  """Returns a special token's id, or None.

  It is read from config.json, else from tokenizer_config.json.
  """
  found = base_model.config.get(f'{name}_token_id')
  if isinstance(found, list):
    found = found[0] if found else None
  token = config.get(f'{name}_token')
  if found is not None or token is None:
    return found
  text = token.get('content') if isinstance(token, dict) else token
  found = parsed.token_to_id(text) if isinstance(text, str) else None
  if found is None or found >= base_model.vocab_size:
    raise errors.ModelFileError(
      f'{path}: {name}_token is {text!r}: expected a token of tokenizer.json '
      f'with an id below {base_model.vocab_size}.'
    )
  return found

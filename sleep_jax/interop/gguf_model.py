"""Describes the model of a GGUF file like a Hugging Face model directory.

The description is made once and kept in the user's cache: config.json,
tokenizer.json, tokenizer_config.json with the chat template, and where each
tensor is in the file. Later starts then do not parse a vocabulary of up to
260,000 tokens again. The weights stay in the GGUF file.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import (
  gguf_config,
  gguf_file,
  gguf_names,
  gguf_tensor,
  gguf_tokenizer,
  hf_config,
  hf_fields,
  json_file,
)
from sleep_jax.storage import user_cache, workdir

# Raised when descriptions are written differently.
_VERSION = 2
_TENSORS = 'tensors.json'
SUFFIX = '.gguf'


def is_file(path: workdir.Folder) -> bool:
  """Returns whether a path names a GGUF file on disk, which may be missing."""
  if not isinstance(path, pathlib.Path):  # In a bucket, see `workdir`.
    return False
  return path.name.lower().endswith(SUFFIX) and not path.is_dir()


def describe(path: pathlib.Path) -> pathlib.Path:
  """Returns the folder that describes the model of a file; makes it if needed.

  Raises:
    MissingFileError: there is no such file.
    ModelFileError: the model is not supported. The message names the field.
    StorageError: the file is damaged, or the cache cannot be written to.
    MissingPackageError: the package gguf is not installed.
  """
  path = path.resolve()
  if not path.is_file():
    raise errors.MissingFileError(
      f'{path} does not exist: expected a GGUF file.'
    )
  state = path.stat()
  parts = [str(path), state.st_size, state.st_mtime_ns, _VERSION]
  digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
  home = user_cache.folder('gguf', digest[:32])
  if not home.is_dir():
    header = gguf_file.read(path)
    files = _files(header)
    user_cache.add(home, lambda part: _write(part, files))
  return home


def tensors(path: pathlib.Path) -> dict[str, gguf_tensor.GgufTensor]:
  """Returns the tensors of a file by their names in transformers."""
  gguf_tensor.library()
  path = path.resolve()
  table = json_file.read(describe(path) / _TENSORS)
  return {
    name: gguf_tensor.GgufTensor(
      path=path, **fields | {'shape': tuple(fields['shape'])}
    )
    for name, fields in table.items()
  }


def _write(folder: pathlib.Path, files: dict[str, str]) -> None:
  for name, text in files.items():
    (folder / name).write_text(text, encoding='utf-8')


def _files(header: gguf_file.Header) -> dict[str, str]:
  """Returns the text of each file of a description."""
  config, path = gguf_config.make(header), header.path
  found = gguf_names.find(header.tensors, config, path)
  words = gguf_tokenizer.read_vocabulary(header.metadata, path)
  config |= {'bos_token_id': words.bos, 'eos_token_id': list(words.ends)}
  hf_config.model_settings(config, path)  # Refuses now what it cannot read.
  if len(words.tokens) > config['vocab_size']:
    raise errors.ModelFileError(
      f'{path}: tokenizer.ggml.tokens has {len(words.tokens):,} tokens, but '
      f'tensor {gguf_names.EMBEDDING!r} has {config["vocab_size"]:,} rows: the '
      'file is damaged; download it again.'
    )
  tokenizer = gguf_tokenizer.build(header.metadata, words, path)
  names = {'bos': words.bos, 'eos': words.eos, 'pad': words.pad}
  settings: dict[str, Any] = {
    f'{name}_token': words.tokens[number]
    for name, number in names.items()
    if number is not None
  }
  template = header.metadata.get('tokenizer.chat_template')
  if template is not None and not isinstance(template, str):
    hf_fields.fail(path, 'tokenizer.chat_template', template, 'a text')
  if template:
    settings['chat_template'] = template
  return {
    'config.json': json.dumps(config, indent=2),
    'tokenizer.json': tokenizer.to_str(),
    'tokenizer_config.json': json.dumps(
      {'tokenizer_class': 'PreTrainedTokenizerFast'} | settings, indent=2
    ),
    _TENSORS: json.dumps({name: _fields(t) for name, t in found.items()}),
  }


def _fields(tensor: gguf_tensor.GgufTensor) -> dict[str, Any]:
  fields = dataclasses.asdict(tensor)
  del fields['path']  # The folder is found by it.
  return fields

"""Reads the description of a Hugging Face checkpoint.

A checkpoint is a directory with `config.json`, `tokenizer.json` and one or
several safetensors files, or a GGUF file, which `gguf_model` describes as such
a directory. Nothing else is read: no pickle, no code from the checkpoint, no
network. `weight_files` finds the tensors, `hf_import` loads them,
`hf_tokenizer` loads the tokenizer, `hf_config` lists the supported
architectures, and `hf_names` maps the tensor names.
"""

import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import (
  gguf_model,
  hf_config,
  hf_fields,
  json_file,
  tensor_file,
  weight_files,
)
from sleep_jax.storage import known_models

_SIZES = (
  'vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
  'num_attention_heads', 'num_key_value_heads', 'head_dim',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class HfCheckpoint:
  """Description of a checkpoint whose weights are not loaded yet.

  Attributes:
    source: its directory or GGUF file.
    folder: its directory; of a GGUF file, the directory that describes it.
    config: content of config.json; `tie_word_embeddings` is False if the
      weights have a head of their own.
    settings: the fields of `model.config.Model` that config.json determines.
    vocab_size: rows of the embedding.
    hidden: hidden units of a block's MLP, which becomes the slowest level.
    weights: where its tensors are.
  """

  source: pathlib.Path
  folder: pathlib.Path
  config: Mapping[str, Any]
  settings: Mapping[str, Any]
  vocab_size: int
  hidden: int
  weights: weight_files.WeightFiles


def read(folder: str, *, weights: bool = True) -> HfCheckpoint:
  """Reads the description of a checkpoint, and no tensor unless it must.

  It must where config.json ties the head to the embedding and the files contain
  both: as in transformers, they are tied if they are equal.

  Args:
    folder: Hugging Face model directory, GGUF file, or the name of a known
      model.
    weights: whether the directory must contain weights. If False, `weights` of
      the result is empty.

  Raises:
    MissingFileError: a file is missing. The message names it.
    ModelFileError: the architecture, or one of its options, is not supported.
      The message names the field of config.json.
    StorageError: a weights file is damaged.
  """
  source = known_models.locate(folder)
  is_gguf = gguf_model.is_file(source)
  home = gguf_model.describe(source) if is_gguf else source
  path = home / 'config.json'
  config = hf_config.text_config(read_config(home), path)
  found = weight_files.WeightFiles({})
  if weights:
    found = (
      weight_files.WeightFiles(gguf_model.tensors(source))
      if is_gguf
      else weight_files.find(home)
    )
    _check_sizes(config, found, path)
  settings = hf_config.model_settings(config, path)
  if settings['tied'] and found.tensors:
    found, tied = _resolve_tie(found, path)
    if not tied:
      config = config | {'tie_word_embeddings': False}
      settings = settings | {'tied': False}
  vocab_size = hf_fields.positive_int(config, 'vocab_size', path)
  check_token_ids(home / 'generation_config.json', vocab_size)
  return HfCheckpoint(
    source=source,
    folder=home,
    config=config,
    settings=settings,
    vocab_size=vocab_size,
    hidden=hf_fields.positive_int(config, 'intermediate_size', path),
    weights=found,
  )


def read_config(home: pathlib.Path) -> dict[str, Any]:
  """Returns the content of a folder's config.json.

  Args:
    home: the folder, or a GGUF file.

  Raises:
    MissingFileError: there is no config.json.
    ModelFileError: it is not valid JSON, or the folder is an adapter.
  """
  if gguf_model.is_file(home):
    home = gguf_model.describe(home)
  path = home / 'config.json'
  if not path.is_file():
    weight_files.refuse_adapter(home)
    raise errors.MissingFileError(
      f'{path} does not exist: expected a Hugging Face model directory '
      '(config.json, safetensors, tokenizer.json), a .gguf file, or the work '
      'directory of a run.'
    )
  return json_file.read(path)


def check_token_ids(path: pathlib.Path, vocab_size: int) -> dict[str, Any]:
  """Returns a JSON file after checking its ids of special tokens.

  Args:
    path: the file; {} is returned if it does not exist.
    vocab_size: rows of the embedding.

  Raises:
    ModelFileError: an id is no row of the embedding. The message names it.
  """
  found = json_file.read(path) if path.is_file() else {}
  hf_fields.check_token_ids(found | {'vocab_size': vocab_size}, path)
  return found


def _check_sizes(config, found, path) -> None:
  """Refuses sizes that the weights cannot have, before anything uses them.

  The exact shapes are compared later, when there is a model. Until then, no
  array or list may be made of a size that a stranger chose.
  """
  total = sum(math.prod(t.shape) for t in found.tensors.values())
  for name in _SIZES:
    value = config.get(name)
    most = len(found.tensors) if name == 'num_hidden_layers' else total
    if type(value) is int and value > most:
      raise errors.ModelFileError(
        f'{path}: {name} is {value:,}, but the weights have '
        f'{len(found.tensors):,} tensors with {total:,} numbers in all: the '
        'directory mixes two models; download it again.'
      )


def _resolve_tie(
  found: weight_files.WeightFiles, path: pathlib.Path
) -> tuple[weight_files.WeightFiles, bool]:
  """Returns the tensors of a tied model, and whether it is really tied."""
  head, embedding = (
    found.tensors.get(name)
    for name in (weight_files.HEAD, weight_files.EMBEDDING)
  )
  if head is None:
    return found, True
  if embedding is None:
    tensors = dict(found.tensors) | {weight_files.EMBEDDING: head}
    return dataclasses.replace(found, tensors=tensors), True
  with tensor_file.Reader() as reader:
    if reader.same(head, embedding):
      return found, True
  warning = (
    f'{path}: tie_word_embeddings is true, but {head} differs from '
    f'{embedding.name!r}: the head is kept, as transformers does. Set '
    'tie_word_embeddings to false if that is meant, or delete the tensor.'
  )
  return dataclasses.replace(found, warnings=(*found.warnings, warning)), False

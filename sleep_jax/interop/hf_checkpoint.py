"""Reads the description and the tokenizer of a Hugging Face checkpoint.

A checkpoint is a directory with `config.json`, `tokenizer.json` and one or
several safetensors files. Nothing else is read: no pickle, no code from the
checkpoint, no network. `hf_import` loads the weights, `hf_config` lists the
supported architectures, and `hf_names` maps the tensor names.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import safetensors
import tokenizers

from sleep_jax import errors, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_config
from sleep_jax.storage import workdir

INDEX_FILE, WEIGHTS_FILE = 'model.safetensors.index.json', 'model.safetensors'
_PICKLE_PATTERNS = ('*.bin', '*.pt', '*.pth')
# NumPy names of the supported safetensors types.
DTYPES = {'F64': 'f8', 'F32': 'f4', 'F16': 'f2', 'BF16': 'bf16'}


@dataclasses.dataclass(frozen=True)
class HfCheckpoint:
  """Description of a checkpoint whose weights are not loaded yet.

  Attributes:
    folder: its directory.
    config: content of config.json.
    settings: the fields of `model.config.Model` that config.json determines.
    vocab_size: rows of the embedding.
    hidden: hidden units of a block's MLP, which becomes the slowest level.
    files: path of the file of each tensor.
  """

  folder: pathlib.Path
  config: Mapping[str, Any]
  settings: Mapping[str, Any]
  vocab_size: int
  hidden: int
  files: Mapping[str, pathlib.Path]


def read(folder: str, *, weights: bool = True) -> HfCheckpoint:
  """Reads the description of a checkpoint, but no tensor.

  Args:
    folder: Hugging Face model directory.
    weights: whether the directory must contain weights. If False, `files` of
      the result is empty.

  Raises:
    MissingFileError: a file is missing. The message names it.
    ModelFileError: the architecture, or one of its options, is not supported.
      The message names the field of config.json.
    StorageError: a weights file is damaged.
  """
  home = workdir.path(folder)
  path, config = home / 'config.json', read_config(home)
  return HfCheckpoint(
    folder=home,
    config=config,
    settings=hf_config.model_settings(config, path),
    vocab_size=hf_config.positive_int(config, 'vocab_size', path),
    hidden=hf_config.positive_int(config, 'intermediate_size', path),
    files=_tensor_files(home) if weights else {},
  )


def read_config(home: pathlib.Path) -> dict[str, Any]:
  """Returns the content of a folder's config.json.

  Raises:
    MissingFileError: there is no config.json.
    ModelFileError: it is not valid JSON.
  """
  path = home / 'config.json'
  if not path.is_file():
    raise errors.MissingFileError(
      f'{path} does not exist: expected a Hugging Face model directory '
      '(config.json, safetensors, tokenizer.json), or the work directory of a '
      'run.'
    )
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise errors.ModelFileError(
      f'{path} is not valid JSON ({error}): download it again.'
    ) from error


def load_tokenizer(base_model: HfCheckpoint) -> tokenizer_lib.HuggingFace:
  """Loads the tokenizer of a checkpoint.

  If the checkpoint defines no BOS token, EOS is used as BOS.

  Raises:
    MissingFileError: tokenizer.json is missing.
    ModelFileError: tokenizer.json cannot be parsed, has more tokens than the
      embedding has rows, or no EOS token is defined.
  """
  path = base_model.folder / 'tokenizer.json'
  if not path.is_file():
    raise errors.MissingFileError(
      f'{path} does not exist: only fast tokenizers are supported. Convert it '
      'with transformers (AutoTokenizer.from_pretrained, save_pretrained).'
    )
  text = path.read_text(encoding='utf-8')
  try:
    parsed = tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # The library raises nothing more specific.
    raise errors.ModelFileError(
      f'{path} is not a valid tokenizer ({error}): download it again.'
    ) from error
  size = parsed.get_vocab_size()
  if size > base_model.vocab_size:
    raise errors.ModelFileError(
      f'{path} has {size} tokens, but the embedding of {base_model.folder} has '
      f'{base_model.vocab_size} rows: they belong to two models.'
    )
  eos, bos = (_special_token(base_model, parsed, name)
              for name in ('eos', 'bos'))  # fmt: skip
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
  )


def end_tokens(
  base_model: HfCheckpoint, tokenizer: types.Tokenizer
) -> tuple[int, ...]:
  """Returns the ids of all tokens that end a generation."""
  found = base_model.config.get('eos_token_id')
  path = base_model.folder / 'generation_config.json'
  if path.is_file():
    override = json.loads(path.read_text(encoding='utf-8')).get('eos_token_id')
    found = found if override is None else override
  ids = found if isinstance(found, list) else [found]
  return tuple({tokenizer.eos, *(end for end in ids if end is not None)})


def _special_token(base_model, parsed, name) -> int | None:
  """Returns a special token's id, or None.

  It is read from config.json, else from tokenizer_config.json.
  """
  found = base_model.config.get(f'{name}_token_id')
  if isinstance(found, list):
    found = found[0]
  path = base_model.folder / 'tokenizer_config.json'
  if found is None and path.is_file():
    token = json.loads(path.read_text(encoding='utf-8')).get(f'{name}_token')
    token = token['content'] if isinstance(token, dict) else token
    found = None if token is None else parsed.token_to_id(token)
  return found


def _tensor_files(home: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the path of each tensor's file, after opening every file."""
  index = home / INDEX_FILE
  if index.is_file():
    try:
      weight_map = json.loads(index.read_text(encoding='utf-8'))['weight_map']
    except (ValueError, KeyError) as error:
      raise errors.ModelFileError(
        f'{index} has no weight_map ({error}): download it again.'
      ) from error
    files = sorted(set(weight_map.values()))
  elif (home / WEIGHTS_FILE).is_file():
    files = [WEIGHTS_FILE]
  else:
    pickles = [
      path.name
      for pattern in _PICKLE_PATTERNS
      for path in sorted(home.glob(pattern))
    ]
    if pickles:
      raise errors.MissingFileError(
        f'{home} has only pickled weights ({pickles[0]}), which may run code '
        'when they are loaded: convert them to safetensors in an environment '
        'where that is acceptable.'
      )
    raise errors.MissingFileError(
      f'{home} has neither {WEIGHTS_FILE} nor {INDEX_FILE}: download the '
      'weights.'
    )
  found: dict[str, pathlib.Path] = {}
  for name in files:
    path = home / name
    if not path.is_file():
      raise errors.MissingFileError(
        f'{path} does not exist, but {INDEX_FILE} lists it: download it.'
      )
    try:
      with safetensors.safe_open(path, 'numpy') as tensors:
        found |= dict.fromkeys(tensors.keys(), path)
    except safetensors.SafetensorError as error:
      raise errors.StorageError(
        f'{path} is damaged or truncated ({error}): download it again.'
      ) from error
  return found

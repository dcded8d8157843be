"""Hugging Face checkpoints: a directory on disk becomes a host for levels.

`config.json`, safetensors in one file or several, nothing else: no pickle, no
code of a checkpoint, no network. Tensors are read slice by slice into the
arrays of the device, each device its own part, so that beside the loaded model
only one slice is ever held, and a part that is no larger.

Which families: `families`; where what lies in a checkpoint: `names`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import safetensors
import tokenizers

from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_config
from sleep_jax.storage import workdir

INDEX_FILE, WEIGHTS_FILE = 'model.safetensors.index.json', 'model.safetensors'
_PICKLED = ('*.bin', '*.pt', '*.pth')
DTYPES = {'F64': 'f8', 'F32': 'f4', 'F16': 'f2', 'BF16': 'bf16'}


@dataclasses.dataclass(frozen=True)
class HfCheckpoint:
  """A checkpoint, checked but not yet read.

  Attributes:
    folder: where it lies.
    config: its config.json.
    settings: fields of `model.config.Model` that it determines.
    vocab_size: rows of its embedding.
    hidden: hidden units of a block's MLP, the slowest level's own.
    files: tensor -> the file that holds it.
  """

  folder: pathlib.Path
  config: Mapping[str, Any]
  settings: Mapping[str, Any]
  vocab_size: int
  hidden: int
  files: Mapping[str, pathlib.Path]


def read(folder: str, *, weights: bool = True) -> HfCheckpoint:
  """Reads what a directory holds; no tensor yet.

  Args:
    weights: whether there must be some; else it is a description alone.

  Raises:
    FileNotFoundError: a file is missing; names it.
    ValueError: the architecture is not known, or a part of it is not; names
      the field of config.json.
  """
  home = workdir.path(folder)
  path, config = home / 'config.json', read_config(home)
  return HfCheckpoint(
    folder=home, config=config, settings=hf_config.model_settings(config, path),
    vocab_size=hf_config.positive_int(config, 'vocab_size', path),
    hidden=hf_config.positive_int(config, 'intermediate_size', path),
    files=_files(home) if weights else {},
  )  # fmt: skip


def read_config(home: pathlib.Path) -> dict[str, Any]:
  """What a folder's config.json says.

  Raises:
    FileNotFoundError, ValueError: it is not there, or is no JSON.
  """
  path = home / 'config.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} does not exist: expected a Hugging Face model directory '
      '(config.json, safetensors, tokenizer.json), or the work directory of a '
      'run.'
    )
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is no JSON ({error}): fetch it again.') from error


def load_tokenizer(base_model: HfCheckpoint) -> tokenizer_lib.HuggingFace:
  """The host's own tokenizer.

  Where the model knows no BOS, what ends its texts also opens them.

  Raises:
    FileNotFoundError: there is no tokenizer.json.
    ValueError: it is broken, has more tokens than the embedding has rows, or
      nothing says how a text ends.
  """
  path = base_model.folder / 'tokenizer.json'
  if not path.is_file():
    raise FileNotFoundError(
      f'{path} does not exist: only fast tokenizers are read. Save it once '
      'with transformers (AutoTokenizer ... save_pretrained).'
    )
  text = path.read_text(encoding='utf-8')
  try:
    known = tokenizers.Tokenizer.from_str(text)
  except Exception as error:  # The library raises nothing more exact.
    raise ValueError(f'{path} is no tokenizer ({error}).') from error
  size = known.get_vocab_size()
  if size > base_model.vocab_size:
    raise ValueError(
      f'{path} has {size} tokens, but the embedding of {base_model.folder} has '
      f'{base_model.vocab_size} rows: they belong to two models.'
    )
  eos, bos = (_special(base_model, known, name) for name in ('eos', 'bos'))
  if eos is None:
    raise ValueError(
      f'{base_model.folder}: neither config.json nor tokenizer_config.json '
      f'names an '
      'EOS token: set eos_token_id in config.json.'
    )
  return tokenizer_lib.HuggingFace(
    text,
    bos=eos if bos is None else bos,
    eos=eos,
    vocab_size=base_model.vocab_size,
  )


def end_tokens(
  base_model: HfCheckpoint, tokenizer: tokenizer_lib.Tokenizer
) -> tuple[int, ...]:
  """Tokens that end what the host says: there may be several."""
  found = base_model.config.get('eos_token_id')
  path = base_model.folder / 'generation_config.json'
  if path.is_file():
    more = json.loads(path.read_text(encoding='utf-8')).get('eos_token_id')
    found = found if more is None else more
  several = found if isinstance(found, list) else [found]
  return tuple({tokenizer.eos, *(end for end in several if end is not None)})


def _special(base_model, known, name) -> int | None:
  """Number of a special token: by config.json, or by the tokenizer's own."""
  found = base_model.config.get(f'{name}_token_id')
  if isinstance(found, list):
    found = found[0]
  path = base_model.folder / 'tokenizer_config.json'
  if found is None and path.is_file():
    token = json.loads(path.read_text(encoding='utf-8')).get(f'{name}_token')
    token = token['content'] if isinstance(token, dict) else token
    found = None if token is None else known.token_to_id(token)
  return found


def _files(home: pathlib.Path) -> dict[str, pathlib.Path]:
  """Tensor -> file, of one file or of the index of several."""
  index = home / INDEX_FILE
  if index.is_file():
    try:
      named = json.loads(index.read_text(encoding='utf-8'))['weight_map']
    except (ValueError, KeyError) as error:
      raise ValueError(
        f'{index} has no weight_map ({error}): fetch it again.'
      ) from error
    files = sorted(set(named.values()))
  elif (home / WEIGHTS_FILE).is_file():
    files = [WEIGHTS_FILE]
  else:
    pickled = [p.name for what in _PICKLED for p in sorted(home.glob(what))]
    if pickled:
      raise FileNotFoundError(
        f'{home} has only pickled weights ({pickled[0]}), which may run code '
        'as they are read: convert them to safetensors where you trust them.'
      )
    raise FileNotFoundError(
      f'{home} has neither {WEIGHTS_FILE} nor {INDEX_FILE}: fetch the weights.'
    )
  found: dict[str, pathlib.Path] = {}
  for name in files:
    path = home / name
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} does not exist, but {INDEX_FILE} names it: fetch it.'
      )
    try:
      with safetensors.safe_open(path, 'numpy') as opened:
        found |= dict.fromkeys(opened.keys(), path)
    except safetensors.SafetensorError as error:
      raise OSError(
        f'{path} is broken or cut short ({error}): fetch it again.'
      ) from error
  return found

"""Finds the tensors of a Hugging Face model directory, without reading them.

transformers 5.24 is followed: `model.safetensors` is read if it exists, else
all files that the index names, whatever else lies beside them. Names without
the prefix `model.`, and those of the text model within a multimodal model, are
the same tensors. What transformers passes over in silence is a warning here,
and where it would guess, an error.
"""

import dataclasses
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping

from sleep_jax import errors
from sleep_jax.interop import json_file, stored_tensor, tensor_file

INDEX_FILE, WEIGHTS_FILE = 'model.safetensors.index.json', 'model.safetensors'
EMBEDDING, HEAD = 'model.embed_tokens.weight', 'lm_head.weight'
ADAPTER_FILE = 'adapter_config.json'
_PICKLES = ('*.bin', '*.pt', '*.pth', '*.ckpt')
_SHARDS = 'model-*-of-*.safetensors'
# Prefixes in multimodal models of old and new versions, and in base models.
_PREFIXES = (
  ('language_model.model.', 'model.'),
  ('language_model.lm_head.', 'lm_head.'),
  ('model.language_model.', 'model.'),
  ('model.model.', 'model.'),
  ('model.lm_head.', 'lm_head.'),
  ('embed_tokens.', 'model.embed_tokens.'),
  ('layers.', 'model.layers.'),
  ('norm.', 'model.norm.'),
)
# Parts of names which only adapters, and only quantized models, have.
_ADAPTER_PARTS = re.compile(
  r'^base_model\.|\.lora_|\.base_layer\.|\.modules_to_save\.'
)
_QUANTIZED_PARTS = re.compile(
  r'\.(qweight|qzeros|g_idx|scales|absmax|quant_map|quant_state.*|SCB|'
  r'weight_(scale|scale_inv|zero_point|packed|shape|format)|input_scale)$'
)
# Tensors that old versions saved, and which are computed from config.json.
_COMPUTED = re.compile(r'\.rotary_emb\.inv_freq$')
_LAYER = re.compile(r'model\.layers\.(\d+)\.')
# The image part of a multimodal model.
_IMAGES = re.compile(
  r'^(model\.)?(vision_tower|vision_model|multi_modal_projector)\.'
)


@dataclasses.dataclass(frozen=True)
class WeightFiles:
  """Tensors of a directory.

  Attributes:
    tensors: by the names that a text model has in transformers.
    listed: file in which the index lists each tensor; empty without an index.
    warnings: what the user should know, one line each.
  """

  tensors: Mapping[str, stored_tensor.Tensor]
  listed: Mapping[str, str] = dataclasses.field(default_factory=dict)
  warnings: tuple[str, ...] = ()


def find(home: pathlib.Path) -> WeightFiles:
  """Returns the tensors of a directory after reading all headers.

  Raises:
    MissingFileError: there are no weights, or a file of the index is missing.
    ModelFileError: the weights are an adapter, quantized, or ambiguous.
    StorageError: a file is damaged.
  """
  refuse_adapter(home)
  single, index = home / WEIGHTS_FILE, home / INDEX_FILE
  listed: dict[str, str] = {}
  if single.is_file():
    files = [WEIGHTS_FILE]
  elif index.is_file():
    listed = _weight_map(index)
    files = sorted(set(listed.values()))
  else:
    raise errors.MissingFileError(_no_weights(home))
  tensors: dict[str, stored_tensor.Tensor] = {}
  with tensor_file.Reader() as reader:
    for name in files:
      _add(tensors, tensor_file.read_header(home / name)[0], reader)
  unread = sorted({path.name for path in home.glob(_SHARDS)} - set(files))
  warnings = []
  if single.is_file() and (index.is_file() or unread):
    warnings.append(
      f'{home}: {WEIGHTS_FILE} is read, as transformers does, and not '
      f'{INDEX_FILE} and the files beside it: delete those that are old.'
    )
  elif unread:
    warnings.append(
      f'{home}: {INDEX_FILE} does not list {_few(unread)}, which is not read: '
      'delete old files, or download the index again.'
    )
  listed = {canonical(name): file for name, file in listed.items()}
  absent = sorted(set(listed) - set(tensors))
  if absent:
    warnings.append(
      f'{index}: no file contains {_few(absent)}, which it lists and '
      'which the model does not need.'
    )
  return WeightFiles(tensors, listed, tuple(warnings))


def refuse_adapter(home: pathlib.Path) -> None:
  """Refuses the directory of a LoRA adapter.

  Raises:
    ModelFileError: the directory has the config of an adapter.
  """
  path = home / ADAPTER_FILE
  if path.is_file():
    raise errors.ModelFileError(
      f'{path}: this directory is an adapter (LoRA) of another model, '
      f'{_base_of(path)}. {_MERGE}. If the weights here are merged already, '
      f'delete {ADAPTER_FILE}.'
    )


_MERGE = (
  'Merge it with peft, model.merge_and_unload(), write the result with '
  'model.save_pretrained(FOLDER), and name that folder'
)


def _base_of(path: pathlib.Path) -> str:
  """Returns which model an adapter belongs to, as its config says."""
  name = json_file.read(path).get('base_model_name_or_path')
  return repr(name) if name else 'which it does not name'


def canonical(name: str) -> str:
  """Returns the name that a tensor has in a text model of transformers."""
  for prefix, replacement in _PREFIXES:
    if name.startswith(prefix):
      return replacement + name.removeprefix(prefix)
  return name


def unused_tensors(names: Iterable[str], used: Collection[str]) -> str:
  """Returns which tensors a model has no place for, '' if there are none.

  Tensors of one kind are counted together. What old versions saved although
  config.json determines it is left out.

  Args:
    names: of the tensors of a directory.
    used: names that the model reads.
  """
  layers = {_layer(name) for name in used}
  counts: dict[str, int] = {}
  for name in set(names) - set(used):
    if _COMPUTED.search(name):
      continue
    whole = _IMAGES.match(name)
    if _layer(name) not in layers:
      whole = _LAYER.match(name)
    group = f'{whole[0]}*' if whole else re.sub(r'\.\d+\.', '.*.', name)
    counts[group] = counts.get(group, 0) + 1
  return _few(
    [f'{name} ({count})' if '*' in name else name
     for name, count in sorted(counts.items())], most=8
  )  # fmt: skip


def _layer(name: str) -> str:
  """Returns the number of a tensor's layer, '' outside of the layers."""
  found = _LAYER.match(name)
  return found[1] if found else ''


def _add(tensors, found, reader) -> None:
  """Adds the tensors of a file to those of the files before."""
  for name, tensor in found.items():
    if _ADAPTER_PARTS.search(name):
      raise errors.ModelFileError(
        f'{tensor} belongs to an adapter (LoRA): the weights are not those of '
        f'one model. {_MERGE}.'
      )
    if _QUANTIZED_PARTS.search(name):
      raise errors.ModelFileError(
        f'{tensor} belongs to a quantized model: quantized checkpoints are not '
        'supported. Use the original one.'
      )
    other = tensors.setdefault(canonical(name), tensor)
    if other is not tensor and not reader.same(other, tensor):
      raise errors.ModelFileError(
        f'{tensor} is there twice with different values, also as '
        f'{other.name!r} in {other.path.name}: the directory mixes two models; '
        'delete the old files, or download it again.'
      )


def _weight_map(index: pathlib.Path) -> dict[str, str]:
  """Returns the file of each tensor, as the index says."""
  found = json_file.read(index).get('weight_map')
  if not isinstance(found, dict) or not found:
    raise errors.ModelFileError(
      f'{index} has no weight_map: expected an object that maps each tensor to '
      'its file; download it again.'
    )
  for name, file in found.items():
    path = pathlib.PurePosixPath(file if isinstance(file, str) else '')
    if not path.name or path.is_absolute() or '..' in path.parts:
      raise errors.ModelFileError(
        f'{index}: the file of tensor {name!r} is {file!r}: expected the name '
        'of a file in this directory. Do not use files of this source.'
      )
    if not (index.parent / path).is_file():
      raise errors.MissingFileError(
        f'{index.parent / path} does not exist, but {INDEX_FILE} lists it for '
        f'tensor {name!r}: download it.'
      )
  return found


def _no_weights(home: pathlib.Path) -> str:
  """Returns what to do with a directory that has no readable weights."""
  names = sorted(
    path.name for pattern in _PICKLES for path in home.glob(pattern)
  )
  if names:
    return (
      f'{home} has only pickled weights ({names[0]}), which may run code when '
      'they are loaded: convert them to safetensors in an environment where '
      'that is acceptable, with transformers: AutoModelForCausalLM.'
      'from_pretrained(FOLDER).save_pretrained(NEW_FOLDER).'
    )
  text = f'{home} has neither {WEIGHTS_FILE} nor {INDEX_FILE}'
  shards = sorted(path.name for path in home.glob(_SHARDS))
  if shards:
    return f'{text}, only {_few(shards)}: download {INDEX_FILE}.'
  files = sorted(path.name for path in home.glob('*.gguf'))
  if files:
    return (
      f'{text}, only {_few(files)}: name the GGUF file itself instead of the '
      'directory.'
    )
  others = sorted(path.name for path in home.glob('*.safetensors'))
  if others:
    return (
      f'{text}, only {_few(others)}, whose tensors have other names: download '
      'the weights in the format of transformers.'
    )
  return f'{text}: download the weights.'


def _few(names: list[str], most: int = 3) -> str:
  """Returns the first names, and how many there are."""
  text = ', '.join(names[:most])
  return text if len(names) <= most else f'{text} and {len(names) - most} more'

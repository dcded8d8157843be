"""Hugging Face checkpoints: a directory on disk becomes a host for levels.

`config.json`, safetensors in one file or several, nothing else: no pickle, no
code of a checkpoint, no network. Tensors are read slice by slice into the
arrays of the device, each device its own part, so that beside the loaded model
only one slice is ever held, and a part that is no larger.

Which families: `families`; where what lies in a checkpoint: `names`.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import tokenizers

from sleep_jax import optimizer, sharding, types, workdir
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import families, names
from sleep_jax.model import transformer

_SLICE_BYTES = 2**26  # Read at a time.
INDEX, WHOLE = 'model.safetensors.index.json', 'model.safetensors'
_PICKLED = ('*.bin', '*.pt', '*.pth')
_DTYPES = {'F64': 'f8', 'F32': 'f4', 'F16': 'f2', 'BF16': 'bf16'}


@dataclasses.dataclass(frozen=True)
class Host:
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


def read(folder: str, *, weights: bool = True) -> Host:
  """Reads what a directory holds; no tensor yet.

  Args:
    weights: whether there must be some; else it is a description alone.

  Raises:
    FileNotFoundError: a file is missing; names it.
    ValueError: the architecture is not known, or a part of it is not; names
      the field of config.json.
  """
  home = workdir.path(folder)
  path, config = home / 'config.json', config_of(home)
  return Host(
    folder=home, config=config, settings=families.settings(config, path),
    vocab_size=families.number(config, 'vocab_size', path),
    hidden=families.number(config, 'intermediate_size', path),
    files=_files(home) if weights else {},
  )  # fmt: skip


def config_of(home: pathlib.Path) -> dict[str, Any]:
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


def tokenizer(host: Host) -> tokenizer_lib.Fast:
  """The host's own tokenizer.

  Where the model knows no BOS, what ends its texts also opens them.

  Raises:
    FileNotFoundError: there is no tokenizer.json.
    ValueError: it is broken, has more tokens than the embedding has rows, or
      nothing says how a text ends.
  """
  path = host.folder / 'tokenizer.json'
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
  if size > host.vocab_size:
    raise ValueError(
      f'{path} has {size} tokens, but the embedding of {host.folder} has '
      f'{host.vocab_size} rows: they belong to two models.'
    )
  eos, bos = (_special(host, known, name) for name in ('eos', 'bos'))
  if eos is None:
    raise ValueError(
      f'{host.folder}: neither config.json nor tokenizer_config.json names an '
      'EOS token: set eos_token_id in config.json.'
    )
  return tokenizer_lib.Fast(
    text, bos=eos if bos is None else bos, eos=eos, vocab_size=host.vocab_size
  )


def ends(host: Host, words: tokenizer_lib.Tokenizer) -> tuple[int, ...]:
  """Tokens that end what the host says: there may be several."""
  found = host.config.get('eos_token_id')
  path = host.folder / 'generation_config.json'
  if path.is_file():
    more = json.loads(path.read_text(encoding='utf-8')).get('eos_token_id')
    found = found if more is None else more
  several = found if isinstance(found, list) else [found]
  return tuple({words.eos, *(end for end in several if end is not None)})


def _special(host, known, name) -> int | None:
  """Number of a special token: by config.json, or by the tokenizer's own."""
  found = host.config.get(f'{name}_token_id')
  if isinstance(found, list):
    found = found[0]
  path = host.folder / 'tokenizer_config.json'
  if found is None and path.is_file():
    token = json.loads(path.read_text(encoding='utf-8')).get(f'{name}_token')
    token = token['content'] if isinstance(token, dict) else token
    found = None if token is None else known.token_to_id(token)
  return found


def levels(
  host: Host, settings: Mapping[str, Any], levels: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
  """Levels with the host's MLPs in their place: all in 'depth', else the last.

  Args:
    settings: fields of `model.config.Model`.
    levels: fields of `model.config.Level`, fastest first.
  """
  deep = settings.get('arrangement') == 'depth'
  return [
    {**level, 'hidden': host.hidden}
    if deep or number == len(levels)
    else {**level}
    for number, level in enumerate(levels, 1)
  ]


def load(
  host: Host,
  model: transformer.Transformer,
  placement: sharding.Placement,
  *,
  key: jax.Array,
  dtype: str = 'float32',
) -> types.Weights:
  """The host's weights, with levels and experts that change nothing yet.

  Args:
    model: of the host's settings; its slowest level, or in 'depth' all of
      them, are the host's MLPs.
    key: of what the host has not: faster levels, experts.
    dtype: of the core, see `optimizer.dtype`.

  Raises:
    ValueError: a tensor is missing, or of another shape or kind; names the
      file and the tensor.
    OSError: a file is broken; names it.
  """
  newborn = model.shapes()
  places = placement.shardings(newborn.params)
  parts_of = dict(names.sources(model))
  num_levels = model.config.num_levels
  kind = lambda path: optimizer.dtype(path, dtype, num_levels=num_levels)
  with _Reader(host) as reader:
    # All is looked at before anything is read.
    for path, parts in parts_of.items():
      for part in parts:
        reader.check(part, newborn.params[path].shape[len(part.at) :])
    params = {
      path: _fill(
        reader, parts, newborn.params[path].shape, places[path], kind(path)
      )
      for path, parts in parts_of.items()
    }
  missing = {path: kind(path) for path in newborn.params if path not in params}
  fresh = _fresh(key, model=model, kinds=tuple(missing.items()))
  params |= jax.device_put(fresh, {path: places[path] for path in missing})
  nobody = jnp.zeros(newborn.active_NE.shape)
  where = placement.shardings({'active_NE': nobody})['active_NE']
  return types.Weights(params, jax.device_put(nobody, where))


@functools.partial(jax.jit, static_argnames=('model', 'kinds'))
def _fresh(key, *, model, kinds):
  """What the host has not, of these kinds of numbers."""
  made = model.init(key).params
  return {path: made[path].astype(kind) for path, kind in kinds}


class _Reader:
  """Slices of a checkpoint's tensors; files are opened once, on demand."""

  def __init__(self, host: Host):
    self._host = host
    self._open: dict[pathlib.Path, Any] = {}

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._open.clear()

  def check(self, part: names.Part, shape: tuple[int, ...]) -> None:
    """Whether a tensor is there and fits."""
    file, found = self._slice(part)
    has = tuple(found.get_shape())
    wanted = shape[::-1] if part.turned else shape
    if has != wanted:
      raise ValueError(
        f'{file}: tensor {part.name!r} has shape {has}, but config.json makes '
        f'it {wanted}: the directory mixes two models; fetch it again.'
      )
    if found.get_dtype() not in _DTYPES:
      raise ValueError(
        f'{file}: tensor {part.name!r} is {found.get_dtype()}: expected one '
        f'of {tuple(_DTYPES)}. Quantised checkpoints cannot be read: name the '
        'original one.'
      )

  def rows(self, part: names.Part, index: tuple[slice, ...]) -> Iterator[tuple]:
    """A part of a tensor as ours, some rows of it at a time: (first, rows)."""
    _, found = self._slice(part)
    sizes = [s.stop - s.start for s in index]
    each = max(int(np.prod(sizes[1:])) * 4, 1)
    step = max(_SLICE_BYTES // each, 1)
    for first in range(0, sizes[0], step):
      start = index[0].start + first
      few = slice(start, min(start + step, index[0].stop))
      if part.turned:
        yield first, found[index[1], few].T
      else:
        yield first, found[(few, *index[1:])]

  def _slice(self, part):
    file = self._host.files.get(part.name)
    if file is None:
      raise ValueError(
        f'{self._host.folder}: no file holds tensor {part.name!r}, which '
        'config.json asks for: the directory is not complete; fetch it again.'
      )
    if file not in self._open:
      self._open[file] = safetensors.safe_open(file, 'numpy')
    return file, self._open[file].get_slice(part.name)


def _fill(reader, parts, shape, where, dtype) -> jax.Array:
  """One of our arrays, each device's part of it put together for that device.

  A small part here, and a large one there, slice by slice.
  """
  pieces = []
  for device, index in where.addressable_devices_indices_map(shape).items():
    index = tuple(
      slice(*s.indices(size)[:2]) for s, size in zip(index, shape, strict=True)
    )
    own = tuple(s.stop - s.start for s in index)
    small = np.prod(own) * jnp.dtype(dtype).itemsize <= _SLICE_BYTES
    write = _here if small else _there
    with jax.default_device(device):
      piece = (np if small else jnp).zeros(own, jnp.dtype(dtype))
      for part in parts:
        at = part.at
        if at and not index[0].start <= at[0] < index[0].stop:
          continue
        front = tuple(a - s.start for a, s in zip(at, index, strict=False))
        for first, rows in reader.rows(part, index[len(at) :]):
          rows = np.asarray(rows, jnp.dtype(dtype))
          begin = (*front, first, *(0,) * (rows.ndim - 1))
          piece = write(piece, rows.reshape((1,) * len(at) + rows.shape), begin)
    # Waited for: else parts pile up here.
    pieces.append(jax.device_put(piece, device).block_until_ready())
  return jax.make_array_from_single_device_arrays(shape, where, pieces)


def _here(piece, rows, begin):
  at = tuple(slice(b, b + n) for b, n in zip(begin, rows.shape, strict=True))
  piece[at] = rows
  return piece


def _there(piece, rows, begin):
  rows = jax.device_put(rows, piece.device)
  return _write(piece, rows, begin).block_until_ready()  # Else slices pile up.


@functools.partial(jax.jit, donate_argnums=0)
def _write(piece, rows, begin):
  return jax.lax.dynamic_update_slice(piece, rows, begin)


def _files(home: pathlib.Path) -> dict[str, pathlib.Path]:
  """Tensor -> file, of one file or of the index of several."""
  index = home / INDEX
  if index.is_file():
    try:
      named = json.loads(index.read_text(encoding='utf-8'))['weight_map']
    except (ValueError, KeyError) as error:
      raise ValueError(
        f'{index} has no weight_map ({error}): fetch it again.'
      ) from error
    files = sorted(set(named.values()))
  elif (home / WHOLE).is_file():
    files = [WHOLE]
  else:
    pickled = [p.name for what in _PICKLED for p in sorted(home.glob(what))]
    if pickled:
      raise FileNotFoundError(
        f'{home} has only pickled weights ({pickled[0]}), which may run code '
        'as they are read: convert them to safetensors where you trust them.'
      )
    raise FileNotFoundError(
      f'{home} has neither {WHOLE} nor {INDEX}: fetch the weights.'
    )
  found: dict[str, pathlib.Path] = {}
  for name in files:
    path = home / name
    if not path.is_file():
      raise FileNotFoundError(
        f'{path} does not exist, but {INDEX} names it: fetch it.'
      )
    try:
      with safetensors.safe_open(path, 'numpy') as opened:
        found |= dict.fromkeys(opened.keys(), path)
    except safetensors.SafetensorError as error:
      raise OSError(
        f'{path} is broken or cut short ({error}): fetch it again.'
      ) from error
  return found

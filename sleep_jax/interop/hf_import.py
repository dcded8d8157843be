"""Loads the weights of a Hugging Face checkpoint as the base of a model.

The MLPs of the checkpoint become the bases of the slowest level, or of all
levels in the arrangement 'depth'. Faster levels and experts are initialized
such that they do not change the outputs.

Tensors are read block by block into the arrays of each device. Beyond the
loaded model, only a few blocks are in memory. Every number is checked on the
way: a model with NaN would write the same token again and again.
"""

import functools
import math
import mmap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.interop import (
  hf_checkpoint,
  hf_names,
  stored_tensor,
  tensor_file,
  weight_files,
)
from sleep_jax.optim import optimizer
from sleep_jax.runtime import sharding

_MAX_BLOCK = 2**24  # Bytes; larger blocks are not faster.


def adapt_levels(
  base_model: hf_checkpoint.HfCheckpoint,
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
  """Returns the levels with the hidden size of the base model's MLP.

  The size is set in all levels in the arrangement 'depth', else in the last.

  Args:
    base_model: the checkpoint.
    settings: fields of `model.config.Model`.
    levels: fields of `model.config.Level`, fastest first.
  """
  depth = settings.get('arrangement') == 'depth'
  return [
    {**level, 'hidden': base_model.hidden}
    if depth or number == len(levels)
    else {**level}
    for number, level in enumerate(levels, 1)
  ]


def load(
  base_model: hf_checkpoint.HfCheckpoint,
  model: types.Model,
  placement: sharding.Placement,
  *,
  key: jax.Array,
  dtype: str = 'float32',
) -> types.Weights:
  """Loads a checkpoint; faster levels and experts do not change its outputs.

  Args:
    base_model: the checkpoint.
    model: a model with the checkpoint's settings, whose slowest level (in
      'depth' every level) has the hidden size of the checkpoint's MLP.
    placement: sharding of the result.
    key: random key for arrays that the checkpoint lacks: faster levels and
      experts.
    dtype: type of the core, see `optimizer.parameter_dtype`.

  Raises:
    ModelFileError: a tensor is missing, has an unexpected shape or type, or is
      not finite. The message names the file and the tensor.
    StorageError: a file is damaged. The message names it.
  """
  shapes = model.shapes()
  shardings = placement.shardings(shapes.params)
  sources_of = dict(hf_names.tensor_sources(model))
  num_levels = model.config.num_levels
  dtype_of = lambda path: optimizer.parameter_dtype(
    path, dtype, num_levels=num_levels
  )
  # Check all tensors before the first one is read.
  for path, sources in sources_of.items():
    for source in sources:
      _check(base_model, source, shapes.params[path].shape[len(source.index) :])
  _warn(base_model, sources_of)
  size = 4 * sum(x.size for x in shapes.params.values())
  block = min(max(size // 512, tensor_file.BLOCK_BYTES), _MAX_BLOCK)
  with tensor_file.Reader(block) as reader:
    params = {
      path: _load_array(
        reader,
        [(base_model.weights.tensors[s.name], s) for s in sources],
        shapes.params[path].shape,
        shardings[path],
        dtype_of(path),
      )
      for path, sources in sources_of.items()
    }
  missing = {
    path: dtype_of(path) for path in shapes.params if path not in params
  }
  if missing:  # Tracing takes memory; a base model alone lacks nothing.
    initial = _init_missing(key, model=model, dtypes=tuple(missing.items()))
    params |= jax.device_put(
      initial, {path: shardings[path] for path in missing}
    )
  active_NE = np.zeros(shapes.active_NE.shape, np.float32)
  where = placement.shardings({'active_NE': active_NE})['active_NE']
  return types.Weights(params, jax.device_put(active_NE, where))


@functools.partial(jax.jit, static_argnames=('model', 'dtypes'))
def _init_missing(key, *, model, dtypes):
  """Initializes the arrays that the checkpoint lacks, in the given types."""
  params = model.init(key).params
  return {path: params[path].astype(dtype) for path, dtype in dtypes}


def _check(
  base_model: hf_checkpoint.HfCheckpoint,
  source: hf_names.TensorSource,
  shape: tuple[int, ...],
) -> None:
  """Checks that a tensor exists and has the expected shape and type.

  Args:
    base_model: the checkpoint.
    source: the tensor.
    shape: shape that our array needs.

  Raises:
    ModelFileError: it does not.
  """
  tensor = base_model.weights.tensors.get(source.name)
  if tensor is None:
    file = base_model.weights.listed.get(source.name)
    if source.name == weight_files.HEAD:
      hint = (
        'tie_word_embeddings is false. If this model has no head of its own, '
        'set tie_word_embeddings to true, else download it again'
      )
    elif file:
      hint = (
        f'{weight_files.INDEX_FILE} lists it in {file}, which is of another '
        'version: download both again'
      )
    elif (base_model.folder / weight_files.INDEX_FILE).is_file():
      hint = (
        f'{weight_files.WEIGHTS_FILE} is incomplete, and is read before '
        f'{weight_files.INDEX_FILE}: delete it, or download it again'
      )
    else:
      hint = 'the directory is incomplete: download it again'
    raise errors.ModelFileError(
      f'{base_model.folder}: no file contains tensor {source.name!r}, which '
      f'config.json requires; {hint}.'
    )
  expected = shape[::-1] if source.transposed else shape
  if tensor.shape != expected:
    raise errors.ModelFileError(
      f'{tensor} has shape {tensor.shape}, but config.json requires '
      f'{expected}: the directory mixes two models; download it again.'
    )
  if tensor.dtype not in stored_tensor.DTYPES:
    raise errors.ModelFileError(
      f'{tensor} has type {tensor.dtype}: expected one of '
      f'{tuple(stored_tensor.DTYPES)}. Quantized checkpoints are read from '
      'GGUF files only: use one, or the original checkpoint.'
    )


def _warn(
  base_model: hf_checkpoint.HfCheckpoint,
  sources_of: Mapping[str, Sequence[hf_names.TensorSource]],
) -> None:
  """Warns of what is not read, or not as config.json says."""
  texts = list(base_model.weights.warnings)
  used = {s.name for sources in sources_of.values() for s in sources}
  if base_model.settings['tied']:
    used.add(weight_files.HEAD)
  unused = weight_files.unused_tensors(base_model.weights.tensors, used)
  if unused:
    texts.append(
      f'{base_model.folder}: the model of config.json has no place for these '
      f'tensors, which are not read: {unused}.'
    )
  for text in texts:
    warnings.warn(text, errors.ModelFileWarning, stacklevel=3)


def _blocks(
  reader: tensor_file.Reader,
  tensor: stored_tensor.Tensor,
  source: hf_names.TensorSource,
  index: tuple[slice, ...],
  dtype: Any,
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
  """Yields (first index, block) of a part of a tensor in our orientation.

  Args:
    reader: of the files.
    tensor: the tensor.
    source: how our array holds it.
    index: the part, in our orientation.
    dtype: type of the blocks.

  Raises:
    ModelFileError: a number is not finite, also because `dtype` is smaller.
  """
  flip = source.transposed
  for first, rows in reader.blocks(tensor, index[::-1] if flip else index):
    with np.errstate(over='ignore', invalid='ignore'):
      rows = rows.astype(dtype, copy=False)
    if not np.isfinite(rows).all():
      raise errors.ModelFileError(_describe_infinite(reader, tensor, dtype))
    if flip:
      yield (0, first), rows.T
    else:
      yield (first, *(0,) * (rows.ndim - 1)), rows


def _describe_infinite(reader, tensor, dtype) -> str:
  """Returns which numbers of a whole tensor are not finite."""
  count, where = 0, ''
  for first, rows in reader.blocks(tensor):
    with np.errstate(over='ignore', invalid='ignore'):
      cast = rows.astype(dtype)
    bad = np.argwhere(~np.isfinite(cast))
    count += len(bad)
    if len(bad) and not where:
      at = (int(bad[0][0]) + first, *(int(i) for i in bad[0][1:]))
      where = f'{list(at)} is {rows[tuple(bad[0])]}'
  return (
    f'{tensor}: {count:,} of {int(np.prod(tensor.shape)):,} numbers are not '
    f'finite in {jnp.dtype(dtype).name}, the first at {where}: the weights are '
    'damaged, or their training diverged. Download them again, or use another '
    'checkpoint.'
  )


def _load_array(reader, sources, shape, sharding, dtype) -> jax.Array:
  """Loads one array by assembling each device's part on that device.

  A part that is small, or for a CPU, is assembled in host memory, which a CPU
  then uses without a copy. Others are assembled on the device block by block.

  Args:
    reader: of the files.
    sources: the tensors that the array stacks, and how it holds them.
    shape: of the array.
    sharding: of the array.
    dtype: of the array.
  """
  parts = []
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    index = tuple(
      slice(*s.indices(size)[:2]) for s, size in zip(index, shape, strict=True)
    )
    part_shape = tuple(s.stop - s.start for s in index)
    num_bytes = np.prod(part_shape) * jnp.dtype(dtype).itemsize
    on_host = _is_cpu(device) or num_bytes <= reader.block_bytes
    write = _write_on_host if on_host else _write_on_device
    part = (
      _zeros_for_cpu(part_shape, jnp.dtype(dtype))
      if on_host
      else jnp.zeros(part_shape, dtype, device=device)
    )
    for tensor, source in sources:
      at = source.index
      if at and not index[0].start <= at[0] < index[0].stop:
        continue
      lead = tuple(a - s.start for a, s in zip(at, index, strict=False))
      rest = index[len(at) :]
      for first, block in _blocks(reader, tensor, source, rest, dtype):
        block = block.reshape((1,) * len(at) + block.shape)
        part = write(part, block, (*lead, *first))
    # Wait for the transfer: otherwise parts accumulate in host memory.
    parts.append(jax.device_put(part, device).block_until_ready())
  return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _is_cpu(device) -> bool:
  return device.platform == 'cpu'


def _zeros_for_cpu(shape, dtype) -> np.ndarray:
  """Returns zeros at an address that a CPU device takes over as it is.

  They are a mapping of their own, because NumPy asks for huge pages, which the
  system may need ten times as long to provide.
  """
  size = math.prod(shape) * dtype.itemsize
  flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
  memory = mmap.mmap(-1, max(size, 1), flags=flags)
  return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


def _write_on_host(part, rows, begin):
  at = tuple(slice(b, b + n) for b, n in zip(begin, rows.shape, strict=True))
  part[at] = rows
  return part


def _write_on_device(part, rows, begin):
  rows = jax.device_put(np.ascontiguousarray(rows), part.device)
  # Wait for the write: otherwise slices accumulate in memory.
  return _update_slice(part, rows, begin).block_until_ready()


@functools.partial(jax.jit, donate_argnums=0)
def _update_slice(part, rows, begin):
  return jax.lax.dynamic_update_slice(part, rows, begin)

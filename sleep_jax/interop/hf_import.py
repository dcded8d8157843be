"""Loads the weights of a Hugging Face checkpoint as the base of a model.

The MLPs of the checkpoint become the bases of the slowest level, or of all
levels in the arrangement 'depth'. Faster levels and experts are initialized
such that they do not change the outputs.

Tensors are read slice by slice into the arrays of each device. Beyond the
loaded model, only one slice and one part of the same size are in memory.
"""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from sleep_jax import errors, types
from sleep_jax.interop import hf_checkpoint, hf_names
from sleep_jax.optim import optimizer
from sleep_jax.runtime import sharding

_SLICE_BYTES = 2**26  # Bytes read at a time, counted in float32.


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
    ModelFileError: a tensor is missing or has an unexpected shape or type. The
      message names the file and the tensor.
    StorageError: a file is damaged. The message names it.
  """
  shapes = model.shapes()
  shardings = placement.shardings(shapes.params)
  sources_of = dict(hf_names.tensor_sources(model))
  num_levels = model.config.num_levels
  dtype_of = lambda path: optimizer.parameter_dtype(
    path, dtype, num_levels=num_levels
  )
  with _Reader(base_model) as reader:
    # Check all tensors before the first one is read.
    for path, sources in sources_of.items():
      for source in sources:
        reader.check(source, shapes.params[path].shape[len(source.index) :])
    params = {
      path: _load_array(
        reader,
        sources,
        shapes.params[path].shape,
        shardings[path],
        dtype_of(path),
      )
      for path, sources in sources_of.items()
    }
  missing = {
    path: dtype_of(path) for path in shapes.params if path not in params
  }
  initial = _init_missing(key, model=model, dtypes=tuple(missing.items()))
  params |= jax.device_put(initial, {path: shardings[path] for path in missing})
  active_NE = jnp.zeros(shapes.active_NE.shape)
  where = placement.shardings({'active_NE': active_NE})['active_NE']
  return types.Weights(params, jax.device_put(active_NE, where))


@functools.partial(jax.jit, static_argnames=('model', 'dtypes'))
def _init_missing(key, *, model, dtypes):
  """Initializes the arrays that the checkpoint lacks, in the given types."""
  params = model.init(key).params
  return {path: params[path].astype(dtype) for path, dtype in dtypes}


class _Reader:
  """Reads slices of a checkpoint's tensors and opens each file once."""

  def __init__(self, base_model: hf_checkpoint.HfCheckpoint):
    self._base_model = base_model
    self._files: dict[pathlib.Path, Any] = {}

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._files.clear()

  def check(
    self, source: hf_names.TensorSource, shape: tuple[int, ...]
  ) -> None:
    """Checks that a tensor exists and has the expected shape and type.

    Args:
      source: the tensor.
      shape: shape that our array needs.

    Raises:
      ModelFileError: it does not.
    """
    file, tensor = self._slice(source)
    found = tuple(tensor.get_shape())
    expected = shape[::-1] if source.transposed else shape
    if found != expected:
      raise errors.ModelFileError(
        f'{file}: tensor {source.name!r} has shape {found}, but config.json '
        f'requires {expected}: the directory mixes two models; download it '
        'again.'
      )
    if tensor.get_dtype() not in hf_checkpoint.DTYPES:
      raise errors.ModelFileError(
        f'{file}: tensor {source.name!r} has type {tensor.get_dtype()}: '
        f'expected one of {tuple(hf_checkpoint.DTYPES)}. Quantized checkpoints '
        'are not supported: use the original one.'
      )

  def rows(
    self, source: hf_names.TensorSource, index: tuple[slice, ...]
  ) -> Iterator[tuple]:
    """Yields (first row, rows) of a part of a tensor in our orientation.

    Each block of rows has about `_SLICE_BYTES` or less.

    Args:
      source: the tensor.
      index: the part, in our orientation.
    """
    _, tensor = self._slice(source)
    sizes = [s.stop - s.start for s in index]
    row_bytes = max(int(np.prod(sizes[1:])) * 4, 1)
    step = max(_SLICE_BYTES // row_bytes, 1)
    for first in range(0, sizes[0], step):
      start = index[0].start + first
      block = slice(start, min(start + step, index[0].stop))
      if source.transposed:
        yield first, tensor[index[1], block].T
      else:
        yield first, tensor[(block, *index[1:])]

  def _slice(self, source):
    file = self._base_model.files.get(source.name)
    if file is None:
      raise errors.ModelFileError(
        f'{self._base_model.folder}: no file contains tensor {source.name!r}, '
        'which config.json requires: the directory is incomplete; download it '
        'again.'
      )
    if file not in self._files:
      self._files[file] = safetensors.safe_open(file, 'numpy')
    return file, self._files[file].get_slice(source.name)


def _load_array(reader, sources, shape, sharding, dtype) -> jax.Array:
  """Loads one array by assembling each device's part on that device.

  A small part is assembled in host memory, a large one on the device slice by
  slice.
  """
  parts = []
  for device, index in sharding.addressable_devices_indices_map(shape).items():
    index = tuple(
      slice(*s.indices(size)[:2]) for s, size in zip(index, shape, strict=True)
    )
    part_shape = tuple(s.stop - s.start for s in index)
    small = np.prod(part_shape) * jnp.dtype(dtype).itemsize <= _SLICE_BYTES
    write = _write_on_host if small else _write_on_device
    with jax.default_device(device):
      part = (np if small else jnp).zeros(part_shape, jnp.dtype(dtype))
      for source in sources:
        at = source.index
        if at and not index[0].start <= at[0] < index[0].stop:
          continue
        lead = tuple(a - s.start for a, s in zip(at, index, strict=False))
        for first, rows in reader.rows(source, index[len(at) :]):
          rows = np.asarray(rows, jnp.dtype(dtype))
          begin = (*lead, first, *(0,) * (rows.ndim - 1))
          part = write(part, rows.reshape((1,) * len(at) + rows.shape), begin)
    # Wait for the transfer: otherwise parts accumulate in host memory.
    parts.append(jax.device_put(part, device).block_until_ready())
  return jax.make_array_from_single_device_arrays(shape, sharding, parts)


def _write_on_host(part, rows, begin):
  at = tuple(slice(b, b + n) for b, n in zip(begin, rows.shape, strict=True))
  part[at] = rows
  return part


def _write_on_device(part, rows, begin):
  rows = jax.device_put(rows, part.device)
  # Wait for the write: otherwise slices accumulate in memory.
  return _update_slice(part, rows, begin).block_until_ready()


@functools.partial(jax.jit, donate_argnums=0)
def _update_slice(part, rows, begin):
  return jax.lax.dynamic_update_slice(part, rows, begin)

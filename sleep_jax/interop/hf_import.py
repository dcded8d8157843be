"""TODO: interop.hf_import (from interop.huggingface)."""

import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from sleep_jax import types
from sleep_jax.interop import hf_checkpoint, hf_names
from sleep_jax.model import transformer
from sleep_jax.optim import optimizer
from sleep_jax.runtime import sharding

_SLICE_BYTES = 2**26  # Read at a time.


def adapt_levels(
  base_model: hf_checkpoint.HfCheckpoint,
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
  """Levels with the host's MLPs in their place: all in 'depth', else the last.

  Args:
    settings: fields of `model.config.Model`.
    levels: fields of `model.config.Level`, fastest first.
  """
  deep = settings.get('arrangement') == 'depth'
  return [
    {**level, 'hidden': base_model.hidden}
    if deep or number == len(levels)
    else {**level}
    for number, level in enumerate(levels, 1)
  ]


def load(
  base_model: hf_checkpoint.HfCheckpoint,
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
  initial_model = model.shapes()
  places = placement.shardings(initial_model.params)
  parts_of = dict(hf_names.tensor_sources(model))
  num_levels = model.config.num_levels
  kind = lambda path: optimizer.dtype(path, dtype, num_levels=num_levels)
  with _Reader(base_model) as reader:
    # All is looked at before anything is read.
    for path, parts in parts_of.items():
      for part in parts:
        reader.check(part, initial_model.params[path].shape[len(part.at) :])
    params = {
      path: _fill(
        reader,
        parts,
        initial_model.params[path].shape,
        places[path],
        kind(path),
      )
      for path, parts in parts_of.items()
    }
  missing = {
    path: kind(path) for path in initial_model.params if path not in params
  }
  fresh = _fresh(key, model=model, kinds=tuple(missing.items()))
  params |= jax.device_put(fresh, {path: places[path] for path in missing})
  nobody = jnp.zeros(initial_model.active_NE.shape)
  where = placement.shardings({'active_NE': nobody})['active_NE']
  return types.Weights(params, jax.device_put(nobody, where))


@functools.partial(jax.jit, static_argnames=('model', 'kinds'))
def _fresh(key, *, model, kinds):
  """What the host has not, of these kinds of numbers."""
  made = model.init(key).params
  return {path: made[path].astype(kind) for path, kind in kinds}


class _Reader:
  """Slices of a checkpoint's tensors; files are opened once, on demand."""

  def __init__(self, base_model: hf_checkpoint.HfCheckpoint):
    self._base_model = base_model
    self._open: dict[pathlib.Path, Any] = {}

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._open.clear()

  def check(self, part: hf_names.TensorSource, shape: tuple[int, ...]) -> None:
    """Whether a tensor is there and fits."""
    file, found = self._slice(part)
    has = tuple(found.get_shape())
    wanted = shape[::-1] if part.turned else shape
    if has != wanted:
      raise ValueError(
        f'{file}: tensor {part.name!r} has shape {has}, but config.json makes '
        f'it {wanted}: the directory mixes two models; fetch it again.'
      )
    if found.get_dtype() not in hf_checkpoint.DTYPES:
      raise ValueError(
        f'{file}: tensor {part.name!r} is {found.get_dtype()}: expected one '
        f'of {tuple(hf_checkpoint.DTYPES)}. Quantised checkpoints cannot be '
        'read: name the original one.'
      )

  def rows(
    self, part: hf_names.TensorSource, index: tuple[slice, ...]
  ) -> Iterator[tuple]:
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
    file = self._base_model.files.get(part.name)
    if file is None:
      raise ValueError(
        f'{self._base_model.folder}: no file holds tensor {part.name!r}, which '
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

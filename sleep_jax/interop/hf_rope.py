"""Rotary positions of a config.json, read and written.

transformers has had two formats: `rope_theta` with `rope_scaling`, and
`rope_parameters`, which Gemma 3 nests by kind of block. Where a file has both,
the order of precedence is that of transformers 5.24.
"""

import math
import pathlib
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import hf_fields
from sleep_jax.model import config as config_lib
from sleep_jax.model import rope_scaling

LOCAL, GLOBAL = 'sliding_attention', 'full_attention'
_LLAMA3_FIELDS = (
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'original_max_position_embeddings',
)
_REQUIRED = {
  'default': (),
  'linear': ('factor',),
  'dynamic': ('factor',),
  'yarn': ('factor',),
  'longrope': ('short_factor', 'long_factor'),
  'llama3': _LLAMA3_FIELDS[:3],
}
# A field that a kind does not use has no effect in transformers.
_FIELDS = {
  'rope_type', 'type', 'rope_theta', 'factor', 'partial_rotary_factor',
  'original_max_position_embeddings', 'low_freq_factor', 'high_freq_factor',
  'attention_factor', 'beta_fast', 'beta_slow', 'mscale', 'mscale_all_dim',
  'truncate', 'short_factor', 'long_factor', 'finetuned',
}  # fmt: skip


def settings(
  config: hf_fields.Config,
  path: pathlib.Path,
  *,
  theta: float,
  max_positions: int,
  head_size: int,
) -> dict[str, Any]:
  """Returns `rope_theta` and `rope_scaling` of `model.config.Model`.

  Args:
    config: content of config.json.
    path: path of the file, for messages.
    theta: the architecture's default of rope_theta.
    max_positions: its default of max_position_embeddings.
    head_size: size of a head.

  Raises:
    ModelFileError: a field is not supported. The message names it.
  """
  field = 'rope_scaling' if config.get('rope_scaling') else 'rope_parameters'
  rope = hf_fields.mapping(config, field, path)
  if {LOCAL, GLOBAL} & rope.keys():
    hf_fields.fail(
      path, field, rope,
      'one set of parameters for all blocks; only Gemma 3 has one for each '
      'kind of block',
    )  # fmt: skip
  rope.setdefault('rope_theta', config.get('rope_theta', theta))
  positions = hf_fields.optional_int(
    config, 'original_max_position_embeddings', None, path
  )
  if positions:
    rope['original_max_position_embeddings'] = positions
  read = _Reader(rope, f'{path}: {field}', config, max_positions, head_size)
  return dict(rope_theta=read.theta(), rope_scaling=read.scaling())


def gemma_settings(
  config: hf_fields.Config,
  path: pathlib.Path,
  *,
  thetas: tuple[float, float],
  max_positions: int,
  head_size: int,
) -> dict[str, Any]:
  """Returns the same for global and local blocks, from nested parameters.

  Args:
    thetas: defaults of global and of local blocks.
    config, path, max_positions, head_size: see `settings`.
  """
  nested = hf_fields.mapping(config, 'rope_parameters', path)
  unknown = sorted(nested.keys() - {LOCAL, GLOBAL})
  if unknown:
    hf_fields.fail(
      path, 'rope_parameters', nested,
      f'the fields {GLOBAL!r} and {LOCAL!r}, found {unknown[0]!r}',
    )  # fmt: skip
  made: dict[str, Any] = {}
  for name, field, theta_field, theta in (
    ('rope', GLOBAL, 'rope_theta', thetas[0]),
    ('local', LOCAL, 'rope_local_base_freq', thetas[1]),
  ):
    rope = hf_fields.mapping(nested, field, path)
    if name == 'rope':
      if config.get('rope_parameters') is None:
        rope = {'rope_type': 'default'}  # It wins against an old `type`.
      rope |= hf_fields.mapping(config, 'rope_scaling', path)
    rope.setdefault('rope_theta', config.get(theta_field, theta))
    # transformers does not look for it in nested parameters.
    rope.pop('truncate', None)
    where = f'{path}: rope_parameters.{field}'
    read = _Reader(rope, where, config, max_positions, head_size)
    made[f'{name}_theta'] = read.theta()
    made[f'{name}_scaling'] = read.scaling()
  return made


class _Reader:
  """Reads the parameters of one kind of block.

  Attributes:
    rope: the parameters.
    where: file and field, for messages.
    config: content of config.json.
    max_positions: default of max_position_embeddings.
    head_size: size of a head.
  """

  def __init__(self, rope, where, config, max_positions, head_size):
    self._rope, self._path = rope, where
    self._head_size = head_size
    self._max_positions = hf_fields.positive_int(
      {'max_position_embeddings': max_positions} | dict(config),
      'max_position_embeddings',
      self._path,
    )
    self._kind = rope.get('rope_type', rope.get('type', 'default'))
    self._check()

  def theta(self) -> float:
    return self._number('rope_theta', above=1.0)

  def scaling(self) -> rope_scaling.Scaling:
    make = {
      'default': lambda: (),
      'linear': lambda: (self._number('factor'),),
      'dynamic': self._dynamic,
      'yarn': self._yarn,
      'longrope': self._longrope,
      'llama3': self._llama3,
    }[self._kind]
    return make()

  def _check(self):
    rope, kind = self._rope, self._kind
    if not isinstance(kind, str) or kind not in _REQUIRED:
      raise errors.ModelFileError(
        f'{self._path}: rope_type is {kind!r}: expected one of '
        f'{tuple(_REQUIRED)}.'
      )
    unknown = sorted(rope.keys() - _FIELDS)
    if unknown:
      hf_fields.fail(
        self._path, unknown[0], rope[unknown[0]],
        f'no such field; known are {", ".join(sorted(_FIELDS))}',
      )  # fmt: skip
    missing = [name for name in _REQUIRED[kind] if name not in rope]
    if missing:
      raise errors.ModelFileError(
        f'{self._path}: rope_type is {kind!r}, but these fields are missing: '
        f'{", ".join(missing)}, of {", ".join(_REQUIRED[kind])}.'
      )
    share = rope.get('partial_rotary_factor')
    if share is not None and share != 1:
      hf_fields.fail(
        self._path, 'partial_rotary_factor', share,
        '1; heads that are rotated in part are not supported',
      )  # fmt: skip

  def _number(self, field, default=None, *, above=0.0) -> float:
    return hf_fields.number(self._rope, field, default, self._path, above=above)

  def _original_positions(self) -> float:
    return self._number('original_max_position_embeddings', self._max_positions)

  def _factor_or_ratio(self) -> float:
    if self._rope.get('factor') is not None:
      return self._number('factor')
    return self._max_positions / self._original_positions()

  def _dynamic(self):
    if self._head_size < 4:
      raise errors.ModelFileError(
        f"{self._path}: rope_type is 'dynamic' with heads of size "
        f'{self._head_size}: expected at least 4.'
      )
    return rope_scaling.Dynamic(self._number('factor'), self._max_positions)

  def _yarn(self):
    factor = self._factor_or_ratio()
    optional = {
      name: self._number(field)
      for name, field in (('fast', 'beta_fast'), ('slow', 'beta_slow'))
      if self._rope.get(field)
    }
    truncate = hf_fields.flag(self._rope, 'truncate', True, self._path)
    return rope_scaling.Yarn(
      factor,
      self._original_positions(),
      truncate=truncate,
      magnitude=self._yarn_magnitude(factor),
      **optional,
    )

  def _yarn_magnitude(self, factor) -> float:
    """Returns the factor of cosines and sines, 2309.00071 section 3.4."""
    if self._rope.get('attention_factor') is not None:
      return self._number('attention_factor')

    def grow(weight):
      return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if self._rope.get('mscale') and self._rope.get('mscale_all_dim'):
      return grow(self._number('mscale')) / grow(self._number('mscale_all_dim'))
    return grow(1.0)

  def _longrope(self):
    positions, factor = self._original_positions(), self._factor_or_ratio()
    magnitude = 1.0
    if self._rope.get('attention_factor') is not None:
      magnitude = self._number('attention_factor')
    elif factor > 1:
      magnitude = math.sqrt(1 + math.log(factor) / math.log(positions))
    return rope_scaling.LongRope(
      self._divisors('short_factor'),
      self._divisors('long_factor'),
      positions,
      magnitude,
    )

  def _divisors(self, field) -> tuple[float, ...]:
    found, size = self._rope[field], self._head_size // 2
    if not isinstance(found, list) or len(found) != size:
      hf_fields.fail(
        self._path, field, found,
        f'a list of {size} numbers, one for each pair of a head',
      )  # fmt: skip
    return tuple(
      hf_fields.number({field: x}, field, None, self._path) for x in found
    )

  def _llama3(self):
    factor, low, high = map(self._number, _LLAMA3_FIELDS[:3])
    if high <= low:
      hf_fields.fail(
        self._path, 'high_freq_factor', high, f'more than low_freq_factor {low}'
      )
    return factor, low, high, self._original_positions()


def fields(config: config_lib.Model) -> dict[str, Any]:
  """Returns the config.json fields of rotary positions, in both formats.

  Args:
    config: a model that was pretrained here, so its scaling is a tuple.

  Raises:
    UsageError: it is not.
  """
  values = config.rope_scaling
  if not isinstance(values, tuple):
    raise errors.UsageError(
      f'model.rope_scaling is {values}: expected a tuple. Other scalings are '
      'exported only with the config.json that they were imported from.'
    )
  rope_type = {0: 'default', 1: 'linear', 4: 'llama3'}[len(values)]
  scaling = dict(zip(_LLAMA3_FIELDS, values, strict=False)) | {
    'rope_type': rope_type
  }
  theta = {'rope_theta': config.rope_theta}
  old = {'rope_scaling': scaling} if values else {}
  return theta | old | {'rope_parameters': scaling | theta}

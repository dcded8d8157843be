"""Reads the card of an expert file and checks it before anything is loaded.

The file may come from a stranger. Its card says how many levels, experts and
units there are; each number is compared with the tensors of the file, whose
sizes are compared with the size of the file.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.interop import json_file, stored_tensor, tensor_file
from sleep_jax.model import config

FORMAT = 'sleep_jax experts 1'
ROUTING_FIELDS = ('arrangement', 'router', 'top_k', 'gated_experts')
_MAX_LEVELS = 64
_MAX_CARD = 10**7  # Bytes.


def read(
  path: str,
) -> tuple[dict[str, Any], dict[str, stored_tensor.Tensor]]:
  """Returns the card of an expert file and where its tensors are.

  Raises:
    MissingFileError: the file does not exist.
    ModelFileError: the file is not an expert file, of another version, or its
      card contradicts itself. The message names the field.
  """
  file = pathlib.Path(path).expanduser()
  if not file.is_file():
    raise errors.MissingFileError(f'{file} does not exist.')
  try:
    tensors, metadata = tensor_file.read_header(file)
    text = metadata['card']
    if len(text) > _MAX_CARD:
      raise errors.ModelFileError(
        f'the card has {len(text):,} bytes, at most {_MAX_CARD:,} are possible'
      )
    card = json_file.parse(text, 'the card')
  except KeyError as error:
    raise _not_experts(file, 'it has no card') from error
  except (errors.StorageError, errors.ModelFileError) as error:
    raise _not_experts(file, str(error)) from error
  if card.get('format') != FORMAT:
    raise errors.ModelFileError(
      f'{file} has format {card.get("format")!r}: expected {FORMAT!r}.'
    )
  card.setdefault('gated_experts', False)  # Version 0.2 had no such field.
  _check(card, file)
  return card, tensors


def check_tensors(
  tensors: Mapping[str, stored_tensor.Tensor],
  expected: Mapping[str, tuple[int, ...]],
  path: str,
) -> None:
  """Checks names, shapes and types of the tensors of an expert file.

  Args:
    tensors: of the file.
    expected: shape of each tensor that the card and the base model require.
    path: of the file, for messages.

  Raises:
    ModelFileError: they differ. The message names the tensor.
  """
  for name in sorted(set(tensors) ^ set(expected)):
    found = 'is there, but' if name in tensors else 'is missing, and'
    raise errors.ModelFileError(
      f'{path}: tensor {name!r} {found} the card lists '
      f'{"it" if name in expected else "no such expert"}: the file is damaged; '
      'export the experts again.'
    )
  for name, shape in expected.items():
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype not in stored_tensor.DTYPES:
      raise errors.ModelFileError(
        f'{path}: tensor {name!r} has shape {tensor.shape} and type '
        f'{tensor.dtype}, but the card and the base model require {shape} and '
        f'one of {tuple(stored_tensor.DTYPES)}: export the experts again.'
      )


def _not_experts(file: pathlib.Path, why: str) -> errors.ModelFileError:
  return errors.ModelFileError(
    f'{file} is not an expert file ({why}): expected a file written by '
    'sleep-jax convert out --experts.'
  )


def _check(card: Mapping[str, Any], file: pathlib.Path) -> None:
  """Checks the types and ranges of all fields that are used."""

  def require(field: str, valid: Callable[[Any], bool], expected: str) -> None:
    value = card.get(field)
    if not valid(value):
      raise errors.ModelFileError(
        f'{file}: field {field!r} of the card is {str(value)[:80]!r}: expected '
        f'{expected}. Export the experts again.'
      )

  def is_count(value: Any, least: int, most: float = float('inf')) -> bool:
    return type(value) is int and least <= value <= most

  require('base', lambda x: isinstance(x, str), 'a text')
  require(
    'levels', lambda x: is_count(x, 1, _MAX_LEVELS), f'1 to {_MAX_LEVELS}'
  )
  levels = {str(level) for level in range(1, card['levels'] + 1)}
  require(
    'experts',
    lambda x: (
      isinstance(x, dict)
      and bool(x)
      and set(x) <= levels
      and all(
        isinstance(slots, list)
        and bool(slots)
        and all(is_count(slot, 0) for slot in slots)
        and len(set(slots)) == len(slots)
        for slots in x.values()
      )
    ),
    'slots, each once, of levels that exist',
  )
  require(
    'ranks',
    lambda x: (
      isinstance(x, dict)
      and set(x) == set(card['experts'])
      and all(is_count(rank, 1) for rank in x.values())
    ),
    'an integer above 0 for each level with experts',
  )
  if card.get('router') == 'centroid':
    raise errors.ModelFileError(
      f"{file}: the router of these experts is 'centroid', which was removed "
      'after revision a95966f: use that revision.'
    )
  arrangements = [name for name in config.ARRANGEMENTS if name != 'depth']
  require('arrangement', lambda x: x in arrangements, f'one of {arrangements}')
  require('router', lambda x: x in config.ROUTERS, f'one of {config.ROUTERS}')
  require('top_k', lambda x: is_count(x, 0), 'an integer from 0 on')
  require('gated_experts', lambda x: isinstance(x, bool), 'true or false')

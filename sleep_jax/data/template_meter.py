"""Counts the work of a template and refuses what would take too long.

A template is a program that a stranger may have written. Each loop iteration,
call, filter and operation costs steps, and longer for longer values; when the
steps are used up, rendering stops. The size of a result is computed before it
is allocated, so `'a' * 10**9` allocates nothing. Counts are deterministic: they
do not depend on the speed of the machine.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jinja2

# For an empty conversation; a longer one may take more, see `Meter.start`.
_STEPS, _SIZE = 500_000, 2**20
_MAX_DEPTH, _MAX_BITS = 64, 4096
_SHARE = 64  # Characters that cost one step.
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))


class LimitError(jinja2.TemplateRuntimeError):
  """The template does more than a chat template needs."""


class Meter:
  """The steps and the sizes that one rendering may use."""

  def __init__(self):
    self._steps, self._max_size = 0, 0
    self._weights: dict[int, tuple[Any, int, int]] = {}

  def start(self, inputs: Any = None) -> None:
    """Starts counting.

    Args:
      inputs: plain data that the template reads. For a long conversation it
        may take more steps and make a longer text.
    """
    values, characters = _count(inputs)
    self._steps = _STEPS + 100 * values + characters // 4
    self._max_size = _SIZE + 8 * characters
    self._weights = {}

  def spend(self, steps: int) -> None:
    """Uses steps.

    Raises:
      LimitError: none are left.
    """
    self._steps -= max(steps, 1)
    if self._steps < 0:
      raise LimitError('it takes too many steps')

  def check_size(self, size: int) -> None:
    """Raises LimitError if a value of this many characters is too large."""
    if size > self._max_size:
      raise LimitError(
        f'it makes a value of {size} characters, more than {self._max_size}'
      )

  def weigh(self, value: Any) -> tuple[int, int]:
    """Returns the size of a value in characters, and its depth.

    Values that a template cannot look into have size 1.

    Raises:
      LimitError: it is too large or too deep.
    """
    if isinstance(value, str | bytes):
      return len(value) + 1, 0
    if isinstance(value, int):
      if value.bit_length() > _MAX_BITS:
        raise LimitError(f'it makes a number of {value.bit_length()} bits')
      return 1, 0
    if isinstance(value, range):
      return len(value) + 1, 1
    if isinstance(value, list | tuple | dict | set | frozenset):
      known = self._weights.get(id(value))
      if known is None:
        # The value is kept, so that its id is not given to another one. It
        # cannot change, because the sandbox is immutable.
        known = value, *self._weigh_items(value)
        self._weights[id(value)] = known
      return known[1:]
    if isinstance(value, _VIEWS):
      return self._weigh_items(value)
    return 1, 0

  def use(self, *values: Any, steps: int = 1, share: int = _SHARE) -> int:
    """Uses the steps of an operation that reads values; returns their size."""
    size = 0
    for value in values:
      size += self.weigh(value)[0]
    self.spend(steps + size // share)
    return size

  def made(self, value: Any) -> Any:
    """Returns a new value after checking it; counts the items of a generator.

    Raises:
      LimitError: it is too large or too deep.
    """
    if isinstance(value, Iterator):
      return self._count(value)
    self.check_size(self.use(value))
    return value

  def concat(self, pieces: Iterable[str]) -> str:
    """Joins the pieces of a text; checks the length before."""
    found, size = [], 0
    for piece in pieces:
      size += len(piece)
      self.check_size(size)
      found.append(piece)
    self.spend(1 + size // _SHARE)
    return ''.join(found)

  def _count(self, items: Iterator[Any]) -> Iterator[Any]:
    for item in items:
      self.spend(1)
      yield item

  def _weigh_items(self, value: Any) -> tuple[int, int]:
    self.spend(1 + len(value) // 8)
    size, depth = 1, 0
    is_dict = isinstance(value, dict)
    for part in (value.keys(), value.values()) if is_dict else (value,):
      for item in part:
        item_size, item_depth = self.weigh(item)
        size, depth = size + item_size, max(depth, item_depth)
        self.check_size(size)
    if depth >= _MAX_DEPTH:
      raise LimitError(f'it nests values more than {_MAX_DEPTH} deep')
    return size, depth + 1


def _count(inputs: Any) -> tuple[int, int]:
  """Returns the number of values in plain data, and of their characters."""
  if isinstance(inputs, Mapping):
    inputs = [*inputs, *inputs.values()]
  if isinstance(inputs, list | tuple):
    counts = [_count(item) for item in inputs]
    return 1 + sum(n for n, _ in counts), sum(n for _, n in counts)
  return 1, len(inputs) if isinstance(inputs, str) else 0

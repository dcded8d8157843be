"""Bounds the results of operations of a template before they are computed.

Most methods, filters and operators return something no longer than what they
read. Those that can return more, such as `'a' * n` or `center(n)`, are listed
here.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from jinja2 import sandbox

from sleep_jax.data import template_meter

_MAX_WIDTH = 10_000  # Characters that padding may add, and similar numbers.
_WIDTH = re.compile(r'\d{5,}')
_PADDING = ('ljust', 'rjust', 'center', 'zfill')


def check_operation(
  meter: template_meter.Meter, operator: str, left: Any, right: Any
) -> None:
  """Refuses an operation with two operands whose result is too large.

  Raises:
    LimitError: it is.
  """
  if operator == '**':
    _check_power(left, right)
  elif operator == '*':
    for value, number in ((left, right), (right, left)):
      if isinstance(number, int) and not isinstance(value, int | float):
        meter.check_size(meter.weigh(value)[0] * max(number, 0))
  elif operator == '%' and isinstance(left, str | bytes):
    check_percent(meter, left, right)
  elif operator == '+' and not isinstance(left, int | float):
    meter.check_size(meter.weigh(left)[0] + meter.weigh(right)[0])


def _check_power(base, exponent):
  if not isinstance(base, int) or not isinstance(exponent, int):
    return
  if base.bit_length() * abs(exponent) > _MAX_WIDTH:
    raise template_meter.LimitError(f'it computes {base} ** {exponent}')


def check_percent(
  meter: template_meter.Meter, text: str | bytes, values: Any
) -> None:
  """Refuses `text % values` if a width is too large, or the result may be."""
  shown = text if isinstance(text, str) else text.decode('latin-1')
  inner = values if isinstance(values, tuple) else (values,)
  wide = [v for v in inner if isinstance(v, int) and abs(v) > _MAX_WIDTH]
  if _WIDTH.search(shown) or ('*' in shown and wide):
    raise template_meter.LimitError('it formats with a width of 5 digits')
  each = sum(meter.weigh(value)[0] for value in inner)
  # A mapping can be read by every placeholder; a width adds to each.
  count = shown.count('%')
  share = each * count if isinstance(values, dict) else each
  padding = _MAX_WIDTH if re.search(r'%[^%a-zA-Z]*[\d*]', shown) else 0
  meter.check_size(len(text) + share + padding * count)


def check_method(
  meter: template_meter.Meter,
  owner: str | bytes | int,
  name: str,
  args: tuple[Any, ...],
  kwargs: dict[str, Any],
) -> tuple[Any, ...]:
  """Refuses a method call of a text or number whose result is too large.

  Returns:
    The arguments, with generators replaced by lists.

  Raises:
    LimitError: the result would be too large.
  """
  if isinstance(owner, int) or name in _PADDING:
    _check_numbers(name, args, kwargs)
  elif name == 'expandtabs':
    _check_numbers(name, args, kwargs)
    tabs = owner.count('\t' if isinstance(owner, str) else b'\t')
    meter.check_size(tabs * _first_int(args, kwargs, 8))
  elif name == 'replace':
    check_replace(meter, owner, *args[:2])
  elif name == 'join' and args:
    args = (check_join(meter, args[0], len(owner)),)
  elif name == 'translate':
    table = meter.weigh(args[0])[0] if args else 0
    meter.check_size(len(owner) * max(table, 1))
  return args


def _check_numbers(name, args, kwargs):
  for value in (*args, *kwargs.values()):
    if isinstance(value, int) and abs(value) > _MAX_WIDTH:
      raise template_meter.LimitError(f'it calls {name} with {value}')


def _first_int(args, kwargs, default: int) -> int:
  numbers = [v for v in (*args, *kwargs.values()) if isinstance(v, int)]
  return max(numbers[0], 0) if numbers else default


def check_replace(
  meter: template_meter.Meter, text: Any, old: Any = None, new: Any = None
) -> None:
  """Refuses `text.replace(old, new)` if its result is too large."""
  if isinstance(old, type(text)) and isinstance(new, type(text)):
    meter.check_size(len(text) + text.count(old) * len(new))


def check_join(
  meter: template_meter.Meter, items: Any, separator: int
) -> list[Any]:
  """Returns the items to join; refuses them if the text is too large."""
  found, size = [], 0
  for item in items:
    size += meter.weigh(item)[0] + separator
    meter.check_size(size)
    found.append(item)
  meter.spend(1 + size // 64)
  return found


def _filter_join(meter, args, kwargs):
  """`join(eval_ctx, items, separator, attribute)`."""
  separator = args[2] if len(args) > 2 else kwargs.get('d', '')
  items = check_join(meter, args[1], meter.weigh(separator)[0])
  return (args[0], items, *args[2:])


def _filter_replace(meter, args, kwargs):
  """`replace(eval_ctx, text, old, new, count)`."""
  text, old, new = (*(str(value) for value in args[1:4]), '', '')[:3]
  old, new = str(kwargs.get('old', old)), str(kwargs.get('new', new))
  check_replace(meter, text, old, new)
  return args


def _filter_width(meter, args, kwargs):
  """A filter whose numbers widen its result."""
  _check_numbers('a filter', args[1:], kwargs)
  return args


def _filter_indent(meter, args, kwargs):
  """`indent(text, width, first, blank)`."""
  width = args[1] if len(args) > 1 else kwargs.get('width', 4)
  lines = str(args[0]).count('\n') + 1
  meter.check_size(lines * (len(width) if isinstance(width, str) else width))
  return args


def _filter_format(meter, args, kwargs):
  """`format(text, *values)`."""
  check_percent(meter, str(args[0]), kwargs or tuple(args[1:]))
  return args


def _filter_sum(meter, args, kwargs):
  """`sum(environment, items, attribute, start)`: of numbers only."""
  start = args[3] if len(args) > 3 else kwargs.get('start', 0)
  if not isinstance(start, int | float):
    raise template_meter.LimitError('it sums what are no numbers')
  return args


FILTERS: dict[str, Callable[..., tuple[Any, ...]]] = {
  'join': _filter_join, 'replace': _filter_replace, 'center': _filter_width,
  'batch': _filter_width, 'slice': _filter_width, 'indent': _filter_indent,
  'format': _filter_format, 'sum': _filter_sum,
}  # fmt: skip


def to_json(
  meter: template_meter.Meter,
  value: Any,
  ensure_ascii: bool = False,
  indent: int | str | None = None,
  separators: tuple[str, str] | None = None,
  sort_keys: bool = False,
) -> str:
  """Returns a value as JSON, with the options that transformers has."""
  size, depth = meter.weigh(value)
  width = len(indent) if isinstance(indent, str) else (indent or 0)
  between = sum(map(len, separators)) if separators else 0
  meter.check_size(size * (1 + between + max(width, 0) * depth))
  return json.dumps(
    value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
    sort_keys=sort_keys,
  )  # fmt: skip


class Formatter(sandbox.SandboxedFormatter):
  """`str.format` whose widths and result are bounded.

  Args:
    environment: decides which attributes are safe.
    meter: bounds the result.
    text: the format.
  """

  def __init__(self, environment, meter: template_meter.Meter, text: str):
    super().__init__(environment)
    self._meter, self._text, self._size = meter, text, 0

  def format_text(self, *args, **kwargs) -> str:
    """As `text.format`."""
    self._size = len(self._text)
    return self.vformat(self._text, args, kwargs)

  def format_map(self, mapping) -> str:
    """As `text.format_map`."""
    self._size = len(self._text)
    return self.vformat(self._text, (), mapping)

  def format_field(self, value, format_spec):
    if _WIDTH.search(format_spec):
      raise template_meter.LimitError('it formats with a width of 5 digits')
    self._meter.use(value)
    text = super().format_field(value, format_spec)
    self._size += len(text)
    self._meter.check_size(self._size)
    return text

  def convert_field(self, value, conversion):
    self._meter.use(value)
    return super().convert_field(value, conversion)

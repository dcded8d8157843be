"""Formats numbers, counts and durations for logs, tables and plots."""

from typing import Any

MINUS = '\N{MINUS SIGN}'
_UNITS = ((1e15, ' P'), (1e12, ' T'), (1e9, ' G'), (1e6, ' M'), (1e3, ' k'))
UNKNOWN = '\N{EN DASH}'  # Shown for a number that is not known.


def short(value: float, digits: int = 4) -> str:
  """Returns a number with at most `digits` significant digits."""
  return f'{value:.{digits}g}'.replace('-', MINUS)


def quantity(value: float) -> str:
  """Returns a count with three significant digits: 950, 12.3 k, 4.56 M."""
  for size, unit in _UNITS:
    if abs(value) >= size:
      return f'{value / size:.3g}{unit}'
  return f'{value:.0f}'


def signed(value: float, digits: int) -> str:
  """Returns a number with `digits` decimals; zero has no sign."""
  text = f'{value:.{digits}f}'
  return text.replace('-', '' if float(text) == 0 else MINUS)


def duration(seconds: float) -> str:
  """Returns a duration as text: 0.4 s, 12 s, 3 min 05 s, 2 h 07 min."""
  if seconds < 9.95:
    return f'{seconds:.1f} s'
  seconds = round(seconds)
  if seconds < 60:
    return f'{seconds} s'
  if seconds < 3600:
    return f'{seconds // 60} min {seconds % 60:02d} s'
  minutes = round(seconds / 60)
  return f'{minutes // 60} h {minutes % 60:02d} min'


def value(entry: Any) -> str:
  """Returns a value of a record as text: floats short, None as unknown."""
  if isinstance(entry, float):
    return short(entry, 3)
  return UNKNOWN if entry is None else str(entry)

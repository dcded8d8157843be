"""TODO: report.svg (from evaluate.plots)."""

import math

Point = tuple[float, float]
MINUS = '\N{MINUS SIGN}'


def short(value: float, digits: int = 4) -> str:
  """A number of a few digits, with a true minus sign."""
  return f'{value:.{digits}g}'.replace('-', MINUS)


def quantity(value: float) -> str:
  """A count in three digits: 950, 12.3 k, 4.56 M."""
  for size, unit in ((1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
    if abs(value) >= size:
      return f'{value / size:.3g}{unit}'
  return f'{value:.0f}'


def ticks(low: float, high: float, num: int) -> list[float]:
  """About `num` round numbers from at or below `low` to at or above `high`."""
  span = max(high - low, 1e-9)
  power = 10 ** math.floor(math.log10(span / num))
  step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * num >= span)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [round(i * step, 12) for i in range(first, last + 1)]


def signed(value: float, digits: int) -> str:
  """A number with so many decimals; zero has no sign."""
  text = f'{value:.{digits}f}'
  return text.replace('-', '' if float(text) == 0 else MINUS)

"""Formats a plan as text."""

from typing import Any

GIB = 2**30


def format_plan(found: dict[str, Any]) -> str:
  """Returns a plan as tables.

  Args:
    found: what `plan.plan` returned.
  """
  programs = found['programs']
  mesh = ', '.join(f'{axis}={size}' for axis, size in found['mesh'].items())
  parameters = ', '.join(
    f'{size / 1e9:.3f} B in {kind}'
    for kind, size in found['parameters'].items()
  )
  lines = [
    f'{found["name"]} on {found["topology"]}: {found["devices"]}; {mesh}',
    f'parameters: {parameters} (core in {found["dtype"]})',
    f'a wake step processes {found["rows"]} rows of {found["context"]} tokens',
    *([found['holds']] if found.get('holds') else []),
    '',
    _row('GiB per device', programs),
  ]
  for part in ('kept', 'needed'):
    kinds = dict.fromkeys(k for row in programs.values() for k in row[part])
    for kind in kinds:
      lines.append(_row(f'  {kind}', _gib(
        row[part].get(kind, 0) for row in programs.values())))  # fmt: skip
    lines.append(_row(
      f'{part}, total', _gib(sum(r[part].values()) for r in programs.values())
    ))  # fmt: skip
  lines.append(
    'in addition, the initial model is kept to measure drift: '
    f'{found["initial_model"] / GIB:.2f}'
  )
  compiled = [row.get('compiled', {}) for row in programs.values()]
  if any(compiled):
    lines.append(
      _row(
        'peak of the compiler',
        [f'{x["peak"] / GIB:.2f}' if 'peak' in x else '-' for x in compiled],
      )
    )
    lines.append(
      _row(
        'compile time, s',
        [f'{x["seconds"]:.0f}' if x else '-' for x in compiled],
      )
    )
  lines += [
    '',
    _row('per step or round', programs),
    _row('  TFLOP', [f'{r["flops"] / 1e12:.3g}' for r in programs.values()]),
    _row('  seconds, lower bound',
         [f'{r["seconds"]:.3g}' for r in programs.values()]),
  ]  # fmt: skip
  if found['efficiency']:
    seconds = [f'{r["estimated_seconds"]:.3g}' for r in programs.values()]
    lines += [_row('  seconds, estimated', seconds), *_estimates(found)]
  else:
    lines.append(_lower_bounds(found))
  return '\n'.join([*lines, *found['uneven'], *found['too_much']])


def _lower_bounds(found) -> str:
  """Returns a sentence about nights and days, in lower bounds."""
  programs = found['programs']
  night = found['rounds'] * programs['night']['seconds']
  day = found['wake_steps'] * programs['wake']['seconds']
  line = f'a night of {found["rounds"]} rounds: {night:.3g} s; '
  if found['wake_steps']:
    line += (
      f'nights per day: {86400 / (night + day):.3g}, each after '
      f'{found["wake_steps"]} wake steps ({day:.3g} s); '
    )
  else:
    line += 'the wake steps of a day depend on its rows (wake.epochs); '
  return f'{line}all times are lower bounds'


def _estimates(found) -> list[str]:
  """Returns sentences about nights and days, in estimated minutes."""
  minutes, efficiency = estimated_minutes(found), found['efficiency']
  rounds = f'{found["rounds"]} round{"s" * (found["rounds"] != 1)}'
  line = f'a night of {rounds}: about {minutes["night"]:.3g} minutes'
  if found['wake_steps']:
    line += (
      f'; a day of {found["wake_steps"]} wake steps: about '
      f'{minutes["day"]:.3g} minutes'
    )
  return [
    line,
    f'Times are estimates at {efficiency["compute"]:.0%} of the peak speed of '
    f'matrix products and {efficiency["bandwidth"]:.0%} of the memory '
    'bandwidth, an assumption: no GPU was measured. Compiling, evaluation and '
    'saving are not included.',
  ]


def estimated_minutes(found: dict[str, Any]) -> dict[str, float]:
  """Returns the estimated minutes of a day and of its night.

  Args:
    found: what `plan.plan` returned for a GPU. A day whose wake steps depend on
      its rows has 0.
  """
  programs = found['programs']
  return {
    'day': found['wake_steps'] * programs['wake']['estimated_seconds'] / 60,
    'night': found['rounds'] * programs['night']['estimated_seconds'] / 60,
  }


def _gib(sizes):
  return [f'{size / GIB:.2f}' for size in sizes]


def _row(name, cells):
  return f'{name:<28}' + ''.join(f'{cell:>10}' for cell in cells)

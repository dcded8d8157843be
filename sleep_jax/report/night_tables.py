"""Builds the tables of nights, of imitation and of expert gates."""

from collections.abc import Iterator
from typing import Any

from sleep_jax.report import day_names, figures, html, text_format


def nights(groups: figures.Groups, teachers: list[str]) -> html.Table:
  """Returns one row per night: divergence, time, outcome and guard."""
  rows: list[list[str | html.Cell]] = []
  for run, night in _nights(groups):
    last = night['divergence'][-1] if night['divergence'] else {}
    guard = ', '.join(
      f'{key} {text_format.value(value)}'
      for key, value in (night.get('guard') or {}).items()
    )
    reasons = [night['reason'], f'guard: {guard}' if guard else '']
    rows.append(
      [
        _title(run),
        str(night['night']),
        day_names.name(run, night.get('experience'))
        or text_format.value(night.get('experience')),
        _receiver(night),
        *(_change(night['divergence_at_0'], last, t) for t in teachers),
        text_format.duration(night['seconds']),
        'accepted' if night['accepted'] else 'discarded',
        html.Cell('; '.join(filter(None, reasons)), kind='words'),
      ]
    )
  names = [f'divergence from {t}, start → end' for t in teachers]
  head = ['run', 'night', 'day', 'sender → receiver', *names]
  head += ['time', 'outcome', 'reason and guard']
  return html.Table([('', head)], rows)


def imitation(groups: figures.Groups) -> html.Table:
  """Returns the first and last round of imitation of each night."""
  found = [(r, n) for r, n in _nights(groups) if n.get('imitation')]
  keys = dict.fromkeys(
    key for _, n in found for key in n['imitation'][0] if key != 'update'
  )
  rows = [
    [
      _title(run),
      day_names.night(run, night['night']),
      *(
        _change(night['imitation'][0], night['imitation'][-1], key)
        for key in keys
      ),
    ]
    for run, night in found
  ]
  names = [
    key.replace('_wanted', ', teacher').replace('_', ' ') for key in keys
  ]
  return html.Table([('', ['run', 'night', *names])], rows)


def gates(groups: figures.Groups) -> list[html.Table]:
  """Returns per run and level the gates of its experts on each probe set."""
  found = []
  for run in (run for runs in groups.values() for run in runs):
    last = run['evaluations'][-1] if run['evaluations'] else {}
    for level, sets in (last.get('gates') or {}).items():
      names = [name for name in sets if name != 'slots']
      rows = [
        [
          _title(run),
          f'level {level}, expert {slot}',
          *(
            f'{sets[n]["gate"][i]:.2f} · {sets[n]["adds"][i]:.2g}'
            for n in names
          ),
        ]
        for i, slot in enumerate(sets['slots'])
      ]
      columns = [
        day_names.title(run, int(n)) if n.isdigit() else 'prior' for n in names
      ]
      found.append(html.Table([('', ['run', 'expert', *columns])], rows))
  return found


def _nights(
  groups: figures.Groups,
) -> Iterator[tuple[figures.Run, dict[str, Any]]]:
  for runs in groups.values():
    for run in runs:
      for night in run['nights']:
        yield run, night


def _title(run: figures.Run) -> str:
  return f'{run["strategy"]}, seed {run["seed"]}'


def _receiver(night: dict[str, Any]) -> str:
  """Returns the level that a night moves from and the expert it trains."""
  if night.get('phase') == 'edit':
    return 'all weights'
  return f'{night["sender"]} → {night["receiver"]}, expert {night["slot"]}'


def _change(first: dict[str, Any], last: dict[str, Any], key: str) -> str:
  start, end = text_format.value(first.get(key)), last.get(key)
  return f'{start} → {text_format.value(end)}'

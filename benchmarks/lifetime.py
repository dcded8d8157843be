"""Summarizes a run of many nights: retention by age, handovers, cost.

    python -m benchmarks.lifetime RUN/seed_0/sleep/metrics.jsonl --out=FILE

A handover is a night of a bank level. Its cost is the change of the days that
it carries, from the morning before to the morning after it; that includes what
the ordinary night between the two changes.
"""

import argparse
import json
import pathlib
import statistics
from collections.abc import Sequence
from typing import Any

from sleep_jax.evaluate import retention

Row = dict[str, Any]
AGES = (0, 1, 5, 10, 25, 50, 75, 100, 200, 365)
WINDOW = 10  # Nights whose median cost is compared.


def mornings(rows: Sequence[Row]) -> dict[int, dict[str, float]]:
  """Returns the scores of each morning, by the number of its day."""
  return {
    row['cycle']: row['scores']
    for row in rows
    if row['kind'] == 'evaluation' and row['moment'] == 'morning'
  }


def days_of(scores: dict[str, float], until: int) -> list[float]:
  """Returns the accuracy of each day so far, in order."""
  return [scores[str(day)] for day in range(1, until + 1)]


def handovers(rows: Sequence[Row], found: dict[int, dict[str, float]]):
  """Returns what each handover changed of the days that it carried."""
  changes: list[Row] = []
  last: dict[int, int] = {}
  for row in rows:
    if row['kind'] != 'night' or row.get('phase') == 'merge':
      continue
    if not row['accepted']:  # What it would have carried is still to come.
      continue
    sender, day = row['sender'], row['experience']
    if sender > 1 and {day - 1, day} <= {*found}:
      carried = range(last.get(sender, 0) + 1, day)
      before, after = (
        statistics.mean(found[at][str(d)] for d in carried)
        for at in (day - 1, day)
      )
      changes.append(
        {'day': day, 'sender': sender, 'change': after - before,
         'cpu_seconds': row['cpu_seconds']}
      )  # fmt: skip
    last[sender] = day
  return changes


def ordinary(rows: Sequence[Row]) -> list[Row]:
  """Returns the median cost of ordinary nights, ten at a time."""
  nights = [
    row for row in rows if row['kind'] == 'night' and row['sender'] == 1
  ]
  windows = [
    (6, 15),
    *((n + 1, n + WINDOW) for n in range(10, len(nights), 10)),
  ]
  return [
    {
      'nights': f'{first} to {last}',
      'cpu_seconds': statistics.median(
        row['cpu_seconds'] for row in nights[first - 1 : last]
      ),
    }
    for first, last in windows
    if last <= len(nights)
  ]


def summarize(rows: Sequence[Row]) -> Row:
  """Returns the summary of the metrics of a run."""
  evaluations = [row for row in rows if row['kind'] == 'evaluation']
  found = mornings(rows)
  last = max(found)
  nights = [row for row in rows if row['kind'] == 'night']
  changes = handovers(rows, found)
  known = days_of(found[last], last)
  return {
    'days': last,
    'prior': found[last]['pretrain'],
    'all_days': statistics.mean(known),
    'first_25_days': statistics.mean(known[:25]),
    'worst_day': min(known),
    'mean_of_days_by_morning': {
      morning: statistics.mean(days_of(found[morning], morning))
      for morning in found
      if morning % 10 == 0 or morning == last
    },
    'damage_awake': _damage(rows, found),
    'retention': {
      age: accuracy
      for age, accuracy in retention.by_age(evaluations).items()
      if age in AGES
    },
    'handovers': {
      'mean_change': statistics.mean(x['change'] for x in changes),
      'worst_change': min(x['change'] for x in changes),
      'each': changes,
    } if changes else {},
    'ordinary_nights': ordinary(rows),
    'cpu_seconds_of_nights': sum(row['cpu_seconds'] for row in nights),
  }  # fmt: skip


def _damage(rows: Sequence[Row], found: dict[int, dict[str, float]]) -> float:
  """Returns the mean change of what was known, from mornings to evenings."""
  changes = []
  for row in rows:
    if row['kind'] == 'evaluation' and row['moment'] == 'evening':
      before = found.get(row['cycle'] - 1)
      if before is not None:
        known = ['pretrain', *map(str, range(1, row['cycle']))]
        changes.append(
          statistics.mean(row['scores'][k] - before[k] for k in known)
        )
  return statistics.mean(changes)


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('metrics')
  parser.add_argument('--out', default='')
  args = parser.parse_args()
  lines = pathlib.Path(args.metrics).read_text().splitlines()
  found = summarize([json.loads(line) for line in lines])
  text = json.dumps(found, indent=1)
  if args.out:
    pathlib.Path(args.out).write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()

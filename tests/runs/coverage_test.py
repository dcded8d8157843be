"""How much of each day is read, and rehearsed, is said in plain numbers."""

import dataclasses
import json

import pytest

from sleep_jax.model import config as model_config
from sleep_jax.runs import coverage
from tests import tiny_study

DAY = coverage.Day(
  name='day_1', rows=40, skipped=0, windows=40, steps=20, batch_size=4,
  in_passes=False, kept=64, rehearsals=96,
)  # fmt: skip


def _day(**changes):
  return dataclasses.replace(DAY, **changes)


@pytest.mark.parametrize(
  ('changes', 'line'),
  [
    (dict(), 'day_1: 40 rows; 20 wake steps read each 2 times'),
    (
      dict(rows=12, skipped=2, windows=30, steps=15),
      'day_1: 12 rows, 2 left out as too long, in 30 windows; 15 wake steps '
      'read each 2 times',
    ),
    (
      dict(rows=10_000, windows=10_000, steps=40, kept=None),
      'warning: day_1: 10,000 rows; 40 wake steps read 160 of them, and 9,840 '
      'are never read. To read all, set config.wake.epochs=1, or raise '
      'config.wake.steps.',
    ),
    (
      dict(steps=5, in_passes=True),
      'warning: day_1: 40 rows; 5 wake steps read 20 of them, and 20 are never '
      'read. To read all, raise config.wake.epochs to 1 or more.',
    ),
    (
      dict(kept=16),
      'day_1: 40 rows; 20 wake steps read each 2 times; its night rehearses at '
      'most 16 of 40 prompts (config.replay.day)',
    ),
    (
      dict(rehearsals=8),
      'day_1: 40 rows; 20 wake steps read each 2 times; its night writes 8 '
      'rehearsals for 40 prompts (config.consolidate: num_updates / '
      'updates_per_round x draws)',
    ),
    (
      dict(too_wide=30, longest_prompt=90),
      'warning: day_1: 40 rows; 20 wake steps read each 2 times; 30 of its '
      'prompts are longer than config.consolidate.prompt_width, and no night '
      'rehearses them. To rehearse all, set config.consolidate.prompt_width=90,'
      ' and raise max_length by as much.',
    ),
    (
      dict(kept=None, rehearsals=0),
      'day_1: 40 rows; 20 wake steps read each 2 times',
    ),
  ],
)
def test_a_day_has_a_line(changes, line):
  assert coverage.lines([_day(**changes)]) == [line]


def test_prompts_of_rows_that_are_not_read_are_not_missed_at_night():
  assert _day(rows=400, windows=400).prompts == 80
  assert _day(rows=120, windows=40).prompts == 120  # Packed: three in each.


def test_more_than_five_days_that_are_alike_share_a_line():
  alike = [_day(name=f'day_{n}') for n in range(1, 7)]
  assert coverage.lines(alike) == [
    'day_1 to day_6 (6 days): 40 rows; 20 wake steps read each 2 times'
  ]
  assert len(coverage.lines(alike[:5])) == 5
  (row,) = coverage.rows(alike)
  assert row['name'] == 'day_1 to day_6 (6 days)'
  assert (row['passes'], row['unread'], row['prompts']) == (2.0, 0, 40)


def test_many_days_that_differ_are_summarised_and_still_warn():
  many = [_day(name=f'day_{n}', rows=n, windows=n) for n in range(40, 140)]
  lines = coverage.lines(many)
  assert len(lines) == 11
  assert lines[-1] == (
    'warning: 90 more days: each row is read 0.576 to 1.6 times; 1,770 are '
    'never read'
  )


@pytest.mark.parametrize('kept', [None, 16])
def test_the_report_has_a_row_per_day(kept):
  (row,) = coverage.rows([_day(kept=kept, steps=5)])
  assert row['kept'] == kept and row['unread'] == 20
  assert row['passes'] == 0.5


def test_the_night_of_the_first_level_that_sleeps_counts():
  config = tiny_study.config((1, 'experience'))
  stream = tiny_study.TinyStudy(config).stream
  found = []
  for night in ({}, dict(draws=3, num_updates=6, updates_per_round=2)):
    first, *others = config.levels
    config.levels = (first | dict(night=night), *others)
    plain = json.loads(config.to_json_best_effort())
    levels = [model_config.make_level(level) for level in plain['levels']]
    days = coverage.days(stream, (5, 5), plain, levels, sleeps=True)
    found.append(days[0].rehearsals)
  assert found[0] != found[1] == 3 * 3

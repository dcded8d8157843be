"""How much of each day is learned: rows, wake steps, passes, rehearsed prompts.

A day of many rows and few wake steps is learned in part, and a night that keeps
few prompts rehearses a part of it. Both are said before a run begins and stand
in the report.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax.data import stream as stream_lib
from sleep_jax.model import config as model_config
from sleep_jax.schedule import events
from sleep_jax.sleep import sender_settings

_NUM_ALIKE = 5  # Neighbouring days with equal numbers share a line beyond this.
_NUM_LINES = 10


@dataclasses.dataclass(frozen=True)
class Day:
  """The numbers of one day.

  Attributes:
    name: of the day.
    rows: rows of its file.
    skipped: rows that are too long and are left out.
    windows: rows of tokens that a wake step reads; a long text has several,
      and a packed one holds several texts.
    steps: wake steps.
    batch_size: windows per wake step.
    in_passes: whether the steps follow from `wake.epochs`.
    kept: prompts that the nights can keep of a day; None if no night rehearses
      prompts of the day.
    rehearsals: texts that a night writes on such prompts.
    too_wide: prompts that are longer than `consolidate.prompt_width`, which no
      night rehearses.
    longest_prompt: tokens of the longest prompt.
  """

  name: str
  rows: int
  skipped: int
  windows: int
  steps: int
  batch_size: int
  in_passes: bool
  kept: int | None
  rehearsals: int
  too_wide: int = 0
  longest_prompt: int = 0

  @property
  def passes(self) -> float:
    """How often a window is read, in the mean."""
    return self.steps * self.batch_size / self.windows

  @property
  def unread(self) -> int:
    """Number of windows that are never read."""
    return max(self.windows - self.steps * self.batch_size, 0)

  @property
  def prompts(self) -> int:
    """Number of prompts that the day offers: one per text or window read."""
    share = min(self.passes, 1.0)
    return round(max(self.rows - self.skipped, self.windows) * share)


def days(
  stream: stream_lib.Stream,
  steps: Sequence[int],
  config: Mapping[str, Any],
  levels: Sequence[model_config.Level],
  *,
  sleeps: bool,
) -> list[Day]:
  """Returns the numbers of each day.

  Args:
    stream: of the run.
    steps: wake steps of each day.
    config: as JSON returns it.
    levels: of the model; the nights of the first one that sleeps count.
    sleeps: whether a strategy of the run has nights.
  """
  data, senders = config['data'], events.sleepers(levels)
  night = sender_settings.make(config, senders[0] if senders else 0)
  teachers = [t for t in night.teachers if t.prompts == 'day']
  rehearses = sleeps and teachers and config['replay']['store'] != 'none'
  num_rounds = night.num_updates // night.updates_per_round
  texts = [rows for _, rows in stream.dataset.experiences]
  return [
    Day(
      name=source.name,
      rows=len(rows),
      skipped=source.skipped.num_rows,
      windows=source.num_rows,
      steps=num_steps,
      batch_size=data.get('day_batch_size') or data['batch_size'],
      in_passes=bool(config['wake'].get('epochs')),
      kept=config['replay']['day'] if rehearses else None,
      rehearsals=num_rounds * sum(t.draws for t in teachers),
      too_wide=sum(
        num
        for length, num in source.prompt_lengths.items()
        if rehearses and length > night.prompt_width
      ),
      longest_prompt=max(source.prompt_lengths, default=0),
    )
    for source, rows, num_steps in zip(
      stream.experiences, texts, steps, strict=True
    )
  ]


def lines(found: Sequence[Day]) -> list[str]:
  """Returns a line per day, or per group of days that are alike.

  A line begins with 'warning: ', and says which fields to change, if rows are
  never read or prompts are longer than `consolidate.prompt_width`.
  """
  groups = _groups(found)
  shown = [_line(group) for group in groups[:_NUM_LINES]]
  rest = [day for group in groups[_NUM_LINES:] for day in group]
  if rest:
    passes = [day.passes for day in rest]
    unread = sum(day.unread for day in rest)
    shown.append(
      f'{"warning: " * bool(unread)}{len(rest)} more days: each row is read '
      f'{min(passes):.3g} to {max(passes):.3g} times; {unread:,} are never read'
    )
  return shown


def rows(found: Sequence[Day]) -> list[dict[str, Any]]:
  """Returns the same numbers for the report, as JSON-able values."""
  return [
    {
      **dataclasses.asdict(group[0]), 'name': _name(group),
      'passes': group[0].passes, 'unread': group[0].unread,
      'prompts': group[0].prompts,
    }
    for group in _groups(found)
  ]  # fmt: skip


def _groups(found):
  """Returns neighbouring days that are alike, if they are many; else each."""
  same = lambda day: dataclasses.replace(day, name='')
  groups = []
  for _, group in itertools.groupby(found, same):
    alike = list(group)
    groups += [alike] if len(alike) > _NUM_ALIKE else [[day] for day in alike]
  return groups


def _name(group):
  first, last = group[0].name, group[-1].name
  if len(group) == 1:
    return first
  return f'{first} to {last} ({len(group)} days)'


def _line(group):
  """Returns what is read of a day, or of each of several."""
  day = group[0]
  text = f'{_name(group)}: {day.rows:,} row{"s" * (day.rows != 1)}'
  if day.skipped:
    text += f', {day.skipped:,} left out as too long'
  if day.windows != day.rows - day.skipped:
    text += f', in {day.windows:,} windows'
  text += f'; {day.steps:,} wake step'
  text += ' reads ' if day.steps == 1 else 's read '
  if day.unread:
    read = day.steps * day.batch_size
    text += f'{read:,} of them, and {day.unread:,} are never read'
  else:
    times = f'{day.passes:.3g}'
    text += f'each {"once" if times == "1" else f"{times} times"}'
  text += _night(day)
  choices = []
  if day.unread:
    choice = 'raise config.wake.epochs to 1 or more'
    if not day.in_passes:
      choice = 'set config.wake.epochs=1, or raise config.wake.steps'
    choices.append(f'To read all, {choice}.')
  if day.too_wide:
    text += (
      f'; {day.too_wide:,} of its prompts are longer than '
      'config.consolidate.prompt_width, and no night rehearses them'
    )
    choices.append(
      f'To rehearse all, set config.consolidate.prompt_width='
      f'{day.longest_prompt}, and raise max_length by as much.'
    )
  return ' '.join([f'warning: {text}.', *choices]) if choices else text


def _night(day):
  """Returns which prompts a night leaves out, or ''."""
  if day.kept is None:
    return ''
  if day.kept < day.prompts:
    return (
      f'; its night rehearses at most {day.kept:,} of {day.prompts:,} prompts '
      '(config.replay.day)'
    )
  if day.rehearsals < day.prompts:
    return (
      f'; its night writes {day.rehearsals:,} rehearsals for {day.prompts:,} '
      'prompts (config.consolidate: num_updates / updates_per_round x draws)'
    )
  return ''

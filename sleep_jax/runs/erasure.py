"""Erases a night of a session: its day's text, and what was learned of it.

There are two ways to remove what was learned. A rollback goes back to the
checkpoint before the day: it is exact, and the nights after it are learned
again. Forgetting clears the expert that holds the night and keeps later nights,
whose experts were trained while it was in place.
"""

import dataclasses
import pathlib
import re
import shutil
from typing import Any

from sleep_jax import errors
from sleep_jax.datasets import row_files
from sleep_jax.runs import (
  chat_session,
  day_records,
  erased_state,
  expert_history,
  text_search,
)
from sleep_jax.runs import session as session_lib

ROLLBACK, FORGET = 'rollback', 'forget'
_NO_TEXT = ('role', 'from', 'name')  # Fields whose values are names.
_OF_SESSION = r'day_\d+'
# Written again by the next night.
_DERIVED = (
  'tokens', 'tuning', 'profile', 'report.html', 'summary.json',
  'seed_*/*/dreams.jsonl', 'seed_*/*/tensorboard', 'seed_*/*/wandb',
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a night is erased.

  Attributes:
    method: 'rollback' or 'forget'.
    day: name of the day.
    number: number of the experience.
    file: the day's file, or None if it is gone already.
    nights: nights of that day.
    later: nights after it.
    lost: those of them that cannot be learned again: their text is gone.
    place: level and slot of the expert to forget; of no meaning for a rollback.
    span: wake steps and first cycle of the day.
  """

  method: str
  day: str
  number: int
  file: pathlib.Path | None
  nights: list[int]
  later: list[int]
  lost: list[int]
  place: expert_history.Place
  span: tuple[int, int, int]

  def describe(self) -> str:
    """Returns what is erased and what is not, in sentences."""
    text = f'Night {self.nights[0]} ({self.day}) will be erased: its rows'
    if self.method == FORGET:
      level, slot = self.place
      text += (
        f', stored prompts, samples, later checkpoints and the weights of '
        f'expert {slot} of level {level}.'
      )
      if not self.later:
        return text
      return (
        f'{text} Nights {self.later} stay; their experts were trained while '
        'this one was in place and may repeat parts of that day: --rollback '
        'removes those too.'
      )
    text += f', and the model goes back to before {self.day}.'
    again = [night for night in self.later if night not in self.lost]
    if again:
      text += f' Nights {again} go too: /sleep learns their days again.'
    if self.lost:
      text += (
        f' Nights {self.lost} go for good: the text of their days is gone.'
      )
    return text


def make_plan(
  session: session_lib.Session, night: int, *, rollback: bool = False
) -> Plan:
  """Returns how a night can be erased.

  The last night is rolled back if its checkpoint exists; others are forgotten.

  Args:
    session: that learned the night.
    night: its number, from 1.
    rollback: go back to before the day, also if other nights follow.

  Raises:
    UsageError: no such night, a day is under way, the day belongs to the run
      that the session started from, or the night does not stand alone any more
      and there is no checkpoint to go back to. Says which nights would go too.
  """
  record = session.progress()
  if record is None or session.needs_night():
    raise errors.UsageError(
      'No night can be erased while a day is under way, or before the first '
      'night: finish it with /sleep.'
    )
  number = expert_history.day_of_night(record, night)
  nights = expert_history.nights_of_day(record, number)
  later = [n['night'] for n in record['nights'] if n['night'] > max(nights)]
  span = expert_history.span(record, number)
  records = day_records.read(session.seed_folder)
  name = records[number]['name']
  files = {path.stem: path for path in session.days}
  file = files.get(name)
  lost = [
    night for night in later
    if records[expert_history.day_of_night(record, night)]['name'] not in files
  ]  # fmt: skip
  if file is None and not re.fullmatch(_OF_SESSION, name):
    raise errors.UsageError(
      f'Night {night} is of {name}, a day of the run that this one started '
      'from: its text is not kept here and cannot be erased here.'
    )
  cycles = [0, *session.cycles()]
  can_roll_back = span[2] - 1 in cycles
  is_erased = records[number].get('erased', False)
  place, problem = _standing(record, nights, is_erased)
  if rollback or (can_roll_back and not later):
    method = ROLLBACK
    problem = ''
    held = expert_history.holders(record['ledger']).values()
    forgotten = sorted({*later} - {*lost} - set().union(*held))
    if forgotten:
      can_roll_back = False
      problem = (
        f'nights {forgotten} after it were forgotten, and would be learned '
        f'again: delete their texts in {session.day_files.folder} first, or '
        'erase them'
      )
    elif not can_roll_back:
      problem = (
        f'the checkpoint of cycle {span[2] - 1}, from before {name}, is not '
        f'kept any more (config.checkpoint.keep); kept are {cycles[1:]}'
      )
  else:
    method = FORGET
  if problem:
    also = f' A rollback would take nights {later} too:' if later else ''
    way = (
      f'{also} /forget {night} --erase --rollback.'
      if can_roll_back
      else ' Nothing was changed. /forget without --erase switches experts off.'
    )
    raise errors.UsageError(f'Night {night} cannot be erased: {problem}.{way}')
  return Plan(method, name, number, file, nights, later, lost, place, span)


def carry_out(
  session: session_lib.Session, plan: Plan
) -> list[text_search.Found]:
  """Erases a night; returns what is left of its day's rows in the folder.

  Deletes texts first, so that an interrupted erasure can be repeated: until it
  is complete, the day is recorded as learned and missing.

  Args:
    session: that the plan was made for.
    plan: see `make_plan`.
  """
  texts = []
  if plan.file is not None:
    texts = _texts(plan.file)
    chat_session.discard_messages(session.folder, plan.day)
    plan.file.unlink()
  run = session.folder / session_lib.RUN
  derived = [path for pattern in _DERIVED for path in run.glob(pattern)]
  # What processes left that were killed while they wrote.
  derived += [
    p for p in run.rglob('*.new') if re.search(r'\.\d+\.new$', p.name)
  ]
  derived += session.day_files.folder.glob(f'{plan.day}.jsonl.part')
  for path in derived:
    if path.is_dir():
      shutil.rmtree(path)
    else:
      path.unlink(missing_ok=True)
  records = day_records.read(session.seed_folder)
  # Without the digest, by which a guessed text could be confirmed.
  gone = {'rows': 0, 'digest': '', 'missing': True}
  records[plan.number] = {**records[plan.number], **gone}
  day_records.write(session.seed_folder, records)
  if plan.method == ROLLBACK:
    held = _held(session)
    session.go_back(plan.span[2] - 1)
    day_records.write(session.seed_folder, records[: plan.number])
    # What was forgotten since that checkpoint stays forgotten.
    for place, nights in _held(session).items():
      if place[1] is not None and not set(nights) & set().union(*held.values()):
        session.forget(*place)
  else:
    since, until, cycle = plan.span
    erased = erased_state.Day(plan.nights[0], since, until, cycle)
    session.forget(*plan.place, erased)
    records[plan.number] = {**records[plan.number], 'erased': True}
    day_records.write(session.seed_folder, records)
  return text_search.find(session.folder, *texts) if texts else []


def _held(
  session: session_lib.Session,
) -> dict[expert_history.Place, list[int]]:
  record = session.progress()
  return expert_history.holders(record['ledger']) if record else {}


def _standing(
  record: dict[str, Any], nights: list[int], is_erased: bool
) -> tuple[expert_history.Place, str]:
  """Returns the expert of a day, and why it cannot be erased alone, or ''."""
  nowhere = (0, None)
  if len(nights) > 1:
    return nowhere, f'its day had nights {nights}, of several levels'
  night, history = nights[0], record['ledger']
  held = expert_history.holders(history)
  place = next((p for p, found in held.items() if night in found), None)
  if place is None and not is_erased:
    place = expert_history.forgotten_place(history, night)
  if place is None:
    return nowhere, 'no expert holds it: it was discarded, forgotten or erased'
  others = [other for other in held.get(place, []) if other != night]
  if place[1] is None:
    return place, f'it was consolidated into the base of level {place[0]}'
  if others:
    return place, (
      f'its expert also holds nights {others}, which would be lost too'
    )
  if expert_history.original_slot(history, night) != place:
    return place, f'it was handed over to level {place[0]}'
  return place, ''


def _texts(file: pathlib.Path) -> list[str]:
  """Returns the texts of a day's rows, of all fields; roles are none."""
  texts: list[str] = []

  def collect(value):
    if isinstance(value, str):
      texts.append(value)
    elif isinstance(value, list):
      for item in value:
        collect(item)
    elif isinstance(value, dict):
      for name, item in value.items():
        if name not in _NO_TEXT:
          collect(item)

  for _, row in row_files.read(str(file)):
    collect(row)
  return [text for text in texts if text_search.has_words(text)]

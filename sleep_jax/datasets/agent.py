"""Dataset of small programs; later ones may reuse what earlier ones taught.

A program is a list of sub-procedures with invented names, applied to a list of
three digits one after the other. An answer is the list after each of them, and
is right if it equals what executing the program gives:

    ba ko , mi tu : 3 1 4 = 4 1 3 , 2 4 5

The first days teach sub-procedures. Each later day teaches programs of two. In
the compositional stream these are made of the sub-procedures of the first days.
The naive stream has the same programs on the same digits, but each day has
other names, so that no name occurs on two days. The programs of the last day
are not taught before: up to then they are the held-out tasks.

The pretraining text has programs of other names. Every part of a name and every
sub-procedure occurs in it, so a name is all that a day adds.

Reference: 2606.02461 (AgentCL), of which the tasks here are our reading:
docs/results/agent/README.md.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, invented_names

WIDTH = 3  # Digits of a list.
_BASE = 10
# What is added to each digit. Few shifts, so that the digits of an answer are
# like those of the question before the names are known: with shifts of any
# size, neither name nor digit alone says anything, and a small model starts to
# learn late.
_SHIFTS = (0, 1)
_PARTS = 20  # First and last parts of names.
_ROWS_PER_NAME = 200  # Most rows of pretraining; half of them have one name.
_HELD_OUT = 128  # Rows that are never trained on.
_MAX_GUARD_PROBES = 100

Digits = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Procedure:
  """A sub-procedure: an order of the digits, and a change of each.

  Attributes:
    order: index of the old digit at each place.
    shift: is added to each digit, modulo 10.
  """

  order: tuple[int, ...]
  shift: int

  def __call__(self, digits: Digits) -> Digits:
    """Returns the list after this sub-procedure."""
    return tuple((digits[old] + self.shift) % _BASE for old in self.order)


PROCEDURES = tuple(
  Procedure(order, shift)
  for order, shift in itertools.product(
    itertools.permutations(range(WIDTH)), _SHIFTS
  )
)
# Name of a sub-procedure -> what it does.
Library = Mapping[str, Procedure]
Program = tuple[str, ...]  # Names of the sub-procedures, first one first.


def execute(program: Program, digits: Digits, library: Library) -> list[Digits]:
  """Returns the list after each sub-procedure of a program."""
  found = []
  for name in program:
    digits = library[name](digits)
    found.append(digits)
  return found


def make(
  *,
  reuse: bool = True,
  num_pretrain: int = 60,
  pretrain_rows: int = 6000,
  num_days: int = 6,
  first_days: int = 2,
  tasks_per_day: int = 4,
  examples: int = 24,
  probes_per_task: int = 12,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset.Dataset:
  """Returns a stream of programs, compositional or naive.

  Args:
    reuse: whether later days use the names of earlier ones (compositional); if
      not, each day has names of its own (naive). Nothing else differs.
    num_pretrain: names in the pretraining text.
    pretrain_rows: rows of it, half of them programs of two.
    num_days: number of experiences, the held-out one included.
    first_days: days of single sub-procedures; the others have programs of two.
    tasks_per_day: programs of a day.
    examples: rows of each program.
    probes_per_task: scored lists of each program, none of which is in a row.
    seed: draws everything.
    stream_seed: if set, the experiences have other sub-procedures, programs and
      digits; pretraining is unchanged: a stream for tuning.

  Raises:
    DataError: a number is out of range, or the names are too few.
  """
  later_days = num_days - first_days
  _check(num_pretrain, first_days, later_days, tasks_per_day, pretrain_rows)
  _check_lists(examples, probes_per_task)
  num_new = first_days * tasks_per_day
  num_names = num_pretrain + num_new * (1 + later_days)
  parts = invented_names.SYLLABLES[:_PARTS], invented_names.SYLLABLES[-_PARTS:]
  names = [
    ' '.join(pair)
    for pair in invented_names.draw(
      np.random.default_rng([seed, 0]), *parts, num_names, what='agent'
    )
  ]
  known, new = names[:num_pretrain], names[num_pretrain:]
  pretrain = _Examples(
    np.random.default_rng([seed, 1]), _library(known, seed, 0)
  )
  singles = [(name,) for name in known]
  texts = [
    pretrain.draw(
      [_pick(pretrain.rng, known, 1 + row % 2)], 1, 'agent, pretraining'
    )[0]
    for row in range(pretrain_rows + _HELD_OUT)
  ]
  scored = pretrain.draw(singles, 1, 'agent, pretraining')
  guard = pretrain.draw(singles, 1, 'agent, pretraining')

  stream = 0 if stream_seed is None else 1 + stream_seed
  library = _library(new[:num_new], seed, 1 + stream)
  rng = np.random.default_rng([seed, 2, stream])
  taught = _Examples(rng, library)
  per_task = examples + probes_per_task
  experiences, probes = [], {'pretrain': _probes(scored, {})}
  for day, programs in enumerate(
    _programs(rng, new[:num_new], first_days, later_days, tasks_per_day), 1
  ):
    other: dict[str, str] = {}
    if day > first_days and not reuse:
      start = num_new * (day - first_days)
      fresh = new[start : start + num_new]
      other = dict(zip(new[:num_new], fresh, strict=True))
    drawn = taught.draw(programs, per_task, f'agent, day {day}')
    rows = [x for n, x in enumerate(drawn) if n % per_task < examples]
    asked = [x for n, x in enumerate(drawn) if n % per_task >= examples]
    experiences.append((f'day {day}', _rows(rows, other)))
    probes[str(day)] = _probes(asked, other)
  return dataset.Dataset(
    name='agent',
    pretrain=_rows(texts[_HELD_OUT:], {}),
    held_out=_rows(texts[:_HELD_OUT], {}),
    experiences=experiences,
    probes=probes,
    guard=_probes(guard, {})[:_MAX_GUARD_PROBES],
  )


@dataclasses.dataclass(frozen=True)
class _Example:
  """A program, a list of digits, and the list after each sub-procedure."""

  program: Program
  digits: Digits
  states: list[Digits]
  where: str

  def texts(self, other: Mapping[str, str]) -> tuple[str, str]:
    """Returns question and answer.

    Args:
      other: names that are written instead of those of the program.
    """
    names = ' , '.join(other.get(name, name) for name in self.program)
    lists = [' '.join(map(str, digits)) for digits in self.states]
    question = f'{names} : {" ".join(map(str, self.digits))} ='
    return question, ' ' + ' , '.join(lists)


class _Examples:
  """Draws examples of programs; no program gets one list of digits twice."""

  def __init__(self, rng: np.random.Generator, library: Library):
    self.rng, self._library = rng, library
    self._used: dict[Program, set[Digits]] = {}

  def draw(
    self, programs: Sequence[Program], num: int, where: str
  ) -> list[_Example]:
    """Returns `num` examples of each program, one program after the other."""
    found = []
    for program in programs:
      used = self._used.setdefault(program, set())
      for _ in range(num):
        digits = self._digits()
        while digits in used:
          digits = self._digits()
        used.add(digits)
        states = execute(program, digits, self._library)
        found.append(_Example(program, digits, states, where))
    return found

  def _digits(self) -> Digits:
    return tuple(self.rng.integers(_BASE, size=WIDTH).tolist())


def _library(names: Sequence[str], seed: int, stream: int) -> Library:
  """Draws what each name does; as many names as possible differ."""
  rng = np.random.default_rng([seed, 3, stream])
  drawn = rng.permutation(np.resize(np.arange(len(PROCEDURES)), len(names)))
  if len(names) <= len(PROCEDURES):
    drawn = rng.permutation(len(PROCEDURES))[: len(names)]
  return {n: PROCEDURES[i] for n, i in zip(names, drawn, strict=True)}


def _pick(rng, names: Sequence[str], num: int) -> Program:
  chosen = rng.choice(len(names), num, replace=False)
  return tuple(names[i] for i in chosen)


def _programs(
  rng, names: Sequence[str], first_days: int, later_days: int, per_day: int
) -> list[list[Program]]:
  """Returns the programs of each day; no program is on two days."""
  days: list[list[Program]] = [
    [(name,) for name in names[day * per_day : (day + 1) * per_day]]
    for day in range(first_days)
  ]
  pairs = [*itertools.permutations(names, 2)]
  order = iter(rng.permutation(len(pairs))[: later_days * per_day])
  days += [
    [pairs[next(order)] for _ in range(per_day)] for _ in range(later_days)
  ]
  return days


def _rows(
  examples: Sequence[_Example], other: Mapping[str, str]
) -> list[dataset.Row]:
  texts = [(*example.texts(other), example.where) for example in examples]
  return [
    dataset.Row(
      text=question + answer, response_start=len(question), where=where
    )
    for question, answer, where in texts
  ]


def _probes(
  examples: Sequence[_Example], other: Mapping[str, str]
) -> list[dataset.Probe]:
  texts = [(*example.texts(other), example.where) for example in examples]
  return [
    dataset.Probe(prompt=question, answer=answer, where=where)
    for question, answer, where in texts
  ]


def _check(num_pretrain, first_days, later_days, tasks_per_day, rows) -> None:
  for name, value, minimum in (
    ('num_pretrain', num_pretrain, max(_PARTS, len(PROCEDURES))),
    ('pretrain_rows', rows, 1),
    ('first_days', first_days, 1),
    ('tasks_per_day', tasks_per_day, 1),
  ):
    if value < minimum:
      raise errors.DataError(
        f'agent: {name} is {value}: set it to {minimum} or more.'
      )
  if later_days < 2:
    raise errors.DataError(
      f'agent: num_days is {first_days + later_days} and first_days '
      f'{first_days}: expected 2 days or more with programs of two, of which '
      'the last one is held out.'
    )
  most = _ROWS_PER_NAME * num_pretrain
  if rows > most:
    raise errors.DataError(
      f'agent: pretrain_rows is {rows}: expected at most {most:,}, '
      f'{_ROWS_PER_NAME} per name, because a program has {_BASE**WIDTH} lists.'
    )
  num_new = first_days * tasks_per_day
  pairs = num_new * (num_new - 1)
  if later_days * tasks_per_day > pairs:
    raise errors.DataError(
      f'agent: {later_days} days after the first ones, of {tasks_per_day} '
      f'tasks, need {later_days * tasks_per_day} programs, but {num_new} '
      f'sub-procedures make {pairs} pairs: lower num_days or raise first_days.'
    )


def _check_lists(examples: int, probes_per_task: int) -> None:
  most = _BASE**WIDTH // 2  # Different lists are soon found by drawing.
  for name, value in (
    ('examples', examples), ('probes_per_task', probes_per_task)
  ):  # fmt: skip
    if value < 1:
      raise errors.DataError(f'agent: {name} is {value}: set it to 1 or more.')
  if examples + probes_per_task > most:
    raise errors.DataError(
      f'agent: examples {examples} and probes_per_task {probes_per_task} are '
      f'{examples + probes_per_task} lists of {WIDTH} digits for a program: '
      f'expected at most {most}.'
    )

"""Days of invented facts about people: who lives where, owns which pet, ...

    from benchmarks.real_model import facts
    first, second = facts.days(seed=0, num_days=2)
    first.rows[0]  # {'prompt': 'Question: Where does ...', 'response': ' Oslo'}

Each day has the same facts in three forms: rows of questions and answers,
pages of plain prose, and a conversation. A day after the first also corrects
some facts of the days before. Everything follows from the seed, and the first
days do not depend on how many follow.
"""

import re
from collections.abc import Sequence

import numpy as np

from benchmarks.real_model import texts, types, words

USER = 'I'  # The person of the user's own preferences.
_NUM_NEVER_TOLD = 24


def days(
  seed: int,
  num_days: int = 5,
  facts_per_day: int = 12,
  *,
  split: str = words.VALIDATION,
  corrections: int | None = None,
) -> list[types.Day]:
  """Returns the days of a study.

  Args:
    seed: draws everything.
    num_days: number of days.
    facts_per_day: facts of each day, each about another person.
    split: 'validation', for choosing settings, or 'test', which is reported;
      the two have no name and no value in common.
    corrections: how many of the facts of each day after the first are new
      values of facts of earlier days; None: a quarter.

  Raises:
    ValueError: there is no such split, or its names do not suffice.
  """
  if corrections is None:
    corrections = facts_per_day // 4
  people = _people(seed, split)
  new = num_days * facts_per_day - (num_days - 1) * corrections
  most = len(people) - _NUM_NEVER_TOLD // 2  # The others are never told.
  if new > most or not 0 <= corrections <= facts_per_day:
    raise ValueError(
      f'{num_days} days of {facts_per_day} facts with {corrections} '
      f'corrections tell {new} people: expected at most {most} people, and at '
      'most as many corrections as facts.'
    )
  found: list[types.Day] = []
  draw = _Values(seed, split)
  for number in range(1, num_days + 1):
    rng = np.random.default_rng([seed, number])
    draw.begin_day()
    told = [fact for day in found for fact in day.facts]
    old = _choose_corrected(told, corrections, rng) if told else []
    of_today = [
      types.Fact(
        fact.person,
        fact.attribute,
        draw(fact.attribute, fact.value),
        number,
        replaces=fact.value,
      )
      for fact in old
    ]
    for _ in range(facts_per_day - len(of_today)):
      names = [a.name for a in words.ATTRIBUTES]
      # Attributes take turns: the one with the fewest facts is next.
      name = min(names, key=[f.attribute for f in of_today].count)
      of_today.append(types.Fact(people.pop(), name, draw(name), number))
    of_today = [of_today[n] for n in rng.permutation(len(of_today))]
    wishes = _preferences(seed, number, split)
    found.append(
      types.Day(
        number=number,
        facts=tuple(of_today),
        preferences=tuple(wishes),
        rows=tuple(texts.rows(of_today)),
        questions=tuple(q for fact in of_today for q in texts.questions(fact)),
        preference_questions=tuple(
          q for fact in wishes for q in texts.questions(fact)
        ),
        pages=tuple(texts.pages(of_today, rng)),
        conversation=tuple(texts.conversation(of_today, wishes, rng)),
      )
    )
  return found


def current(told: Sequence[types.Day]) -> list[types.Question]:
  """Returns the questions about all days whose answers still hold.

  Args:
    told: the days so far.
  """
  replaced = {
    (fact.person, fact.attribute, fact.replaces)
    for day in told
    for fact in day.facts
    if fact.replaces
  }
  return [
    q
    for day in told
    for q in day.questions
    if (q.fact.person, q.fact.attribute, q.fact.value) not in replaced
  ]


def never_told(
  seed: int, told: Sequence[types.Day], *, split: str = words.VALIDATION
) -> list[types.Question]:
  """Returns 24 questions that no day answers.

  Half are about people whom no day mentions, half ask people of these days for
  something that was not told about them. Each person is asked about once.

  Args:
    seed: of the days.
    told: the days.
    split: of the days.
  """
  known = {fact.person: fact.attribute for day in told for fact in day.facts}
  strangers = [name for name in _people(seed, split) if name not in known]
  rng = np.random.default_rng([seed, 0])
  asked = []
  half = _NUM_NEVER_TOLD // 2
  for number in range(half):
    attribute = words.ATTRIBUTES[number % len(words.ATTRIBUTES)].name
    asked.append(types.Fact(strangers[number], attribute, '', 0))
  for name in rng.permutation(sorted(known))[: _NUM_NEVER_TOLD - half]:
    others = [a.name for a in words.ATTRIBUTES if a.name != known[str(name)]]
    asked.append(types.Fact(str(name), str(rng.choice(others)), '', 0))
  return [
    texts.questions(fact)[number % 2] for number, fact in enumerate(asked)
  ]


def contains(answer: str, value: str) -> bool:
  """Returns whether an answer has a value as a whole word; case is ignored."""
  return (
    re.search(rf'\b{re.escape(value)}\b', answer, re.IGNORECASE) is not None
  )


def learned_values(told: Sequence[types.Day]) -> set[str]:
  """Returns all values that the days tell, corrected ones included."""
  return {fact.value for day in told for fact in day.facts}


class _Values:
  """Draws values of attributes, each as rarely as possible."""

  def __init__(self, seed: int, split: str):
    rng = np.random.default_rng([seed, 1, words.SPLITS.index(split)])
    self._left = {
      a.name: [str(v) for v in rng.permutation(words.of_split(a.values, split))]
      for a in words.ATTRIBUTES
    }
    self._today: set[str] = set()

  def begin_day(self) -> None:
    """Forgets which values the day before had."""
    self._today = set()

  def __call__(self, attribute: str, other: str = '') -> str:
    """Returns a value that the day does not have yet, other than `other`."""
    left = self._left[attribute]
    value = next(v for v in left if v not in self._today and v != other)
    left.remove(value)
    left.append(value)
    self._today.add(value)
    return value


def _people(seed: int, split: str) -> list[str]:
  """Returns the full names of a split; no first name occurs twice."""
  first = words.of_split(words.FIRST_NAMES, split)
  last = words.of_split(words.LAST_NAMES, split)
  rng = np.random.default_rng([seed, 2, words.SPLITS.index(split)])
  return [f'{name} {rng.choice(last)}' for name in rng.permutation(first)]


def _choose_corrected(
  told: Sequence[types.Fact], number: int, rng: np.random.Generator
) -> list[types.Fact]:
  """Returns facts that hold, each about a person who was not corrected yet."""
  corrected = {fact.person for fact in told if fact.replaces}
  left = [fact for fact in told if fact.person not in corrected]
  picked = rng.permutation(len(left))[:number]
  return [left[n] for n in picked]


def _preferences(seed: int, number: int, split: str) -> list[types.Fact]:
  """Returns the two preferences of the user that a day tells."""
  rng = np.random.default_rng([seed, 3, words.SPLITS.index(split)])
  order = rng.permutation(len(words.PREFERENCES))
  values = [
    str(rng.choice(words.of_split(p.values, split))) for p in words.PREFERENCES
  ]
  found = order[2 * number - 2 : 2 * number]
  return [
    types.Fact(USER, words.PREFERENCES[n].name, values[n], number)
    for n in found
  ]

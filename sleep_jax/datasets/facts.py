"""A made-up town book: invented people and five things to know of each.

Nothing of it can be known from elsewhere, everything comes from a seed, and no
later day holds a word that birth did not: new people are new pairs of known
names with known values. So whatever is forgotten is knowledge, not vocabulary.

Birth tells every fact in statements and in questions with answers. Days bring
statements only. Two of the four question wordings lend themselves as self-study
stems; the probes that are scored are asked in the other two.
"""

import dataclasses
import itertools

import numpy as np

from sleep_jax.datasets import dataset, facts_texts, facts_words

_MOST_GUARDS = 200  # They are asked again every night.


def make(
  *,
  num_pretrain: int = 200,
  num_days: int = 10,
  people_per_day: int = 40,
  attributes: int = 5,
  values: int = 40,
  readings: int = 0,
  practice: int = 0,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset.Dataset:
  """A world of invented people.

  Args:
    num_pretrain: people known from birth.
    num_days, people_per_day: experiences, and new people in each.
    attributes: facts per person, at most 5.
    values: possible values of each attribute, at most 40.
    readings: documents about people of whom nothing else is told, each with
      one of its facts asked or told again, that birth reads: so that it learns
      to answer from a text. With any, a day brings one document a person, all
      of its facts in a row, instead of single statements.
    practice: facts of each person of a day that no probe asks about: they are
      what dreams are tried on. Needs readings.
    seed: draws everything.
    stream_seed: draws the people of the days anew and leaves birth as it is,
      bit for bit: a stream to tune on.
  """
  _check(num_pretrain, num_days, people_per_day, attributes, values, readings)
  _check_practice(practice, attributes, readings)
  kinds = [
    dataclasses.replace(kind, values=kind.values[:values])
    for kind in facts_words.ATTRIBUTES[:attributes]
  ]
  rng = np.random.default_rng([seed, 0])
  firsts, lasts = (
    facts_words.FIRST[:num_pretrain],
    facts_words.LAST[:num_pretrain],
  )
  people = _pretrain_people(rng, firsts, lasts, num_pretrain)
  pretrain_facts = []
  for kind in kinds:
    # Balanced, so that every value is met at birth.
    drawn = rng.permutation(np.resize(np.arange(values), num_pretrain))
    pretrain_facts += [
      facts_texts.Fact(person, kind, kind.values[place])
      for person, place in zip(people, drawn, strict=True)
    ]
  scored, stem, guard = _probes(rng, pretrain_facts, 'facts, birth')
  pretrain, held_out = facts_texts.pretrain_rows(
    rng, pretrain_facts, scored + stem
  )
  chosen = rng.permutation(len(guard))[:_MOST_GUARDS]

  stream = 0 if stream_seed is None else 1 + stream_seed
  rng = np.random.default_rng([seed, 1, stream])
  known = set(people)
  strangers = [
    f'{first} {last}'
    for first, last in itertools.product(firsts, lasts)
    if f'{first} {last}' not in known
  ]
  if readings:
    # Nobody who is read about arrives.
    reader = np.random.default_rng([seed, 2])
    apart = reader.permutation(strangers)[: len(strangers) // 2].tolist()
    pretrain += facts_texts.make_readings(reader, kinds, apart, readings)
    strangers = [name for name in strangers if name not in set(apart)]
  arrivals = iter(rng.permutation(strangers)[: num_days * people_per_day])
  probes, template_probes, experiences = (
    {'pretrain': scored},
    {'pretrain': stem},
    [],
  )
  open_probes: dict[str, list[dataset.Probe]] = {}
  tasks: dict[str, dataset.Task] = {}
  apart_rng = np.random.default_rng([seed, 3, stream])
  for day in range(1, num_days + 1):
    newcomers = list(itertools.islice(arrivals, people_per_day))
    facts = [
      facts_texts.Fact(str(person), kind, kind.values[rng.integers(values)])
      for kind in kinds
      for person in newcomers
    ]
    where = f'facts, day {day}'
    rows = [
      fact.statement(template, where)
      for fact in facts
      for template in fact.attribute.statements
    ]
    scored, stem, _ = _probes(rng, facts, where)
    apart = _apart(apart_rng, facts, practice)
    probes[str(day)], template_probes[str(day)] = (
      [
        p
        for fact, p in zip(facts, asked, strict=True)
        if fact.about not in apart
      ]
      for asked in (scored, stem)
    )
    if readings:
      documents = {
        name: facts_texts.make_document(
          rng, [f for f in facts if f.person == name], where
        )
        for name in dict.fromkeys(fact.person for fact in facts)
      }
      rows = list(documents.values())
      open_probes[str(day)] = [
        dataclasses.replace(
          probe, prompt=f'{documents[fact.person].text} {probe.prompt}'
        )
        for fact, probe in zip(facts, scored, strict=True)
        if fact.about not in apart
      ]
    if practice:
      tasks[str(day)] = dataset.Task(
        documents=rows,
        practice=[
          p for fact, p in zip(facts, stem, strict=True) if fact.about in apart
        ],
      )
    experiences.append((f'day {day}', rows))
  return dataset.Dataset(
    name='facts',
    pretrain=pretrain,
    held_out=held_out,
    experiences=experiences,
    probes=probes,
    template_probes=template_probes,
    open_probes=open_probes,
    guard=[guard[place] for place in chosen],
    templates=[stem for kind in kinds for stem in kind.template_questions],
    tasks=tasks,
    dream_templates=[form for kind in kinds for form in facts_texts.forms(kind)],
    candidates={
      kind.name: [(f' {value}', 0) for value in kind.values] for kind in kinds
    },
  )


def _apart(
  rng, facts: list[facts_texts.Fact], practice: int
) -> set[tuple[str, str]]:
  """Of each person, so many facts that no probe asks about."""
  if not practice:
    return set()
  by_person: dict[str, list[facts_texts.Fact]] = {}
  for fact in facts:
    by_person.setdefault(fact.person, []).append(fact)
  return {
    own[place].about
    for own in by_person.values()
    for place in rng.permutation(len(own))[:practice]
  }


def _pretrain_people(rng, firsts, lasts, num_pretrain: int) -> list[str]:
  """Different pairs in which every first and every last name occurs."""
  pairs = list(zip(firsts, rng.permutation(lasts), strict=True))
  taken = set(pairs)
  others = [
    pair for pair in itertools.product(firsts, lasts) if pair not in taken
  ]
  more = rng.permutation(len(others))[: num_pretrain - len(pairs)]
  pairs += [others[i] for i in more]
  return [f'{first} {last}' for first, last in pairs]


def _probes(rng, facts: list[facts_texts.Fact], where: str):
  """One scored and one stem probe a fact, and the stem wording left over."""
  scored, stem, spare = [], [], []
  for fact in facts:
    apart = fact.attribute.scored_questions
    templates = fact.attribute.template_questions
    chosen = rng.integers(len(templates))
    scored.append(
      fact.probe(
        apart[rng.integers(len(apart))], is_template=False, where=where
      )
    )
    stem.append(fact.probe(templates[chosen], is_template=True, where=where))
    spare.append(
      fact.probe(templates[1 - chosen], is_template=True, where=where)
    )
  return scored, stem, spare


def _check_practice(practice: int, attributes: int, readings: int) -> None:
  if not 0 <= practice < attributes:
    raise ValueError(
      f'facts: practice is {practice}, but {attributes} attributes must leave '
      f'one to be asked about: set it to 0 to {attributes - 1}.'
    )
  if practice and not readings:
    raise ValueError(
      f'facts: practice is {practice}, but dreams are about documents, which '
      'days bring with readings alone: set readings to 1 or more.'
    )


def _check(
  num_pretrain, num_days, people_per_day, attributes, values, readings
) -> None:
  for name, found, least in (
    ('num_pretrain', num_pretrain, 2),
    ('num_days', num_days, 1),
    ('people_per_day', people_per_day, 1),
    ('attributes', attributes, 1),
    ('values', values, 2),
    ('readings', readings, 0),
  ):
    if found < least:
      raise ValueError(f'facts: {name} is {found}: set it to {least} or more.')
  if attributes > len(facts_words.ATTRIBUTES):
    raise ValueError(
      f'facts: attributes is {attributes}, but the world has words for '
      f'{len(facts_words.ATTRIBUTES)}: set it to that or less.'
    )
  most = min(40, num_pretrain)
  if values > most:
    raise ValueError(
      f'facts: values is {values}, but the lists hold 40 and every value must '
      f'be met among the {num_pretrain} people of birth: set it to {most} or '
      f'less.'
    )
  pairs = min(len(facts_words.FIRST), num_pretrain) * min(
    len(facts_words.LAST), num_pretrain
  )
  people = num_pretrain + num_days * people_per_day * (2 if readings else 1)
  if people > pairs:
    raise ValueError(
      f'facts: {people} people are asked for, but the names met at birth make '
      f'{pairs} pairs: lower num_days or people_per_day, or raise num_pretrain.'
    )

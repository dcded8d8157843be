"""Dataset of invented people with five facts each.

None of the facts can be known from elsewhere, and all are drawn from a seed.
The experiences contain no word that the pretraining text does not: new people
are new pairs of known first and last names, with known values. Forgetting
therefore measures knowledge and not vocabulary.

The pretraining text has every fact as statements and as questions with answers;
the experiences have statements only. Two of the four question wordings serve as
self-study templates, and the scored probes use the other two.
"""

import dataclasses
import itertools

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, facts_texts, facts_words

_MAX_GUARD_PROBES = 200  # They are evaluated every night.


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
  """Returns a dataset of invented people.

  Args:
    num_pretrain: number of people in the pretraining text.
    num_days: number of experiences.
    people_per_day: new people in each experience.
    attributes: facts per person, at most 5.
    values: possible values of each attribute, at most 40.
    readings: number of documents in the pretraining text that teach answering
      from a text. Each is about a person who occurs nowhere else and is
      followed by one of its facts, as a statement or as a question with its
      answer. If there are any, an experience has one document per person, with
      all of its facts, instead of single statements.
    practice: facts of each person of an experience that no probe asks about;
      dreams are tried on them. Needs readings.
    seed: draws everything.
    stream_seed: if set, other people are drawn for the experiences, and
      pretraining is unchanged, bit for bit: a stream for tuning.

  Raises:
    DataError: a number is out of range, or the names are too few.
  """
  _check(num_pretrain, num_days, people_per_day, attributes, values, readings)
  _check_practice(practice, attributes, readings)
  used_attributes = [
    dataclasses.replace(attribute, values=attribute.values[:values])
    for attribute in facts_words.ATTRIBUTES[:attributes]
  ]
  rng = np.random.default_rng([seed, 0])
  first_names, last_names = (
    facts_words.FIRST_NAMES[:num_pretrain],
    facts_words.LAST_NAMES[:num_pretrain],
  )
  people = _pretrain_people(rng, first_names, last_names, num_pretrain)
  pretrain_facts = []
  for attribute in used_attributes:
    # Balanced, so that every value occurs in the pretraining text.
    indices = rng.permutation(np.resize(np.arange(values), num_pretrain))
    pretrain_facts += [
      facts_texts.Fact(person, attribute, attribute.values[index])
      for person, index in zip(people, indices, strict=True)
    ]
  scored, with_template, guard = _probes(
    rng, pretrain_facts, facts_texts.PRETRAIN
  )
  pretrain, held_out = facts_texts.pretrain_rows(
    rng, pretrain_facts, scored + with_template
  )
  guard_indices = rng.permutation(len(guard))[:_MAX_GUARD_PROBES]

  stream = 0 if stream_seed is None else 1 + stream_seed
  rng = np.random.default_rng([seed, 1, stream])
  known_people = set(people)
  unused_names = [
    f'{first} {last}'
    for first, last in itertools.product(first_names, last_names)
    if f'{first} {last}' not in known_people
  ]
  if readings:
    # The people of the readings are in no experience.
    readings_rng = np.random.default_rng([seed, 2])
    reserved = readings_rng.permutation(unused_names)[
      : len(unused_names) // 2
    ].tolist()
    pretrain += facts_texts.make_readings(
      readings_rng, used_attributes, reserved, readings
    )
    unused_names = [name for name in unused_names if name not in set(reserved)]
  new_names = iter(rng.permutation(unused_names)[: num_days * people_per_day])
  probes, template_probes, experiences = (
    {'pretrain': scored},
    {'pretrain': with_template},
    [],
  )
  open_probes: dict[str, list[dataset.Probe]] = {}
  tasks: dict[str, dataset.Task] = {}
  practice_rng = np.random.default_rng([seed, 3, stream])
  for day in range(1, num_days + 1):
    new_people = list(itertools.islice(new_names, people_per_day))
    facts = [
      facts_texts.Fact(
        str(person), attribute, attribute.values[rng.integers(values)]
      )
      for attribute in used_attributes
      for person in new_people
    ]
    where = f'facts, day {day}'
    rows = [
      fact.statement(template, where)
      for fact in facts
      for template in fact.attribute.statements
    ]
    scored, with_template, _ = _probes(rng, facts, where)
    practice_keys = _practice_keys(practice_rng, facts, practice)
    probes[str(day)], template_probes[str(day)] = (
      [
        probe
        for fact, probe in zip(facts, group, strict=True)
        if fact.key not in practice_keys
      ]
      for group in (scored, with_template)
    )
    if readings:
      documents = {
        name: facts_texts.make_document(
          rng, [fact for fact in facts if fact.person == name], where
        )
        for name in dict.fromkeys(fact.person for fact in facts)
      }
      rows = list(documents.values())
      open_probes[str(day)] = [
        dataclasses.replace(
          probe, prompt=f'{documents[fact.person].text} {probe.prompt}'
        )
        for fact, probe in zip(facts, scored, strict=True)
        if fact.key not in practice_keys
      ]
    if practice:
      tasks[str(day)] = dataset.Task(
        documents=rows,
        practice=[
          probe
          for fact, probe in zip(facts, with_template, strict=True)
          if fact.key in practice_keys
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
    guard=[guard[index] for index in guard_indices],
    templates=[
      template
      for attribute in used_attributes
      for template in attribute.template_questions
    ],
    tasks=tasks,
    dream_templates=[
      template
      for attribute in used_attributes
      for template in facts_texts.dream_templates(attribute)
    ],
    candidates={
      attribute.name: [(f' {value}', 0) for value in attribute.values]
      for attribute in used_attributes
    },
  )


def _practice_keys(
  rng, facts: list[facts_texts.Fact], practice: int
) -> set[tuple[str, str]]:
  """Draws the keys of the practice facts, the same number for each person."""
  if not practice:
    return set()
  by_person: dict[str, list[facts_texts.Fact]] = {}
  for fact in facts:
    by_person.setdefault(fact.person, []).append(fact)
  return {
    group[index].key
    for group in by_person.values()
    for index in rng.permutation(len(group))[:practice]
  }


def _pretrain_people(
  rng, first_names, last_names, num_pretrain: int
) -> list[str]:
  """Draws different names in which every first and last name occurs."""
  pairs = list(zip(first_names, rng.permutation(last_names), strict=True))
  used = set(pairs)
  others = [
    pair
    for pair in itertools.product(first_names, last_names)
    if pair not in used
  ]
  added = rng.permutation(len(others))[: num_pretrain - len(pairs)]
  pairs += [others[i] for i in added]
  return [f'{first} {last}' for first, last in pairs]


def _probes(rng, facts: list[facts_texts.Fact], where: str):
  """Draws the wordings of the probes of each fact.

  Returns:
    Scored probes; probes in one of the two template wordings; probes in the
    other template wording.
  """
  scored, with_template, remaining = [], [], []
  for fact in facts:
    questions = fact.attribute.scored_questions
    templates = fact.attribute.template_questions
    drawn = rng.integers(len(templates))
    scored.append(
      fact.probe(questions[rng.integers(len(questions))], where=where)
    )
    with_template.append(fact.probe(templates[drawn], where=where))
    remaining.append(fact.probe(templates[1 - drawn], where=where))
  return scored, with_template, remaining


def _check_practice(practice: int, attributes: int, readings: int) -> None:
  if not 0 <= practice < attributes:
    raise errors.DataError(
      f'facts: practice is {practice}, but {attributes} attributes must leave '
      f'one or more for probes: set it to 0 to {attributes - 1}.'
    )
  if practice and not readings:
    raise errors.DataError(
      f'facts: practice is {practice}, but dreams need documents, which '
      'experiences have only with readings: set readings to 1 or more.'
    )


def _check(
  num_pretrain, num_days, people_per_day, attributes, values, readings
) -> None:
  for name, value, minimum in (
    ('num_pretrain', num_pretrain, 2),
    ('num_days', num_days, 1),
    ('people_per_day', people_per_day, 1),
    ('attributes', attributes, 1),
    ('values', values, 2),
    ('readings', readings, 0),
  ):
    if value < minimum:
      raise errors.DataError(
        f'facts: {name} is {value}: set it to {minimum} or more.'
      )
  if attributes > len(facts_words.ATTRIBUTES):
    raise errors.DataError(
      f'facts: attributes is {attributes}, but the dataset defines '
      f'{len(facts_words.ATTRIBUTES)}: set it to that or less.'
    )
  max_values = min(40, num_pretrain)
  if values > max_values:
    raise errors.DataError(
      f'facts: values is {values}, but the lists hold 40 and every value must '
      f'occur among the {num_pretrain} people of pretraining: set it to '
      f'{max_values} or less.'
    )
  num_pairs = min(len(facts_words.FIRST_NAMES), num_pretrain) * min(
    len(facts_words.LAST_NAMES), num_pretrain
  )
  people = num_pretrain + num_days * people_per_day * (2 if readings else 1)
  if people > num_pairs:
    raise errors.DataError(
      f'facts: {people} people are needed, but the names of pretraining make '
      f'{num_pairs} pairs: lower num_days or people_per_day, or raise '
      'num_pretrain.'
    )

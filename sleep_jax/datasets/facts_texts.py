"""Texts of the facts dataset: statements, questions, documents, readings."""

import dataclasses

import numpy as np

from sleep_jax.datasets import dataset, facts_words

PRETRAIN = 'facts, pretraining'  # Source of pretraining rows and probes.


@dataclasses.dataclass(frozen=True)
class Fact:
  """One fact: an attribute of a person has a value."""

  person: str
  attribute: facts_words.Attribute
  value: str

  @property
  def key(self) -> tuple[str, str]:
    """Person and attribute, which identify the fact."""
    return self.person, self.attribute.name

  def statement(self, template: str, where: str) -> dataset.Row:
    """Returns the fact as plain text.

    Args:
      template: text with two slots, the person's before the value's.
      where: source of the row for error messages.
    """
    value_slot = template.rindex('{}')
    start = template.index('{}')
    return dataset.Row(
      text=template.format(self.person, self.value),
      answer_start=value_slot + len(self.person) - len('{}'),
      subject=(start, start + len(self.person)),
      where=where,
    )

  def question(self, template: str, where: str) -> dataset.Row:
    """Returns the fact as a question and its answer, which is the response.

    Args:
      template: question with one slot for the person.
      where: source of the row for error messages.
    """
    prompt = template.format(self.person)
    start = template.index('{}')
    return dataset.Row(
      text=f'{prompt} {self.value}',
      response_start=len(prompt),
      subject=(start, start + len(self.person)),
      where=where,
    )

  def probe(self, template: str, *, where: str) -> dataset.Probe:
    """Returns a probe of the fact.

    Args:
      template: question with one slot for the person.
      where: source of the probe for error messages.
    """
    return dataset.Probe(
      prompt=template.format(self.person),
      answer=f' {self.value}',
      candidates=self.attribute.name,
      where=where,
    )


def dream_templates(attribute: facts_words.Attribute) -> list[str]:
  """Returns dream prompts: questions, and statements cut before the value."""
  beginnings = [
    template[: template.rindex('{}')].rstrip()
    for template in attribute.statements
  ]
  return [*attribute.template_questions, *beginnings]


def make_document(rng, facts: list[Fact], where: str) -> dataset.Row:
  """Returns all facts of a person as one text, in random order and wordings."""
  statements = [
    fact.statement(
      fact.attribute.statements[rng.integers(len(fact.attribute.statements))],
      where,
    )
    for fact in rng.permutation(np.array(facts, object))
  ]
  first = statements[0]
  return dataclasses.replace(
    first, text=' '.join(row.text for row in statements)
  )


def make_readings(
  rng, attributes, people: list[str], num: int
) -> list[dataset.Row]:
  """Returns documents that are each followed by one of their facts.

  The fact is a statement or a question with its answer, and only it has
  targets.

  Args:
    rng: draws everything.
    attributes: the attributes of each person.
    people: names to draw from.
    num: number of documents.
  """
  readings = []
  for _ in range(num):
    person = people[rng.integers(len(people))]
    facts = [
      Fact(
        person, attribute, attribute.values[rng.integers(len(attribute.values))]
      )
      for attribute in attributes
    ]
    where = 'facts, readings'
    document = make_document(rng, facts, where)
    fact = facts[rng.integers(len(facts))]
    templates = (*fact.attribute.questions, *fact.attribute.statements)
    template = templates[rng.integers(len(templates))]
    if template in fact.attribute.questions:
      repeated = fact.question(template, where).text
    else:
      repeated = fact.statement(template, where).text
    readings.append(
      dataclasses.replace(
        document,
        text=f'{document.text} {repeated}',
        target_start=len(document.text) + 1,
      )
    )
  return readings


def pretrain_rows(rng, facts: list[Fact], probes: list[dataset.Probe]):
  """Returns (rows, held-out rows) with every fact in every wording.

  One fact in five has one wording held out. Questions of probes are never held
  out, so the initial model has been trained on them.
  """
  probe_prompts = {probe.prompt for probe in probes}
  pretrain, held_out = [], []
  for fact in facts:
    rows = [
      fact.statement(template, PRETRAIN)
      for template in fact.attribute.statements
    ] + [
      fact.question(template, PRETRAIN) for template in fact.attribute.questions
    ]
    if rng.random() < 0.2:
      allowed = [
        index
        for index, row in enumerate(rows)
        if row.text[: row.response_start] not in probe_prompts
      ]
      held_out.append(rows.pop(allowed[rng.integers(len(allowed))]))
    pretrain += rows
  return pretrain, held_out

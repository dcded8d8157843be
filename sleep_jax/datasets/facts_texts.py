"""TODO: datasets.facts_texts (from data.datasets.facts)."""

import dataclasses

import numpy as np

from sleep_jax.datasets import dataset, facts_words


@dataclasses.dataclass(frozen=True)
class Fact:
  person: str
  attribute: facts_words.Attribute
  value: str

  @property
  def about(self) -> tuple[str, str]:
    """Who, and what of him."""
    return self.person, self.attribute.name

  def statement(self, template: str, where: str) -> dataset.Row:
    before_value = template.rindex('{}')
    start = template.index('{}')
    return dataset.Row(
      text=template.format(self.person, self.value),
      answer_start=before_value + len(self.person) - len('{}'),
      subject=(start, start + len(self.person)),
      where=where,
    )

  def question(self, template: str, where: str) -> dataset.Row:
    asked = template.format(self.person)
    start = template.index('{}')
    return dataset.Row(
      text=f'{asked} {self.value}',
      response_start=len(asked),
      subject=(start, start + len(self.person)),
      where=where,
    )

  def probe(
    self, template: str, *, is_template: bool, where: str
  ) -> dataset.Probe:
    return dataset.Probe(
      prompt=template.format(self.person),
      answer=f' {self.value}',
      candidates=self.attribute.name,
      is_template=is_template,
      where=where,
    )


def forms(kind: facts_words.Attribute) -> list[str]:
  """What a dream may be asked: to answer, or to tell again."""
  told = [form[: form.rindex('{}')].rstrip() for form in kind.statements]
  return [*kind.template_questions, *told]


def make_document(rng, facts: list[Fact], where: str) -> dataset.Row:
  """All that is told of a person, in any order and wording."""
  told = [
    fact.statement(
      fact.attribute.statements[rng.integers(len(fact.attribute.statements))],
      where,
    )
    for fact in rng.permutation(np.array(facts, object))
  ]
  first = told[0]
  return dataclasses.replace(first, text=' '.join(row.text for row in told))


def make_readings(rng, kinds, people: list[str], num: int) -> list[dataset.Row]:
  """Documents, each with one of its facts told or asked once more."""
  made = []
  for _ in range(num):
    person = people[rng.integers(len(people))]
    facts = [
      Fact(person, kind, kind.values[rng.integers(len(kind.values))])
      for kind in kinds
    ]
    where = 'facts, readings'
    document = make_document(rng, facts, where)
    fact = facts[rng.integers(len(facts))]
    forms = (*fact.attribute.questions, *fact.attribute.statements)
    form = forms[rng.integers(len(forms))]
    if form in fact.attribute.questions:
      again = fact.question(form, where).text
    else:
      again = fact.statement(form, where).text
    made.append(
      dataclasses.replace(
        document,
        text=f'{document.text} {again}',
        target_start=len(document.text) + 1,
      )
    )
  return made


def pretrain_rows(rng, facts: list[Fact], probes: list[dataset.Probe]):
  """Every fact in every wording; one fact in five holds one wording out.

  Questions that are probed are never held out: a newborn has met them.
  """
  asked = {probe.prompt for probe in probes}
  pretrain, held_out = [], []
  for fact in facts:
    rows = [
      fact.statement(template, 'facts, birth')
      for template in fact.attribute.statements
    ] + [
      fact.question(template, 'facts, birth')
      for template in fact.attribute.questions
    ]
    if rng.random() < 0.2:
      free = [
        place
        for place, row in enumerate(rows)
        if row.text[: row.response_start] not in asked
      ]
      held_out.append(rows.pop(free[rng.integers(len(free))]))
    pretrain += rows
  return pretrain, held_out

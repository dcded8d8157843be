"""Tests of the facts dataset: new facts in known words, probes, documents."""

import collections
import re

import pytest

from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import facts

SMALL = dict(num_pretrain=40, num_days=3, people_per_day=8, values=10)


def words(rows):
  return {word for row in rows for word in re.findall(r'\w+', row.text)}


def names(rows):
  return {row.text[slice(*row.subject)] for row in rows}


def day_rows(dataset):
  return [row for _, rows in dataset.experiences for row in rows]


def answer(row):
  start = row.answer_start if row.response_start is None else row.response_start
  return row.text[start:].strip(' .').split()[0]


def test_the_default_dataset_has_the_expected_sizes():
  dataset = facts.make()
  assert len(names(dataset.pretrain)) == 200
  assert [len(rows) for _, rows in dataset.experiences] == [40 * 5 * 4] * 10
  assert (
    len(dataset.probes['pretrain'])
    == len(dataset.template_probes['pretrain'])
    == 1000
  )
  assert len(dataset.probes['10']) == 200
  assert len(dataset.guard) == 200
  assert len(dataset.pretrain) + len(dataset.held_out) == 200 * 5 * 8


def test_the_same_seed_gives_the_same_dataset():
  assert facts.make(**SMALL, seed=3) == facts.make(**SMALL, seed=3)
  assert (
    facts.make(**SMALL, seed=3).pretrain != facts.make(**SMALL, seed=4).pretrain
  )


def test_another_stream_changes_only_the_experiences():
  one, other = facts.make(**SMALL), facts.make(**SMALL, stream_seed=0)
  assert one.pretrain == other.pretrain and one.held_out == other.held_out
  assert one.probes['pretrain'] == other.probes['pretrain']
  assert one.guard == other.guard and one.templates == other.templates
  assert one.experiences != other.experiences
  assert one.probes['1'] != other.probes['1']


def test_experiences_contain_only_words_of_the_pretraining_text():
  dataset = facts.make(seed=1)
  assert words(day_rows(dataset)) <= words(dataset.pretrain)
  values = {
    text.strip() for _, group in dataset.candidates.items() for text, _ in group
  }
  assert len(values) >= 199  # 'fish' is a pet and a food.
  assert values <= words(dataset.pretrain)


@pytest.mark.parametrize('seed', [0, 1])
def test_every_word_is_one_token_and_no_token_is_new(seed):
  dataset = facts.make(seed=seed)
  bpe = tokenizer_lib.make('bpe', [row.text for row in dataset.pretrain], 1024)
  assert all(len(bpe.encode(word)) == 1 for word in words(dataset.pretrain))
  trained = {
    token for row in dataset.pretrain for token in bpe.encode(row.text)
  }
  probes = [p for group in dataset.probes.values() for p in group]
  probe_texts = [text for p in probes for text in (p.prompt, p.answer)]
  for text in [row.text for row in day_rows(dataset)] + probe_texts:
    assert trained.issuperset(bpe.encode(text))
  assert all(len(bpe.encode(probe.answer)) == 1 for probe in probes)


def test_each_person_occurs_in_one_experience_only():
  dataset = facts.make(**SMALL)
  groups = [names(dataset.pretrain)] + [
    names(rows) for _, rows in dataset.experiences
  ]
  assert [len(group) for group in groups] == [40, 8, 8, 8]
  assert len(set.union(*groups)) == 40 + 3 * 8


def test_experiences_have_statements_only():
  dataset = facts.make(**SMALL)
  assert all(row.response_start is None for row in day_rows(dataset))
  assert not any('?' in row.text for row in day_rows(dataset))


def test_names_precede_answers_in_every_row():
  dataset = facts.make(**SMALL)
  values = {
    text.strip() for group in dataset.candidates.values() for text, _ in group
  }
  for row in dataset.pretrain + day_rows(dataset):
    assert answer(row) in values
    assert row.subject[1] <= (row.answer_start or row.response_start)


def test_templates_and_scored_probes_share_no_wording():
  dataset = facts.make(**SMALL)
  name = re.compile(r'[A-Z][a-z]+ [A-Z][a-z]+(?= |\?)')

  def wordings(group):
    everyone = names(dataset.pretrain) | names(day_rows(dataset))
    templates = set()
    for probe in group:
      person = next(p for p in name.findall(probe.prompt) if p in everyone)
      templates.add(probe.prompt.replace(person, '{}'))
    return templates

  scored = wordings([p for group in dataset.probes.values() for p in group])
  templates = wordings(
    [p for group in dataset.template_probes.values() for p in group]
  )
  assert templates == set(dataset.templates)
  assert len(scored) == len(templates) == 10
  assert not scored & templates
  assert wordings(dataset.guard) <= templates


def test_the_answer_of_a_probe_is_the_value_in_the_training_text():
  dataset = facts.make(**SMALL)
  answers = {}
  for row in dataset.pretrain:
    if row.response_start is not None:
      answers[row.text[: row.response_start]] = row.text[row.response_start :]
  for probe in dataset.probes['pretrain'] + dataset.template_probes['pretrain']:
    assert answers[probe.prompt] == probe.answer
  for key, (_, rows) in zip('123', dataset.experiences, strict=True):
    stated = collections.defaultdict(set)
    for row in rows:
      stated[row.text[slice(*row.subject)]].update(words([row]))
    for probe in dataset.probes[key]:
      (person,) = [name for name in stated if name in probe.prompt]
      assert probe.answer.strip() in stated[person]


def test_a_held_out_row_is_not_trained_on_but_its_fact_is():
  dataset = facts.make(**SMALL)
  texts = {row.text for row in dataset.pretrain}
  facts_of_rows = {
    (row.text[slice(*row.subject)], answer(row)) for row in dataset.pretrain
  }
  assert dataset.held_out
  for row in dataset.held_out:
    assert row.text not in texts
    assert (row.text[slice(*row.subject)], answer(row)) in facts_of_rows


def test_guard_probes_are_not_among_the_scored_probes():
  dataset = facts.make(**SMALL)
  scored = {probe.prompt for probe in dataset.probes['pretrain']}
  assert not scored & {probe.prompt for probe in dataset.guard}


def test_rows_fit_in_twenty_tokens_and_stored_prompts_have_no_values():
  dataset = facts.make(**SMALL)
  bpe = tokenizer_lib.make('bpe', [row.text for row in dataset.pretrain], 1024)
  stream = stream_lib.build(
    dataset, bpe, context=20, max_prompt=16, batch_size=32, seed=0
  )
  values = {
    token
    for group in dataset.candidates.values()
    for text, _ in group
    for token in bpe.encode(text)
  }
  for source in (stream.pretrain, *stream.experiences):
    prompts = source.batch(0).prompts
    for row in range(32):
      stored = prompts.tokens_BP[row, : prompts.length_B[row]]
      start, stop = prompts.subject_B2[row]
      assert not values & set(stored.tolist())
      assert stop - start == 2


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(attributes=6), 'attributes is 6.* 5'),
    (dict(values=41), 'values is 41.*40 or less'),
    (dict(num_pretrain=20, values=21), 'values is 21.*20 people.*20 or less'),
    (dict(num_days=0), 'num_days is 0.*1 or more'),
    (dict(num_pretrain=10, values=5), '410 people.* 100 pairs'),
  ],
)
def test_settings_out_of_range_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    facts.make(**changes)


WITH_READINGS = SMALL | dict(readings=30)


def test_readings_are_about_people_who_occur_nowhere_else():
  dataset = facts.make(**WITH_READINGS)
  plain = facts.make(**SMALL)
  readings = [row for row in dataset.pretrain if row.where == 'facts, readings']
  assert (
    len(readings) == 30 and len(dataset.pretrain) == len(plain.pretrain) + 30
  )
  assert not names(readings) & (
    names(plain.pretrain) | names(day_rows(dataset))
  )


def test_an_experience_has_one_document_per_person_with_all_facts():
  dataset = facts.make(**WITH_READINGS)
  for day, (_, rows) in enumerate(dataset.experiences, 1):
    assert len(names(rows)) == len(rows)
    text = ' '.join(row.text for row in rows)
    for probe, open_probe in zip(
      dataset.probes[str(day)], dataset.open_probes[str(day)], strict=True
    ):
      assert probe.answer in text
      assert open_probe.prompt.endswith(' ' + probe.prompt)
      assert open_probe.answer == probe.answer
      document = open_probe.prompt.removesuffix(' ' + probe.prompt)
      assert document in [row.text for row in rows]
      assert probe.answer in document


def test_practice_facts_are_never_probed():
  """This holds for every wording of a practice fact."""
  dataset = facts.make(**WITH_READINGS, practice=2)
  without = facts.make(**WITH_READINGS)
  assert (
    dataset.pretrain == without.pretrain
    and dataset.experiences == without.experiences
  )
  values = {
    value: attribute
    for attribute, pairs in without.candidates.items()
    for value, _ in pairs
  }
  for key, task in dataset.tasks.items():
    people = names(task.documents)
    key_of = lambda probe, people=people: (
      next(name for name in people if name in probe.prompt),
      values[probe.answer],
    )
    practised = collections.Counter(map(key_of, task.practice))
    tested = collections.Counter(map(key_of, dataset.probes[key]))
    assert tested == collections.Counter(
      map(key_of, dataset.template_probes[key])
    )
    assert len(dataset.open_probes[key]) == len(dataset.probes[key])
    assert not practised.keys() & tested.keys()
    assert len(practised) == 2 * len(people)  # Of five facts per person,
    assert len(tested) == 3 * len(people)  # two are practice.
    assert task.documents == dataset.experiences[int(key) - 1][1]


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(practice=5), 'practice is 5, but 5 attributes'),
    (dict(practice=1, readings=0), 'only with readings'),
  ],
)
def test_invalid_practice_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    facts.make(**WITH_READINGS | changes)


def test_another_stream_has_the_same_readings():
  assert (
    facts.make(**WITH_READINGS).pretrain
    == facts.make(**WITH_READINGS, stream_seed=0).pretrain
  )

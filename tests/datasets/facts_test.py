"""The town book: later days bring new facts, never new words."""

import collections
import re

import pytest

from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import facts

SMALL = dict(num_pretrain=40, num_days=3, people_per_day=8, values=10)


def tokenizer(rows):
  return {word for row in rows for word in re.findall(r'\w+', row.text)}


def names(rows):
  return {row.text[slice(*row.subject)] for row in rows}


def day_rows(dataset):
  return [row for _, rows in dataset.experiences for row in rows]


def answer(row):
  at = row.answer_start if row.response_start is None else row.response_start
  return row.text[at:].strip(' .').split()[0]


def test_the_default_world_has_the_sizes_that_were_asked_for():
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


def test_the_same_seed_gives_the_same_world():
  assert facts.make(**SMALL, seed=3) == facts.make(**SMALL, seed=3)
  assert (
    facts.make(**SMALL, seed=3).pretrain != facts.make(**SMALL, seed=4).pretrain
  )


def test_another_stream_changes_the_days_and_nothing_of_birth():
  one, other = facts.make(**SMALL), facts.make(**SMALL, stream_seed=0)
  assert one.pretrain == other.pretrain and one.held_out == other.held_out
  assert one.probes['pretrain'] == other.probes['pretrain']
  assert one.guard == other.guard and one.templates == other.templates
  assert one.experiences != other.experiences
  assert one.probes['1'] != other.probes['1']


def test_days_bring_no_word_that_birth_did_not_hold():
  dataset = facts.make(seed=1)
  assert tokenizer(day_rows(dataset)) <= tokenizer(dataset.pretrain)
  values = {
    text.strip() for _, group in dataset.candidates.items() for text, _ in group
  }
  assert len(values) >= 199  # A fish may be a pet or a meal.
  assert values <= tokenizer(dataset.pretrain)


@pytest.mark.parametrize('seed', [0, 1])
def test_every_word_is_one_token_and_every_later_token_was_met(seed):
  dataset = facts.make(seed=seed)
  bpe = tokenizer_lib.make('bpe', [row.text for row in dataset.pretrain], 1024)
  assert all(len(bpe.encode(word)) == 1 for word in tokenizer(dataset.pretrain))
  met = {token for row in dataset.pretrain for token in bpe.encode(row.text)}
  probes = [p for group in dataset.probes.values() for p in group]
  asked = [text for p in probes for text in (p.prompt, p.answer)]
  for text in [row.text for row in day_rows(dataset)] + asked:
    assert met.issuperset(bpe.encode(text))
  assert all(len(bpe.encode(probe.answer)) == 1 for probe in probes)


def test_new_people_are_new_pairs_and_nobody_comes_twice():
  dataset = facts.make(**SMALL)
  groups = [names(dataset.pretrain)] + [
    names(rows) for _, rows in dataset.experiences
  ]
  assert [len(group) for group in groups] == [40, 8, 8, 8]
  assert len(set.union(*groups)) == 40 + 3 * 8


def test_days_state_and_never_ask():
  dataset = facts.make(**SMALL)
  assert all(row.response_start is None for row in day_rows(dataset))
  assert not any('?' in row.text for row in day_rows(dataset))


def test_names_stand_before_answers_in_every_row():
  dataset = facts.make(**SMALL)
  values = {
    text.strip() for group in dataset.candidates.values() for text, _ in group
  }
  for row in dataset.pretrain + day_rows(dataset):
    assert answer(row) in values
    assert row.subject[1] <= (row.answer_start or row.response_start)


def test_stems_and_scored_probes_share_no_wording():
  dataset = facts.make(**SMALL)
  name = re.compile(r'[A-Z][a-z]+ [A-Z][a-z]+(?= |\?)')

  def wordings(group):
    everyone = names(dataset.pretrain) | names(day_rows(dataset))
    found = set()
    for probe in group:
      person = next(p for p in name.findall(probe.prompt) if p in everyone)
      found.add(probe.prompt.replace(person, '{}'))
    return found

  scored = wordings([p for group in dataset.probes.values() for p in group])
  templates = wordings(
    [p for group in dataset.template_probes.values() for p in group]
  )
  assert templates == set(dataset.templates)
  assert len(scored) == len(templates) == 10
  assert not scored & templates
  assert wordings(dataset.guard) <= templates


def test_a_probe_has_one_answer_and_it_is_the_one_that_was_told():
  dataset = facts.make(**SMALL)
  told = {}
  for row in dataset.pretrain:
    if row.response_start is not None:
      told[row.text[: row.response_start]] = row.text[row.response_start :]
  for probe in dataset.probes['pretrain'] + dataset.template_probes['pretrain']:
    assert told[probe.prompt] == probe.answer
  for key, (_, rows) in zip('123', dataset.experiences, strict=True):
    stated = collections.defaultdict(set)
    for row in rows:
      stated[row.text[slice(*row.subject)]].update(tokenizer([row]))
    for probe in dataset.probes[key]:
      (person,) = [name for name in stated if name in probe.prompt]
      assert probe.answer.strip() in stated[person]


def test_a_held_out_row_is_never_read_but_its_fact_is():
  dataset = facts.make(**SMALL)
  read = {row.text for row in dataset.pretrain}
  known = {
    (row.text[slice(*row.subject)], answer(row)) for row in dataset.pretrain
  }
  assert dataset.held_out
  for row in dataset.held_out:
    assert row.text not in read
    assert (row.text[slice(*row.subject)], answer(row)) in known


def test_guards_are_not_among_the_scored_probes():
  dataset = facts.make(**SMALL)
  asked = {probe.prompt for probe in dataset.probes['pretrain']}
  assert not asked & {probe.prompt for probe in dataset.guard}


def test_twenty_tokens_hold_every_row_and_stored_prompts_hold_no_value():
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
      kept = prompts.tokens_BP[row, : prompts.length_B[row]]
      start, stop = prompts.subject_B2[row]
      assert not values & set(kept.tolist())
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
def test_what_the_words_cannot_give_is_said(changes, message):
  with pytest.raises(ValueError, match=message):
    facts.make(**changes)


READ = SMALL | dict(readings=30)


def test_documents_are_read_about_people_of_whom_nothing_else_is_told():
  dataset = facts.make(**READ)
  plain = facts.make(**SMALL)
  read = [row for row in dataset.pretrain if row.where == 'facts, readings']
  assert len(read) == 30 and len(dataset.pretrain) == len(plain.pretrain) + 30
  assert not names(read) & (names(plain.pretrain) | names(day_rows(dataset)))


def test_a_day_of_documents_brings_one_a_person_with_all_of_its_facts():
  dataset = facts.make(**READ)
  for day, (_, rows) in enumerate(dataset.experiences, 1):
    assert len(names(rows)) == len(rows)
    told = ' '.join(row.text for row in rows)
    for probe, behind in zip(
      dataset.probes[str(day)], dataset.open_probes[str(day)], strict=True
    ):
      assert probe.answer in told
      assert behind.prompt.endswith(' ' + probe.prompt)
      assert behind.answer == probe.answer
      document = behind.prompt.removesuffix(' ' + probe.prompt)
      assert document in [row.text for row in rows]
      assert probe.answer in document


def test_what_dreams_are_tried_on_is_asked_nowhere_else():
  """No fact of the practice is probed, in whatever wording."""
  dataset = facts.make(**READ, practice=2)
  told = facts.make(**READ)
  assert (
    dataset.pretrain == told.pretrain
    and dataset.experiences == told.experiences
  )
  values = {
    value: kind for kind, pairs in told.candidates.items() for value, _ in pairs
  }
  for key, task in dataset.tasks.items():
    people = names(task.documents)
    about = lambda probe, people=people: (
      next(name for name in people if name in probe.prompt),
      values[probe.answer],
    )
    practised = collections.Counter(map(about, task.practice))
    tested = collections.Counter(map(about, dataset.probes[key]))
    assert tested == collections.Counter(
      map(about, dataset.template_probes[key])
    )
    assert len(dataset.open_probes[key]) == len(dataset.probes[key])
    assert not practised.keys() & tested.keys()
    assert len(practised) == 2 * len(people)  # The five facts of each,
    assert len(tested) == 3 * len(people)  # each on one side.
    assert task.documents == dataset.experiences[int(key) - 1][1]


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(practice=5), 'practice is 5, but 5 attributes'),
    (dict(practice=1, readings=0), 'with readings alone'),
  ],
)
def test_practice_that_cannot_be_is_said(changes, said):
  with pytest.raises(ValueError, match=said):
    facts.make(**READ | changes)


def test_another_stream_reads_the_same_at_birth():
  assert (
    facts.make(**READ).pretrain == facts.make(**READ, stream_seed=0).pretrain
  )

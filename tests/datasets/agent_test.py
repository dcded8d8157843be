"""Tests of the agent dataset: answers follow from execution, reuse is all that
two matched streams differ in."""

import pytest

from sleep_jax import errors
from sleep_jax.datasets import agent

SMALL = dict(
  num_pretrain=40, pretrain_rows=60, num_days=5, examples=5, probes_per_task=3
)


def parse(text):
  """Returns names, digits, and the list after each name, of a row's text."""
  program, lists = text.split(' : ')
  given, answer = lists.split(' = ')
  read = lambda part: tuple(map(int, part.split()))
  return program.split(' , '), read(given), [*map(read, answer.split(' , '))]


def texts(made):
  """Returns all questions with answers of a dataset's experiences, by day."""
  return [
    [row.text for row in rows]
    + [p.prompt + p.answer for p in made.probes[str(day)]]
    for day, (_, rows) in enumerate(made.experiences, 1)
  ]


def names(day):
  return {name for text in day for name in parse(text)[0]}


def test_a_procedure_moves_digits_and_changes_them():
  library = {
    'ba ko': agent.Procedure((1, 2, 0), 0),
    'mi tu': agent.Procedure((1, 0, 2), 1),
  }
  assert agent.execute(('ba ko', 'mi tu'), (3, 1, 9), library) == [
    (1, 9, 3), (0, 2, 4),
  ]  # fmt: skip


def test_a_name_does_the_same_to_all_digits_on_all_days():
  """One of the procedures explains all that a name does in the whole stream."""
  found = {}
  for text in (text for day in texts(agent.make(**SMALL)) for text in day):
    program, digits, states = parse(text)
    for name, after in zip(program, states, strict=True):
      fits = {p for p in agent.PROCEDURES if p(digits) == after}
      found[name] = found.get(name, fits) & fits
      digits = after
  assert all(found.values())
  assert len(found) == 8


def test_later_days_reuse_names_in_the_compositional_stream_only():
  days = [names(day) for day in texts(agent.make(**SMALL))]
  assert not days[0] & days[1]
  assert all(day <= days[0] | days[1] for day in days[2:])
  days = [names(day) for day in texts(agent.make(reuse=False, **SMALL))]
  assert len(set.union(*days)) == sum(map(len, days))


def test_both_streams_have_the_same_tasks_but_for_the_names():
  rest = lambda made: [
    [parse(text)[1:] for text in day] for day in texts(made)
  ]  # fmt: skip
  reused, naive = (agent.make(reuse=r, **SMALL) for r in (True, False))
  assert rest(reused) == rest(naive)
  # Within a day, names are equal where they were equal.
  for one, other in zip(texts(reused), texts(naive), strict=True):
    pairs = {
      pair
      for a, b in zip(one, other, strict=True)
      for pair in zip(parse(a)[0], parse(b)[0], strict=True)
    }
    assert len(pairs) == len(names(one)) == len(names(other))
  assert reused.pretrain == naive.pretrain
  assert reused.probes['pretrain'] == naive.probes['pretrain']


def test_no_scored_question_is_learned_and_no_program_is_on_two_days():
  made = agent.make(**SMALL)
  learned = {row.text for _, rows in made.experiences for row in rows}
  learned |= {row.text for row in made.pretrain}
  asked = [p.prompt + p.answer for g in made.probes.values() for p in g]
  assert not learned & {*asked}
  programs = [
    {tuple(parse(text)[0]) for text in day} for day in texts(made)
  ]  # fmt: skip
  assert all(len(day) == 4 for day in programs)
  assert len(set.union(*programs)) == sum(map(len, programs))


def test_every_part_of_a_name_occurs_in_pretraining():
  made = agent.make(**SMALL)
  known = {word for row in made.pretrain for word in row.text.split()}
  assert {w for day in texts(made) for t in day for w in t.split()} <= known


def test_tuning_has_other_tasks_and_the_same_pretraining():
  made, tuning = agent.make(**SMALL), agent.make(stream_seed=1, **SMALL)
  assert made.pretrain == tuning.pretrain and made.guard == tuning.guard
  assert texts(made) != texts(tuning)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(num_pretrain=9), 'num_pretrain is 9: set it to 20 or more'),
    (dict(num_days=3), 'num_days is 3 and first_days 2: expected 2 days'),
    (dict(tasks_per_day=1), 'of 1 tasks, need 3 programs, but 2 .* 2 pairs'),
    (dict(num_pretrain=399), '431 invented names, but there are 400'),
    (dict(pretrain_rows=9999), 'pretrain_rows is 9999: expected at most 8,000'),
    (dict(examples=0), 'examples is 0: set it to 1'),
    (dict(examples=9999), 'examples 9999 .* expected at most 500'),
  ],
)
def test_numbers_out_of_range_are_named(change, message):
  with pytest.raises(errors.DataError, match=message):
    agent.make(**SMALL | change)

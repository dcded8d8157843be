"""Every kind of change of learned days is told apart and can be accepted."""

import dataclasses
import json

import pytest

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import jsonl
from sleep_jax.runs import day_changes, day_records


@pytest.fixture
def days(tmp_path):
  """Returns a folder with three days."""
  folder = tmp_path / 'days'
  folder.mkdir()
  for number in (1, 2, 3):
    write(folder, f'day_{number}', *(f'{number}, row {n}.' for n in range(45)))
  return folder


def write(folder, name, *texts):
  rows = [json.dumps({'text': text}) for text in texts]
  (folder / f'{name}.jsonl').write_text('\n'.join(rows) + '\n')


def append(folder, name, *texts):
  old = (folder / f'{name}.jsonl').read_text().splitlines()
  write(folder, name, *(json.loads(row)['text'] for row in old), *texts)


def read(folder, **settings):
  return jsonl.make(path=str(folder), **settings)


def learned(folder, num=2, **settings):
  """Returns the records of a run that has begun `num` days of a folder."""
  return day_changes.compare(read(folder, **settings), [], 0).records, num + 1


def names(found):
  return [name for name, _ in found.dataset.experiences]


def swap(days):
  (days / 'day_1.jsonl').rename(days / 'x')
  (days / 'day_2.jsonl').rename(days / 'day_1.jsonl')
  (days / 'x').rename(days / 'day_2.jsonl')


CHANGES = {
  'deleted': (
    lambda days: (days / 'day_1.jsonl').unlink(),
    ['day_1.jsonl (45 rows) was learned and is missing'],
  ),
  'edited': (
    lambda days: write(days, 'day_2', 'Other.'),
    ['day_2.jsonl has other rows (1) than were learned (45)'],
  ),
  'renamed': (
    lambda days: (days / 'day_1.jsonl').rename(days / 'monday.jsonl'),
    [
      'day_1.jsonl is now named monday.jsonl: it has the rows that were '
      'learned',
    ],
  ),
  'swapped': (
    swap,
    [
      'day_1.jsonl has other rows (45) than were learned (45); they were '
      'learned as day_2.jsonl',
      'day_2.jsonl has other rows (45) than were learned (45); they were '
      'learned as day_1.jsonl',
    ],
  ),
  'added before': (
    lambda days: write(days, 'day_0', 'New.'),
    ['day_0.jsonl is new and comes before day_2.jsonl, which was learned'],
  ),
  'added between': (
    lambda days: write(days, 'day_1b', 'New.'),
    ['day_1b.jsonl is new and comes before day_2.jsonl, which was learned'],
  ),
  'appended': (
    lambda days: append(days, 'day_2', 'One more.', 'And one.'),
    ['day_2.jsonl has 47 rows: 2 were appended to the 45 that were learned'],
  ),
}  # fmt: skip


@pytest.mark.parametrize('kind', CHANGES)
def test_a_change_is_named_and_once_accepted_is_not_named_again(days, kind):
  old, num_begun = learned(days)
  change, sentences = CHANGES[kind]
  change(days)
  found = day_changes.compare(read(days), old, num_begun)
  assert found.changes == sentences
  assert found.grown == (kind == 'appended')
  # Learned days keep their places and names; all others follow.
  assert names(found)[:2] == ['day_1', 'day_2']
  assert 'day_3' in names(found)[2:]
  again = day_changes.compare(read(days), found.records, num_begun)
  assert again.changes == [] and again.records == found.records
  assert names(again) == names(found)
  # A second change is a change again.
  write(days, 'day_2', 'Something else.')
  third = day_changes.compare(read(days), found.records, num_begun)
  assert len(third.changes) == 1 and 'day_2.jsonl has' in third.changes[0]


def test_days_that_were_not_begun_may_change(days):
  old, num_begun = learned(days)
  (days / 'day_3.jsonl').unlink()
  write(days, 'day_5', 'New.')
  write(days, 'day_4', 'New.')
  found = day_changes.compare(read(days), old, num_begun)
  assert found.changes == []
  assert names(found) == ['day_1', 'day_2', 'day_4', 'day_5']


def test_the_rows_of_a_day_do_not_depend_on_other_days(days):
  before = dict(read(days).experiences)
  assert len(before['day_2']) == 43  # Two rows are held out.
  (days / 'day_1.jsonl').unlink()
  write(days, 'day_9', *map(str, range(30)))
  after = dict(read(days).experiences)
  assert list(after['day_2']) == list(before['day_2'])


def test_a_learned_day_that_was_restored_is_no_change(days):
  old, num_begun = learned(days)
  text = (days / 'day_1.jsonl').read_text()
  (days / 'day_1.jsonl').unlink()
  gone = day_changes.compare(read(days), old, num_begun)
  assert gone.records[1]['missing']
  (days / 'day_1.jsonl').write_text(text)
  found = day_changes.compare(read(days), gone.records, num_begun)
  assert found.changes == [] and found.records == old


def test_a_new_file_with_the_name_of_a_renamed_day_is_refused(days):
  old, num_begun = learned(days)
  (days / 'day_1.jsonl').rename(days / 'monday.jsonl')
  renamed = day_changes.compare(read(days), old, num_begun)
  assert renamed.records[1]['renamed'] == 'monday'
  write(days, 'day_1', 'New.')
  with pytest.raises(
    errors.ChangedDaysError, match='give the new file another'
  ):
    day_changes.compare(read(days), renamed.records, num_begun)


def test_probes_follow_their_days(days):
  probes = [
    {'prompt': f'{n}?', 'answer': '.', 'experience': f'day_{n}'} for n in (2, 3)
  ]
  path = days / 'asked.jsonl'
  path.write_text('\n'.join(map(json.dumps, probes)))
  old, num_begun = learned(days, probes=str(path))
  (days / 'day_1.jsonl').unlink()
  found = day_changes.compare(read(days, probes=str(path)), old, num_begun)
  asked = {key: p[0].prompt for key, p in found.dataset.probes.items()}
  assert asked == {'2': '2?', '3': '3?'}


def test_pretraining_text_that_changed_is_named(days, tmp_path):
  write(tmp_path, 'old', 'Before all days.')
  settings = {'pretrain': str(tmp_path / 'old.jsonl')}
  old, num_begun = learned(days, 0, **settings)
  write(tmp_path, 'old', 'Before.', 'All days.')
  found = day_changes.compare(read(days, **settings), old, num_begun)
  sentence = 'the pretraining text has other rows (2) than were learned (1)'
  assert found.changes == [sentence]
  assert day_changes.compare(read(days, **settings), old, 0).changes == []


def test_every_learned_field_of_a_row_changes_its_digest():
  row = dataset_lib.Row('a cat sat', where='x:1')
  before = day_records.digest([row])
  assert before == day_records.digest([dataclasses.replace(row, where='y:2')])
  changed = {
    'text': 'a cat', 'response_start': 2, 'answer_start': 2, 'target_start': 1,
    'subject': (0, 1), 'messages': (('user', 'a'), ('assistant', 'cat')),
    'ends': False,
  }  # fmt: skip
  fields = {field.name for field in dataclasses.fields(row)} - {'where'}
  assert fields <= set(changed), 'name a value of the new field here'
  digests = {
    day_records.digest([dataclasses.replace(row, **{name: value})])
    for name, value in changed.items()
  }
  assert len(digests | {before}) == len(changed) + 1


def test_rows_appended_to_a_growing_file_are_a_new_day(days):
  old, num_begun = learned(days, 2)
  append(days, 'day_1', *(f'Grown {n}.' for n in range(5)))
  ends = day_records.ends_of_parts(old[1:num_begun], [])
  found = day_changes.compare(read(days, ends=ends), old, num_begun)
  assert found.changes == []
  assert names(found) == ['day_1', 'day_2', 'day_1 (rows 46-50)', 'day_3']
  texts = [row.text for row in dict(found.dataset.experiences)[names(found)[2]]]
  assert texts == [f'Grown {n}.' for n in range(5)]
  # It grows again while the part is learned: another day.
  append(days, 'day_1', 'Later.')
  ends = day_records.ends_of_parts(found.records[1:4], [])
  again = day_changes.compare(read(days, ends=ends), found.records, 4)
  assert names(again)[:3] == names(found)[:3]
  assert 'day_1 (rows 51-51)' in names(again)
  assert again.changes == []
  # What was learned of it must stay.
  lines = (days / 'day_1.jsonl').read_text().splitlines(keepends=True)
  (days / 'day_1.jsonl').write_text(''.join(lines[1:]))
  bad = day_changes.compare(read(days, ends=ends), found.records, 4)
  assert bad.changes == [
    'day_1.jsonl has other rows (45) than were learned (45)',
    'day_1 (rows 46-50) has other rows (5) than were learned (5)',
  ]
  (days / 'day_1.jsonl').write_text(''.join(lines[:48]))
  short = day_changes.compare(read(days, ends=ends), found.records, 4)
  assert short.changes == [
    'day_1 (rows 46-50) (5 rows) was learned and is missing'
  ]


def test_seeds_that_came_to_different_days_cut_a_file_at_the_same_rows():
  part = lambda end, rows: {
    'name': f'log (rows {end - rows + 1}-{end})', 'part_of': 'log', 'rows': rows
  }  # fmt: skip
  first = {'name': 'log', 'rows': 100}
  ahead = [first, part(250, 150), part(300, 50)]
  cut = day_records.ends_of_parts
  assert cut([], [ahead]) == cut(ahead, [[]]) == {'log': (100, 250, 300)}
  assert cut([first], [ahead]) == {'log': (100, 250, 300)}
  # Its own cuts come first.
  assert cut([{'name': 'log', 'rows': 120}], [ahead]) == {
    'log': (120, 250, 300)
  }


def test_a_day_is_named_by_its_file_or_by_its_field(tmp_path):
  rows = [{'text': 'Tea.', 'day': 'monday'}, {'text': 'Bus.', 'day': 'tuesday'}]
  (tmp_path / 'all.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  records, _ = learned(tmp_path, field='day')
  assert [day_records.label(record) for record in records[1:]] == [
    'monday (in all.jsonl)', 'tuesday (in all.jsonl)',
  ]  # fmt: skip
  rows += [{'text': 'Late.', 'day': 'monday'}, {'text': 'A.', 'day': 'sunday'}]
  (tmp_path / 'all.jsonl').write_text('\n'.join(map(json.dumps, rows)))
  found = day_changes.compare(read(tmp_path, field='day'), records, 3)
  assert found.changes == [
    'monday (in all.jsonl) has 2 rows: 1 were appended to the 1 that were '
    'learned'
  ]
  ends = day_records.ends_of_parts(records[1:], [])
  found = day_changes.compare(
    read(tmp_path, field='day', ends=ends), records, 3
  )
  assert found.changes == []
  assert names(found) == ['monday', 'tuesday', 'monday (rows 2-2)', 'sunday']


@pytest.mark.parametrize(
  'text', ['{', '{}', '[{"name": "a"}]', '["a"]', '[{"rows": 1, "name": 1}]']
)
def test_a_damaged_record_is_named(tmp_path, text):
  (tmp_path / 'days.json').write_text(text)
  with pytest.raises(errors.WorkdirError, match='days.json is damaged'):
    day_records.read(tmp_path)


@pytest.mark.parametrize('name', ['pretrain', 'birth', 'probes'])
def test_a_file_that_is_no_day_is_refused_or_left_out(days, name):
  path = days / f'{name}.jsonl'
  row = {'prompt': '1?', 'answer': '.'} if name == 'probes' else {'text': '1.'}
  path.write_text(json.dumps(row))
  setting = 'probes' if name == 'probes' else 'pretrain'
  with pytest.raises(errors.DataError) as error:
    read(days)
  assert f'--config.data.settings.{setting}={path}' in str(error.value)
  found = read(days, **{setting: str(path)})
  assert [day for day, _ in found.experiences] == ['day_1', 'day_2', 'day_3']
  if name != 'probes':  # Named one by one, it is a day.
    (only,) = jsonl.make(path=str(path)).experiences
    assert only[0] == name


def test_rows_of_a_day_that_is_known_to_be_missing_are_a_new_day(days):
  records, num_begun = learned(days)
  (days / 'day_1.jsonl').rename(days / 'kept')
  found = day_changes.compare(read(days), records, num_begun)
  (days / 'kept').rename(days / 'day_9.jsonl')
  again = day_changes.compare(read(days), found.records, num_begun)
  assert names(again)[:2] == ['day_1', 'day_2'] and 'day_9' in names(again)
  assert again.changes == []
  assert len(dict(again.dataset.experiences)['day_9']) == 43

"""Tests of the nights that are named for a text."""

import json

import pytest

from sleep_jax import errors
from sleep_jax.runs import day_search, expert_history, watching
from sleep_jax.storage import checkpoint_reading, workdir


@pytest.fixture
def home(tmp_path, monkeypatch):
  """Returns a function that makes a work directory; a day is where its number
  says."""
  monkeypatch.setattr(checkpoint_reading, 'latest_progress', lambda folder: {})
  monkeypatch.setattr(
    expert_history, 'where_is_day', lambda progress, number: f'night {number}'
  )

  def make(records, **data):
    folder = tmp_path / 'run'
    (folder / 'seed_0/sleep/checkpoints').mkdir(parents=True)
    workdir.write_json(folder / 'config.json', {'data': data})
    days = [
      {'digest': '', **record} for record in
      [{'name': 'pretraining text', 'rows': 0}, *records]
    ]  # fmt: skip
    workdir.write_json(folder / 'seed_0/days.json', days)
    return folder

  return make


def _write(path, *texts):
  path.parent.mkdir(exist_ok=True)
  path.write_text(''.join(json.dumps({'text': t}) + '\n' for t in texts))


def _nights(folder, text):
  return [line.partition(': ')[2] for line in day_search.learned(folder, text)]


def test_only_the_part_of_a_growing_file_is_named_that_has_the_text(
  home, tmp_path
):
  texts = [f'Person{n} drinks tea{n} now.' for n in range(6)]
  _write(tmp_path / 'days/log.jsonl', *texts)
  parts = [
    {'name': 'log', 'rows': 2},
    {'name': 'log (rows 3-5)', 'rows': 3, 'part_of': 'log'},
    {'name': 'log (rows 6-6)', 'rows': 1, 'part_of': 'log'},
  ]
  folder = home(parts, path=str(tmp_path / 'days'))
  assert _nights(folder, 'Person1 drinks tea1') == ['log: night 1']
  assert _nights(folder, 'Person2 drinks tea2') == ['log (rows 3-5): night 2']
  assert _nights(folder, 'Person5 drinks tea5') == ['log (rows 6-6): night 3']
  assert len(_nights(folder, 'now')) == 3
  assert not _nights(folder, 'Person9 drinks tea9')


def test_days_of_a_watched_folder_are_named(home, tmp_path):
  _write(tmp_path / 'inbox/monday.jsonl', 'Ann lives in Oslo.')
  _write(tmp_path / 'inbox/tuesday.jsonl', 'Ben lives in Rome.')
  names = ['monday', 'tuesday']
  folder = home([{'name': name, 'rows': 1} for name in names])
  watch = watching.Watch(
    str(tmp_path / 'inbox'), folder / watching.FILE, lambda files: None,
    lambda line: None,
  )  # fmt: skip
  watch._write([f'{name}.jsonl' for name in names])
  assert _nights(folder, 'Ben lives in Rome') == ['tuesday: night 2']


def test_a_record_of_an_earlier_version_has_no_folder(tmp_path):
  file = tmp_path / watching.FILE
  assert watching.read(file) == (None, [])
  workdir.write_json(file, ['monday.jsonl'])
  assert watching.read(file) == (None, ['monday.jsonl'])


def test_a_conversation_counts_as_many_rows_as_it_has(home, tmp_path):
  """A part of three conversations with two answers each has six rows."""
  path = tmp_path / 'days/log.jsonl'
  path.parent.mkdir()
  lines = []
  for number in range(5):
    turn = [
      {'role': 'user', 'content': f'Question{number} of mine'},
      {'role': 'assistant', 'content': f'Answer{number} of yours'},
    ]
    lines.append(json.dumps({'messages': [*turn, *turn]}) + '\n')
  path.write_text(''.join(lines))
  parts = [
    {'name': 'log', 'rows': 6},
    {'name': 'log (rows 7-10)', 'rows': 4, 'part_of': 'log'},
  ]
  folder = home(parts, path=str(path))
  assert _nights(folder, 'Answer2 of yours') == ['log: night 1']
  assert _nights(folder, 'Answer3 of yours') == ['log (rows 7-10): night 2']


def test_a_damaged_record_of_a_watched_folder_is_named(tmp_path):
  file = tmp_path / watching.FILE
  for text in ('{', '{"files": []}', '3'):
    file.write_text(text)
    with pytest.raises(errors.WorkdirError, match='watched.json is damaged'):
      watching.read(file)


def test_a_day_whose_file_was_renamed_is_named(home, tmp_path):
  _write(tmp_path / 'days/march.jsonl', 'Ben lives in Rome.')
  folder = home(
    [{'name': 'monday', 'renamed': 'march', 'rows': 1}],
    path=str(tmp_path / 'days'),
  )
  assert _nights(folder, 'Ben lives in Rome') == ['monday: night 1']


def test_days_that_a_field_names_are_named(home, tmp_path):
  rows = [
    {'text': text, 'day': day}
    for text, day in (
      ('Ann lives in Rome.', 'mo'),
      ('Ben has a cat.', 'tu'),
      ('Cy plays the harp.', 'mo'),
    )
  ]
  path = tmp_path / 'days.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  records = [{'name': n, 'rows': 1, 'file': path.name} for n in ('mo', 'tu')]
  folder = home(records, path=str(path), settings={'field': 'day'})
  assert _nights(folder, 'Ben has a cat') == ['tu: night 2']
  assert _nights(folder, 'Cy plays the harp') == ['mo: night 1']


@pytest.mark.parametrize('indent', [None, 2])
def test_characters_that_json_escapes_are_found(home, tmp_path, indent):
  path = tmp_path / 'days/mo.json'
  path.parent.mkdir()
  text = 'Müller\twohnt "noch"\nin Köln.'
  path.write_text(json.dumps([{'text': text}], indent=indent))
  folder = home([{'name': 'mo', 'rows': 1}], path=str(path.parent))
  assert _nights(folder, 'Müller wohnt noch in Köln') == ['mo: night 1']

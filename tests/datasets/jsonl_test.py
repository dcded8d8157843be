"""Tests of the jsonl dataset: experiences, probes, held-out rows, errors."""

import json

import pytest

from configs import jsonl as config_lib
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer
from sleep_jax.datasets import jsonl
from sleep_jax.runs import inputs


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def days(folder, count=2, rows=3):
  for day in range(1, count + 1):
    write(
      folder / f'day{day}.jsonl',
      [{'text': f'On day {day} I met {i} cats.'} for i in range(rows)],
    )
  return str(folder)


def test_each_file_is_an_experience_in_order_of_name(tmp_path):
  folder = days(tmp_path, 3)
  expected = ['day1', 'day2', 'day3']
  files = [str(tmp_path / f'{name}.jsonl') for name in expected]
  for path in (folder, f'{folder}/day*.jsonl', files):
    dataset = jsonl.make(path=path)
    assert [name for name, _ in dataset.experiences] == expected
  dataset = jsonl.make(path=files[1])
  ((name, rows),) = dataset.experiences
  assert name == 'day2' and len(rows) == 3
  assert rows[2].where == f'{files[1]}:3'


def test_each_value_of_a_field_is_an_experience(tmp_path):
  rows = [
    {'text': f'note {i}', 'week': week} for i, week in enumerate([9, 10, 9])
  ]
  dataset = jsonl.make(path=write(tmp_path / 'notes.jsonl', rows), field='week')
  assert [(name, len(rows)) for name, rows in dataset.experiences] == [
    ('9', 2),
    ('10', 1),
  ]


def test_a_space_separates_prompt_and_response(tmp_path):
  path = write(
    tmp_path / 'day1.jsonl',
    [
      {'prompt': 'Who?', 'response': 'Mira'},
      {'prompt': 'Who? ', 'response': 'Mira'},
      {'prompt': 'Who?', 'response': ' Mira'},
    ],
  )
  ((_, rows),) = jsonl.make(path=path).experiences
  assert [row.text for row in rows] == ['Who? Mira'] * 3
  assert [row.response_start for row in rows] == [4, 5, 4]


def test_probes_belong_to_the_experience_they_name(tmp_path):
  folder = days(tmp_path)
  path = write(
    tmp_path / 'probes.json',
    [
      {'prompt': 'How many cats?', 'answer': 'two', 'experience': 'day2'},
      {'prompt': 'Who am I?', 'answer': 'me', 'experience': 'pretrain'},
      {'prompt': 'What did I meet?', 'answer': 'cats'},
    ],
  )
  probes = jsonl.make(path=folder, probes=path).probes
  prompts = {
    key: [probe.prompt for probe in group] for key, group in probes.items()
  }
  assert prompts == {
    'pretrain': ['Who am I?'],
    '1': ['What did I meet?'],
    '2': ['How many cats?', 'What did I meet?'],
  }
  assert probes['2'][0].answer == ' two'


def test_one_row_in_twenty_is_held_out(tmp_path):
  folder = days(tmp_path, 1, rows=40)
  dataset = jsonl.make(path=folder)
  assert len(dataset.held_out) == 2
  texts = [r.text for r in (*dataset.experiences[0][1], *dataset.held_out)]
  assert len(set(texts)) == 40
  pretrain = write(
    tmp_path / 'pretrain.json', [{'text': f'word {i}'} for i in range(60)]
  )
  dataset = jsonl.make(path=folder, pretrain=pretrain)
  assert (len(dataset.pretrain), len(dataset.held_out)) == (57, 3)
  assert len(dataset.experiences[0][1]) == 40


def test_without_a_measurement_every_row_is_learned(tmp_path):
  folder = days(tmp_path, 1, rows=40)
  c = config_lib.get_config()
  c.data.path = folder
  for batches, held in ((0, 0), (1, 2)):
    c.evaluate.held_out_batches = batches
    made = inputs.read_dataset(c, tmp_path / 'work', seed=0)
    assert len(made.experiences[0][1]) == 40 - held
    assert len(made.held_out) == held
  pretrain = write(
    tmp_path / 'pretrain.json', [{'text': f'word {i}'} for i in range(60)]
  )
  made = jsonl.make(path=folder, pretrain=pretrain, holds_out=False)
  assert (len(made.pretrain), len(made.held_out)) == (60, 0)


def test_probes_and_pretraining_text_are_optional(tmp_path):
  dataset = jsonl.make(path=days(tmp_path))
  stream = stream_lib.build(
    dataset,
    tokenizer.make('bytes'),
    context=64,
    max_prompt=16,
    batch_size=2,
    seed=0,
  )
  assert stream.probes == {} and stream.pretrain is None
  assert stream.experiences[1].batch(5).tokens_BT.shape == (2, 64)


def test_a_missing_path_is_refused(tmp_path):
  assert not jsonl.make(path=[]).experiences  # All days are deleted.
  for path in (None, ''):
    with pytest.raises(ValueError, match='your own text.*--config.data.path'):
      jsonl.make(path=path)
  for path in (tmp_path, tmp_path / 'day9.jsonl', tmp_path / '*.jsonl'):
    with pytest.raises(FileNotFoundError, match='no files match'):
      jsonl.make(path=str(path))


def test_bad_rows_are_named_with_their_line(tmp_path):
  path = tmp_path / 'day1.jsonl'
  for row, message in (
    ({'txt': 'x'}, r"day1.jsonl:1: found the fields \['txt'\]"),
    ({'prompt': 'x'}, 'day1.jsonl:1.*"response"'),
    ({'text': ' '}, "day1.jsonl:1.*'text'"),
  ):
    with pytest.raises(ValueError, match=message):
      jsonl.make(path=write(path, [row]))
  with pytest.raises(ValueError, match="day1.jsonl:1.*'week'"):
    jsonl.make(path=write(path, [{'text': 'x'}]), field='week')
  with pytest.raises(ValueError, match='day1.jsonl holds no rows'):
    jsonl.make(path=write(path, []))


def test_a_completion_is_a_response(tmp_path):
  rows = [{'prompt': 'Who?', 'completion': 'Ann.'}]
  (one,) = jsonl.make(path=write(tmp_path / 'a.jsonl', rows)).experiences[0][1]
  rows = [{'prompt': 'Who?', 'response': 'Ann.'}]
  (two,) = jsonl.make(path=write(tmp_path / 'b.jsonl', rows)).experiences[0][1]
  assert (one.text, one.response_start) == (two.text, two.response_start)


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (
      {'text': 'x', 'prompt': 'y', 'response': 'z'},
      'a.jsonl:1: found "text" and .*prompt.*response',
    ),
    ({'text': 'x', 'messages': []}, 'found "text" and .*messages'),
    ({'prompt': 'x', 'response': 'y', 'completion': 'z'}, 'mean the same'),
    ({'messages': []}, "a.jsonl:1: field 'messages' is .*a list of messages"),
    ({'text': '\ud800'}, "a.jsonl:1: field 'text' has half of a character"),
  ],
)
def test_rows_of_other_formats_are_refused_with_a_conversion(
  tmp_path, row, message
):
  with pytest.raises(ValueError, match=message):
    jsonl.make(path=write(tmp_path / 'a.jsonl', [row]))


def test_files_that_other_programs_write_are_read_or_named(tmp_path):
  path = tmp_path / 'DAY_1.JSONL'
  path.write_bytes(b'\xef\xbb\xbf{"text": "x y"}\r\n')
  dataset = jsonl.make(path=str(tmp_path))
  assert [name for name, _ in dataset.experiences] == ['DAY_1']
  for content, message in (
    ('{"text": "x"}'.encode('utf-16'), 'DAY_1.JSONL is UTF-16'),
    (b'version https://git-lfs.github.com/spec/v1\n', 'is a Git LFS pointer'),
    (b'{"text": ' + b'[' * 9999 + b']' * 9999 + b'}', 'nests too'),
    (b'{"text": "x", "n": ' + b'9' * 5000 + b'}', 'too long a number'),
  ):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
      jsonl.make(path=str(tmp_path))
  path.unlink()
  (tmp_path / 'days.txt').write_text('x')
  with pytest.raises(FileNotFoundError, match='the folder has days.txt'):
    jsonl.make(path=str(tmp_path))
  (tmp_path / 'day_2.jsonl').mkdir()
  with pytest.raises(ValueError, match='day_2.jsonl is a folder'):
    jsonl.make(path=str(tmp_path))


def test_bad_probes_and_empty_files_are_named(tmp_path):
  folder = days(tmp_path)
  path = tmp_path / 'probes.json'
  for row, message in (
    ({'prompt': 'x'}, "probes.json:1.*'answer'"),
    (
      {'prompt': 'x', 'answer': 'y', 'experience': 'day3'},
      "probes.json:1.*'day3'.*'day1', 'day2'",
    ),
    (
      {'prompt': 'x', 'answer': 'y', 'experience': 'birth'},
      "probes.json:1.*'birth' is now named 'pretrain'",
    ),
  ):
    with pytest.raises(ValueError, match=message):
      jsonl.make(path=folder, probes=write(path, [row]))
  for setting in ('probes', 'pretrain'):
    with pytest.raises(ValueError, match='holds no rows'):
      jsonl.make(path=folder, **{setting: write(path, [])})


def test_two_files_with_the_same_name_are_refused(tmp_path):
  parts = []
  for part in 'ab':
    (tmp_path / part).mkdir()
    parts.append(days(tmp_path / part, 1))
  with pytest.raises(ValueError, match="two files are named 'day1'"):
    jsonl.make(path=parts)


def test_the_subject_of_plain_text_is_its_first_words(tmp_path):
  path = write(tmp_path / 'a.jsonl', [{'text': ' One two  three four five.'}])
  dataset = jsonl.make(path=path, templates=['What of {}?'])
  row = dataset.experiences[0][1][0]
  assert row.text[slice(*row.subject)].split() == 'One two three four'.split()
  assert dataset.templates == ['What of {}?']

"""Tests of the passages dataset: experiences, probes, practice questions."""

import json

import pytest

from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import passages

QUESTIONS = 4


def _row(passage, question):
  return {
    'title': f'Town {passage}',
    'context': f'Town {passage} has a river, {passage} bridges and a mill.',
    'question': f'What of {question} is in town {passage}?',
    'answers': [f'bridge {passage}', 'a mill'],
  }


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


@pytest.fixture
def file(tmp_path):
  rows = [_row(p, q) for p in range(6) for q in range(QUESTIONS)]
  rows += [_row(6, 0)]  # This passage has one question only.
  return _write(
    tmp_path / 'questions.jsonl', rows + rows[:3]
  )  # Some are repeated.


def test_each_experience_has_passages_and_their_questions(file):
  dataset = passages.make(path=file, num_days=3, passages_per_day=2)
  assert [len(rows) for _, rows in dataset.experiences] == [2, 2, 2]
  texts = [row.text for _, rows in dataset.experiences for row in rows]
  assert len(set(texts)) == 6
  for key, probes in dataset.probes.items():
    _, rows = dataset.experiences[int(key) - 1]
    titles = {row.text[slice(*row.subject)] for row in rows}
    assert {probe.prompt.split('\n')[0] for probe in probes} == titles
    assert all(probe.prompt.endswith('?\nAnswer:') for probe in probes)
    assert all(probe.answer.startswith(' bridge ') for probe in probes)
  assert not dataset.tasks and dataset.score == 'forced'


def test_practice_questions_are_never_probed(file):
  dataset = passages.make(path=file, num_days=6, practice=1)
  for key, task in dataset.tasks.items():
    practice = {probe.prompt for probe in task.practice}
    assert len(practice) == 1 and len(dataset.probes[key]) == QUESTIONS - 1
    assert not practice & {probe.prompt for probe in dataset.probes[key]}
    assert task.documents == dataset.experiences[int(key) - 1][1]
  tokenizer = tokenizer_lib.make('bytes', ['text'], 300)
  stream = stream_lib.build(
    dataset, tokenizer, context=160, max_prompt=96, batch_size=2, seed=0
  )
  assert stream.tasks.keys() == dataset.probes.keys()
  assert len(stream.dream_templates.before_length_S) == len(
    dataset.dream_templates
  )


def test_a_stream_for_tuning_has_other_passages(file):
  datasets = [
    passages.make(path=file, num_days=3, stream_seed=seed) for seed in (None, 1)
  ]
  texts = [
    {row.text for _, rows in dataset.experiences for row in rows}
    for dataset in datasets
  ]
  assert not texts[0] & texts[1]
  assert passages.make(path=file, num_days=3) == datasets[0]


def test_pretraining_text_is_read_from_jsonl_files(file, tmp_path):
  books = [{'text': f'Chapter {i}.'} for i in range(40)]
  pretrain = _write(tmp_path / 'books.jsonl', books)
  dataset = passages.make(path=file, pretrain=pretrain, num_days=1)
  assert len(dataset.pretrain) == 38 and len(dataset.held_out) == 2


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(answers='mill'), r'questions.jsonl:2: field "answers" is .mill.'),
    (dict(answers=[]), r'questions.jsonl:2: field "answers" is \[\]'),
    (dict(question=' '), r"questions.jsonl:2: field 'question' is ' '"),
    (dict(context=None), r"questions.jsonl:2: field 'context' is None"),
  ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, changes, message):
  file = _write(
    tmp_path / 'questions.jsonl', [_row(0, 0), _row(0, 1) | changes]
  )
  with pytest.raises(ValueError, match=message):
    passages.make(path=file, num_days=1)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(path=None), 'no data path is given'),
    (dict(num_days=8), 'need 8, .* has 7 with more than 0 questions'),
    (dict(num_days=7, practice=1), 'need 7, .* has 6 with more than 1'),
    (
      dict(num_days=4, stream_seed=0),
      'after those of the stream itself need 8',
    ),
    (dict(practice=-1), 'practice is -1'),
    (dict(num_days=0), 'num_days is 0'),
  ],
)
def test_too_few_passages_are_counted_in_the_error(file, changes, message):
  with pytest.raises(ValueError, match=message):
    passages.make(**{'path': file, **changes})

"""Tests of the long stories: pages, questions, truncation, files of bAbI."""

import json

import pytest

from sleep_jax import errors
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import babilong

SMALL = dict(
  words=180, page=90, num_pretrain=8, readings=40, num_days=2,
  documents_per_day=4,
)  # fmt: skip
STORY = {
  'task': '1',
  'context': 'Mary moved to the bathroom. John went back to the hallway.',
  'question': 'Where is Mary?',
  'answers': "['bathroom']",
}
MOVES = ('moved', 'went', 'journeyed', 'travelled')


@pytest.fixture(scope='module')
def dataset():
  return babilong.make(**SMALL)


def _write(path, *rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def test_the_answer_is_where_the_story_says_and_pages_hold_all_of_it(dataset):
  for day, probes in dataset.probes.items():
    if day == 'pretrain':
      continue
    _, rows = dataset.experiences[int(day) - 1]
    pages = {row.text for row in rows}
    for probe, opened in zip(probes, dataset.open_probes[day], strict=True):
      name = probe.prompt.removeprefix('Where is ').removesuffix('?')
      (page,) = [text for text in pages if f'{name} ' in text]
      sentences = [s for s in page.split('. ') if s.startswith(f'{name} ')]
      assert len(sentences) == 1 and sentences[0].split()[2] in MOVES
      assert sentences[0].rstrip('.').endswith(f' the{probe.answer}')
      assert opened.prompt.endswith(f' {probe.prompt}')
      assert page in opened.prompt


def test_a_page_has_a_row_for_each_person_and_one_without_people(dataset):
  texts: dict[str, list] = {}
  for row in dataset.experiences[0][1]:
    title, _, rest = row.text.partition('. ')
    assert len(rest.split()) <= SMALL['page']
    assert row.answer_start == len(title) + 1
    texts.setdefault(row.text, []).append(row)
  for text, rows in texts.items():
    people = sum(f' {move} ' in text for move in MOVES)
    subjects = {row.subject and row.text[slice(*row.subject)] for row in rows}
    assert len(subjects) == len(rows)
    assert (subjects == {None}) == (people == 0)


def test_no_person_is_in_two_documents(dataset):
  names = [
    row.text[slice(*row.subject)]
    for _, rows in dataset.experiences
    for row in rows
    if row.subject
  ]
  assert len({*names}) == len(names)


def test_only_the_end_of_a_long_document_is_in_front_of_its_question(dataset):
  texts = [row.text for row in dataset.pretrain]
  tokenizer = tokenizer_lib.make('bpe', texts, 1024)
  settings = dict(max_prompt=40, prefix=24, batch_size=4, seed=0)
  stream = stream_lib.build(dataset, tokenizer, context=160, **settings)
  whole = stream_lib.build(dataset, tokenizer, context=640, **settings)
  for day, probes in dataset.open_probes.items():
    for index, probe in enumerate(probes):
      length = stream.open_probes[day].prompts.length_B[index]
      tokens = stream.open_probes[day].prompts.tokens_BP[index, :length]
      assert tokens[0] == tokenizer.bos
      assert probe.prompt.endswith(tokenizer.decode(tokens).strip())
      answer = len(tokenizer.encode(probe.answer)) + 1
      assert length + answer == 160
      assert whole.open_probes[day].prompts.length_B[index] > 160
  for row in whole.probes['1'].prompts.length_B:
    assert row < 40


def test_stories_of_files_get_people_of_their_own(tmp_path):
  twice = STORY | {'context': f'{STORY["context"]} Mary went to the office.'}
  twice['answers'] = ['office']
  other = {'task': '2', 'context': 'Other words.', 'question': 'What?'}
  stories = [STORY] * 8
  path = _write(tmp_path / 'babi.jsonl', twice, other, *stories)
  dataset = babilong.make(**SMALL, path=path)
  asked = dataset.probes['1'] + dataset.probes['2']
  assert [probe.answer for probe in asked] == [' bathroom'] * 8
  assert len({probe.prompt for probe in asked}) == 8
  assert not any('Mary' in probe.prompt for probe in asked)
  with pytest.raises(errors.DataError, match='need 16 stories, .* has 8 of'):
    babilong.make(**SMALL, path=path, stream_seed=0)


@pytest.mark.parametrize(
  'changes, message',
  [
    (
      dict(context='Mary ate.'),
      "babi.jsonl:2: .* sentence 'Mary ate': expected one such as",
    ),
    (dict(context=3), "babi.jsonl:2: field 'context' is 3"),
    (dict(question='Who is Mary?'), 'babi.jsonl:2: field "question" is .Who'),
    (
      dict(question='Where is Ida?'),
      'expected "Where is NAME.".* of the story',
    ),
    (dict(answers=[]), r'babi.jsonl:2: field "answers" is \[\]'),
    (dict(answers="['x"), 'babi.jsonl:2: field "answers" is'),
    (dict(answers=['office']), "expected the place of Mary .*'bathroom'"),
  ],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, changes, message):
  path = _write(tmp_path / 'babi.jsonl', STORY, STORY | changes)
  with pytest.raises(errors.DataError, match=message):
    babilong.make(**SMALL, path=path)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(page=10), 'page is 10: set it to 60'),
    (dict(num_days=200), 'up to 3208 names are needed, but there are 1800'),
    (dict(path='none'), 'no files match .*Weston et al. 2015, CC BY 3.0.'),
  ],
)
def test_what_cannot_be_made_is_named(changes, message):
  with pytest.raises(
    (errors.DataError, errors.MissingFileError), match=message
  ):
    babilong.make(**SMALL | changes)

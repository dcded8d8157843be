"""Tests of the needles: what is hidden, asked, stored and never given away."""

import json
import re

import numpy as np
import pytest

from configs.small import niah as config
from sleep_jax import errors
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import filler, niah

SMALL = dict(
  words=30, num_pretrain=8, readings=40, num_days=2, documents_per_day=3
)
NEEDLE = re.compile(r'One of the special magic numbers for ([a-z ]+) is: (\d+)')


@pytest.fixture(scope='module')
def dataset():
  return niah.make(**SMALL)


def _documents(dataset, day):
  """Returns the texts of a day, each once."""
  _, rows = dataset.experiences[day - 1]
  return list(dict.fromkeys(row.text for row in rows))


def test_each_document_has_its_needles_and_one_question(dataset):
  for day in (1, 2):
    texts = _documents(dataset, day)
    assert len(texts) == len(dataset.probes[str(day)]) == 3
    for text, probe, opened in zip(
      texts,
      dataset.probes[str(day)],
      dataset.open_probes[str(day)],
      strict=True,
    ):
      needles = dict(NEEDLE.findall(text))
      assert len(needles) == 4
      key = next(
        key for key in needles if f'for {key} mentioned' in probe.prompt
      )
      assert probe.answer == opened.answer == f' {needles[key]}'
      assert opened.prompt == f'{text} {probe.prompt}'


def test_a_document_is_stored_once_for_each_key_and_no_prompt_has_a_number(
  dataset,
):
  _, rows = dataset.experiences[0]
  assert len(rows) == 3 * 4
  for row in rows:
    subject = row.text[slice(*row.subject)]
    assert subject in dict(NEEDLE.findall(row.text))
    assert row.subject[1] <= row.answer_start
    assert not re.search(r'\d', row.text[: row.answer_start])
  assert len({row.text[slice(*row.subject)] for row in rows}) == len(rows)


def test_only_the_needle_after_the_text_of_a_reading_has_targets(dataset):
  readings = [row for row in dataset.pretrain if row.target_start]
  assert len(readings) >= 30
  for row in readings:
    text, asked = row.text[: row.target_start], row.text[row.target_start :]
    (number,) = re.findall(r'\d+', asked)
    key = row.text[slice(*row.subject)]
    assert key in asked and dict(NEEDLE.findall(text))[key] == number


def test_keys_of_readings_and_of_days_are_different(dataset):
  subjects = lambda rows: {row.text[slice(*row.subject)] for row in rows}
  read = subjects(row for row in dataset.pretrain if row.target_start)
  known = subjects(row for row in dataset.pretrain if not row.target_start)
  days = [subjects(rows) for _, rows in dataset.experiences]
  for one, other in ((read, known), (known, days[0]), (read, days[1]), days):
    assert not one & other


def test_a_stream_for_tuning_has_other_documents_and_the_same_pretraining(
  dataset,
):
  tuning = niah.make(**SMALL, stream_seed=1)
  assert tuning.pretrain == dataset.pretrain
  assert not {*_documents(tuning, 1)} & {*_documents(dataset, 1)}
  assert niah.make(**SMALL) == dataset


@pytest.mark.parametrize('length', config.LENGTHS[::2])
def test_every_text_and_question_fits_the_small_config(length):
  """Numbers of two digits are one token, so that an answer is one choice."""
  c = config.get_config(str(length))
  # With more readings, texts have no more tokens.
  dataset = niah.make(
    **c.data.settings.to_dict() | dict(readings=400, documents_per_day=2)
  )
  texts = [row.text for row in dataset.pretrain]
  tokenizer = tokenizer_lib.make(texts=texts, **c.tokenizer)
  assert all(len(tokenizer.encode(f' {n}')) == 1 for n in range(10, 100))
  stream = stream_lib.build(
    dataset, tokenizer, context=length, max_prompt=c.data.max_prompt,
    prefix=c.data.prefix, batch_size=8, seed=0,
  )  # fmt: skip
  longest = max(p.prompts.length_B.max() for p in stream.open_probes.values())
  assert 0.8 * length < longest < length
  # The whole title is stored, with a subject for the templates.
  prompts = stream.experiences[0].batch(0).prompts
  assert (prompts.subject_B2[:, 1] > 0).all()
  assert (prompts.length_B <= c.consolidate.prompt_width).all()


def test_words_and_filler_of_files_are_used(tmp_path):
  words = [f'w{letter}' for letter in 'abcdefghijklmnopqrst']
  (tmp_path / 'words.txt').write_text('\n'.join(words))
  book = 'He said "Go." And went. It was late!'
  (tmp_path / 'books.jsonl').write_text(json.dumps({'text': book}))
  dataset = niah.make(
    **SMALL, path=str(tmp_path / 'words.txt'), digits=7,
    haystack=str(tmp_path / 'books.jsonl'),
  )  # fmt: skip
  text = _documents(dataset, 1)[0]
  needles = dict(NEEDLE.findall(text))
  assert {word for key in needles for word in key.split()} <= {*words}
  assert all(len(number) == 7 for number in needles.values())
  for sentence in ('He said "Go."', 'And went.', 'It was late!'):
    assert f'{sentence} ' in text


def test_filler_is_never_longer_than_asked_for():
  rng = np.random.default_rng(0)
  for num_words in (0, 5, 100):
    sentences = filler.Filler().draw(rng, num_words)
    used = sum(len(sentence.split()) for sentence in sentences)
    assert num_words - 10 < used <= num_words


def test_facts_keep_their_order_among_filler():
  for seed in range(20):
    found = filler.insert(
      np.random.default_rng(seed), ['x', 'y', 'z'], ['1', '2', '3']
    )
    assert [s for s in found if s.isdigit()] == ['1', '2', '3']
    assert [s for s in found if s.isalpha()] == ['x', 'y', 'z']


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(keys=0), 'keys is 0: set it to 1'),
    (dict(keys=10, digits=1), '10 keys .* there are 9 of 1 digits'),
    (dict(num_days=100), r'1208 keys are needed, .* lists make 800'),
    (dict(path='none.txt'), 'none.txt does not exist. The niah dataset reads'),
    (dict(haystack='none.jsonl'), 'no files match .*public domain'),
  ],
)
def test_what_cannot_be_made_is_named(changes, message):
  with pytest.raises(
    (errors.DataError, errors.MissingFileError), match=message
  ):
    niah.make(**SMALL | changes)


def test_a_line_that_is_no_word_is_named(tmp_path):
  (tmp_path / 'words.txt').write_text('apple\ntwo words\n')
  with pytest.raises(
    errors.DataError,
    match=r"words.txt:2: the line is 'two words': expected one",
  ):
    niah.make(**SMALL, path=str(tmp_path / 'words.txt'))


@pytest.mark.parametrize('argument', ['100', '160:5', 'long', '160:2:3'])
def test_an_argument_of_the_small_config_that_is_none_lists_the_lengths(
  argument,
):
  with pytest.raises(errors.ConfigError, match='160, 320, 640 tokens and 1 to'):
    config.get_config(argument)

"""Questions about a passage in the prompt are read, asked and scored."""

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.evaluate import asking, reading
from tests.evaluate import ability_model

TOKENIZER = ability_model.TOKENIZER
GOOD = {'context': 'Ada sings.', 'question': 'Who sings?', 'answers': ['Ada']}


@pytest.mark.parametrize(
  ('text', 'contained', 'exact'),
  [
    ('The Denver Broncos.', True, True),
    ('It was the denver broncos, in 2016', True, False),
    ('Denver', False, False),
    ('Denver Broncosville', False, False),
    ('broncos', True, True),
    ('', False, False),
    ('the a an', False, False),
  ],
)
def test_an_answer_is_compared_in_whole_words(text, contained, exact):
  question = reading.Question('', '', ('Denver Broncos', 'The Broncos'))
  found = reading.score([question], [text])
  assert [x.tolist() for x in found] == [[contained], [exact]]


def test_questions_are_of_different_passages_and_a_small_set_is_a_beginning(
  tmp_path,
):
  path = ability_model.reading_file(tmp_path, num=9)
  large = reading.load(path, TOKENIZER, 9)
  assert len({q.context for q in large}) == 9
  assert reading.load(path, TOKENIZER, 4) == large[:4]
  assert reading.load(path, TOKENIZER, 9, seed=1) != large


def test_long_passages_are_left_out(tmp_path):
  rows = [GOOD, GOOD | {'context': 'word ' * 200}]
  path = ability_model.write_rows(tmp_path / 'q.jsonl', rows)
  assert reading.load(path, TOKENIZER, 1)[0].context == GOOD['context']
  with pytest.raises(errors.DataError, match='q.jsonl has 1 passages of at'):
    reading.load(path, TOKENIZER, 2)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(context=''), "q.jsonl:2: field 'context' is ''"),
    (dict(question=3), "q.jsonl:2: field 'question' is 3"),
    (dict(answers=[]), r'q.jsonl:2: field "answers" is \[\]: expected a list'),
    (dict(answers='Ada'), 'q.jsonl:2: field "answers" is \'Ada\''),
    (dict(answers=[None]), r"q.jsonl:2: field 'answers\[0\]' is None"),
  ],
)
def test_a_malformed_row_is_named_by_file_and_line(tmp_path, change, message):
  path = ability_model.write_rows(tmp_path / 'q.jsonl', [GOOD, GOOD | change])
  with pytest.raises(errors.DataError, match=message):
    reading.load(path, TOKENIZER, 1)


def test_a_missing_file_says_what_the_set_is_and_where_it_comes_from(tmp_path):
  with pytest.raises(errors.MissingFileError) as caught:
    reading.load(str(tmp_path / 'none.jsonl'), TOKENIZER, 1)
  for part in ('config.ability.reading', 'SQuAD', 'CC BY-SA 4.0', 'github.io'):
    assert part in str(caught.value)


def test_answers_in_the_form_of_hugging_face_are_read(tmp_path):
  row = GOOD | {'answers': {'text': ['Ada', 'Ada S.'], 'answer_start': [0, 0]}}
  path = ability_model.write_rows(tmp_path / 'q.jsonl', [row])
  assert reading.load(path, TOKENIZER, 1)[0].answers == ('Ada', 'Ada S.')


def test_in_plain_form_three_examples_come_first():
  question = reading.Question(GOOD['context'], GOOD['question'], ('Ada',))
  (tokens,) = reading.prompts([question], TOKENIZER, ability_model.FORM)
  text = TOKENIZER.decode(tokens)
  assert tokens[0] == TOKENIZER.bos and text.count('Passage:') == 4
  assert text.endswith('Passage: Ada sings.\nQuestion: Who sings?\nAnswer:')


def test_in_a_chat_passage_and_question_are_one_turn():
  template = ability_model.Template()
  form = asking.make_form(TOKENIZER, template)
  question = reading.Question(GOOD['context'], GOOD['question'], ('Ada',))
  (tokens,) = reading.prompts([question], TOKENIZER, form)
  text = TOKENIZER.decode(tokens)
  assert text.count('<user>') == 1 and text.count('<assistant>') == 1
  assert text.endswith(
    '<user>Passage: Ada sings.\n\nAnswer with words of the passage: '
    'Who sings?<assistant>'
  )


def test_the_paired_interval_needs_few_questions_that_change():
  before = np.array([1, 0] * 100, bool)
  assert reading.paired_interval(before, before) == (0.0, 0.0)
  after = before.copy()
  after[:4] = [0, 1, 1, 1]  # One is lost, two are gained, one stays.
  low, high = reading.paired_interval(before, after)
  assert -0.015 < low < 0 < 1 / 200 < high < 0.03
  # Unpaired, the interval would be that of two shares of one half.
  assert high - low < 0.3 * 2 * 1.96 * np.sqrt(2 * 0.25 / 200)
  gained = reading.paired_interval(np.zeros(9, bool), np.ones(9, bool))
  assert gained == (1.0, 1.0)


def test_the_interval_is_that_of_questions_drawn_one_by_one():
  random = np.random.default_rng(0)
  before, after = random.random((2, 60)) < np.array([[0.5], [0.6]])
  change = after.astype(int) - before.astype(int)
  drawn = random.choice(change, (20_000, 60)).mean(1)
  expected = np.percentile(drawn, [2.5, 97.5])
  found = reading.paired_interval(before, after)
  np.testing.assert_allclose(found, expected, atol=1 / 60 + 1e-9)

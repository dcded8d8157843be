"""A model that is the first one has changed in nothing; another one has."""

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.evaluate import ability, reading, text_windows, token_rows
from tests.evaluate import ability_model

TOKENIZER, FORM = ability_model.TOKENIZER, ability_model.FORM
REQUESTS = ('Say hello.', 'Name a colour of the sky at noon.', 'Why?')


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sets')
  text = ability_model.text_file(folder)
  questions = ability_model.reading_file(folder)
  return ability.Sets(
    text_windows.load(text, TOKENIZER, 700),
    ability.write_answers(
      ability_model.model(), ability_model.weights(), FORM, REQUESTS, max_new=6
    ),
    reading.load(questions, TOKENIZER, 6),
  )  # fmt: skip


def _measure(weights, sets):
  return ability.measure(
    ability_model.model(), weights, TOKENIZER, FORM, sets, apart=3
  )


def _compare(weights, before, after):
  return ability.compare(
    ability_model.model(), ability_model.weights(), weights, before, after
  )


@pytest.fixture(scope='module')
def before(sets):
  return _measure(ability_model.weights(), sets)


def test_with_the_same_weights_nothing_has_changed(sets, before):
  first = ability_model.weights()
  found = _compare(first, before, _measure(first, sets))
  assert found['text']['change'] == 0
  assert found['everyday'] == {
    'tokens': sum(map(len, sets.everyday.answers)), 'kl': 0.0
  }  # fmt: skip
  changes = [found['reading'][n] for n in ('change', 'low', 'high')]
  assert changes == [0.0, 0.0, 0.0] and found['reading']['exact_change'] == 0
  assert found['text']['tokens'] == 700
  assert found['text']['perplexity'] == pytest.approx(
    np.exp(found['text']['loss'])
  )


def test_other_weights_have_other_losses_and_a_divergence(sets, before):
  other = ability_model.weights(1.2)
  after = _measure(other, sets)
  found = _compare(other, before, after)
  loss = before.text_nats_M.mean(dtype=float)
  assert found['text']['loss'] != loss
  assert found['text']['change'] == pytest.approx(
    np.exp(found['text']['loss'] - loss) - 1
  )
  assert found['everyday']['kl'] > 1e-4
  model, first = ability_model.model(), ability_model.weights()
  rows = token_rows.pack(sets.everyday.targets())
  alone = token_rows.divergences(
    model, first, sets.everyday.states_MD, other,
    token_rows.states(model, other, rows),
  )  # fmt: skip
  assert found['everyday']['kl'] == pytest.approx(alone.mean())


def test_a_part_of_the_sets_has_the_numbers_that_it_has_in_the_whole(
  sets, before
):
  sizes = 530, 3  # The third window is cut.
  part = _measure(ability_model.weights(), sets.first_part(*sizes))
  whole = before.first_part(*sizes)
  assert len(part.text_nats_M) == 530
  assert np.array_equal(part.text_nats_M, whole.text_nats_M)
  assert np.array_equal(part.states_MD, whole.states_MD)
  assert part.texts == whole.texts and len(part.texts) == 3


def test_a_part_that_is_left_out_is_not_reported(sets, before):
  first = ability_model.weights()
  alone = ability.Sets(everyday=sets.everyday)
  found = _compare(first, before, _measure(first, alone))
  assert set(found) == {'everyday'}
  assert alone.first_part(1, 1) == alone


def test_the_loss_of_text_is_that_of_each_window_alone(sets, before):
  nats = [
    ability.text_nats(
      ability_model.model(), ability_model.weights(), [window]
    )
    for window in sets.text
  ]  # fmt: skip
  np.testing.assert_allclose(
    np.concatenate(nats), before.text_nats_M, rtol=1e-5, atol=1e-5
  )


class TestText:
  def test_rows_are_joined_and_every_window_begins_with_bos(self, tmp_path):
    rows = [{'text': 'one'}, {'text': ' '}, {'text': 'two' * 400}]
    path = ability_model.write_rows(tmp_path / 'a.jsonl', rows)
    windows = text_windows.load(path, TOKENIZER, 1000)
    assert [len(w.tokens) for w in windows] == [257, 257, 257, 233]
    assert all(w.tokens[0] == TOKENIZER.bos for w in windows)
    joined = [token for w in windows for token in w.tokens[1:]]
    assert TOKENIZER.decode(joined) == ('one\n\n' + 'two' * 400)[:1000]

  def test_a_plain_file_is_read_as_one_text(self, tmp_path):
    (tmp_path / 'a.txt').write_text('Hello there.\n\nAgain.')
    (window,) = text_windows.load(str(tmp_path / 'a.txt'), TOKENIZER, 15)
    assert TOKENIZER.decode(window.tokens) == 'Hello there.\n\nA'

  def test_a_missing_file_says_what_the_set_is(self, tmp_path):
    for name in ('none.jsonl', 'none.txt'):
      with pytest.raises(errors.MissingFileError) as caught:
        text_windows.load(str(tmp_path / name), TOKENIZER, 5)
      for part in ('config.ability.text', 'WikiText-2', 'CC BY-SA 3.0'):
        assert part in str(caught.value)

  @pytest.mark.parametrize(
    ('rows', 'message'),
    [
      ([{'text': 'a'}, {'text': 3}], 'a.jsonl:2: field "text" is 3'),
      ([{'words': 'a'}], 'a.jsonl:1: field "text" is None'),
      ([{'text': 'abc'}], 'a.jsonl has 3 tokens, but 5 are asked for'),
      ([], 'a.jsonl has 0 tokens, but 5 are asked for'),
    ],
  )
  def test_what_is_no_text_or_too_short_is_named(self, tmp_path, rows, message):
    path = ability_model.write_rows(tmp_path / 'a.jsonl', rows)
    with pytest.raises(errors.DataError, match=message):
      text_windows.load(path, TOKENIZER, 5)

  def test_a_text_that_is_not_utf8_is_named(self, tmp_path):
    (tmp_path / 'a.txt').write_bytes(b'caf\xe9')
    with pytest.raises(errors.DataError, match='a.txt is not UTF-8'):
      text_windows.load(str(tmp_path / 'a.txt'), TOKENIZER, 2)

"""Judges: which texts count as having the same meaning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.data import tokenizer
from sleep_jax.objectives import judges

TOKENIZER = tokenizer.Bytes()


def _no_states():
  raise AssertionError('A judge of texts must not compute hidden states.')


def _completion(tokens_BS, length_B, states_fn=_no_states):
  return judges.Completion(
    jnp.asarray(tokens_BS), jnp.asarray(length_B), states_fn
  )


def _score(wanted, found, noise=7):
  completions = [_texts([text], noise) for text in (wanted, found)]
  score_B, metrics = judges.make('match', TOKENIZER)(*completions)
  assert not metrics
  return float(score_B[0])


def _texts(texts, noise=7):
  ids = [[*TOKENIZER.encode(text), TOKENIZER.eos] for text in texts]
  tokens = [row + [noise] * (24 - len(row)) for row in ids]
  return _completion(tokens, [len(row) for row in ids])


@pytest.mark.parametrize(
  'text',
  ['the red house', ' The red HOUSE.', 'the red  house!', 'thered house'],
)
def test_case_spaces_and_punctuation_are_ignored(text):
  assert _score('the red house', text) == 1
  assert _score('the red house', text, noise=40) == 1


@pytest.mark.parametrize(
  'text', ['', 'the red', 'the red house too', 'house red the', 'the bed house']
)
def test_other_words_do_not_match(text):
  assert _score('the red house', text) == 0
  assert _score(text, 'the red house') == 0


def test_texts_without_letters_match():
  assert _score('', '?!') == 1


def test_part_of_a_character_only_matches_itself():
  assert _score('é', 'é') == 1
  assert _score('é', 'è') == 0


def test_each_row_is_judged_alone():
  wanted, found = _texts(['ab', 'ab', 'Ab']), _texts(['ab', 'ba', 'aB'])
  assert judges.match(TOKENIZER)(wanted, found)[0].tolist() == [1, 0, 1]


def _similar_states(similarity, num=40, width=8):
  """Completions with different tokens and states of a given similarity."""
  random = np.random.default_rng(0)
  common = 5 * random.normal(size=width)  # Shared by all states.
  wanted_BD = random.normal(size=(num, width))
  found_BD = similarity * wanted_BD + (1 - similarity) * random.normal(
    size=(num, width)
  )

  def completion(mean_BD, first):
    # Two tokens whose states have this mean, and one of padding.
    noise = random.normal(size=mean_BD.shape)
    states = [mean_BD + common + noise, mean_BD + common - noise, 99 * noise]
    tokens = [[first + row, 65, 66] for row in range(num)]
    return _completion(
      tokens, [2] * num, lambda: jnp.asarray(np.stack(states, 1), 'f4')
    )

  return completion(wanted_BD, 100), completion(found_BD, 160)


def test_texts_with_more_similar_states_than_unrelated_ones_match():
  judge = lambda x: judges.make('teacher', TOKENIZER)(*_similar_states(x))
  near_B, metrics = judge(0.98)
  assert near_B.mean() > 0.95
  # Unrelated texts exceed the limit in 1 of 100 cases.
  assert judge(0.0)[0].mean() < 0.1
  assert 0.3 < float(metrics['unrelated']) < 1


def test_the_limit_is_a_percentile_of_unrelated_pairs():
  wanted, found = _similar_states(0.9)
  _, metrics = judges.teacher(TOKENIZER)(wanted, found)
  mean_BD = np.asarray(wanted.states_fn())[:, :2].mean(1)
  mean_BD -= mean_BD.mean(0)
  mean_BD /= np.linalg.norm(mean_BD, axis=1, keepdims=True)
  pairs = (mean_BD * np.roll(mean_BD, 20, 0)).sum(1)
  assert float(metrics['unrelated']) == pytest.approx(
    np.percentile(pairs, 99), rel=1e-4
  )


def test_without_unrelated_pairs_only_a_match_counts():
  """Equal texts give no limit for the similarity of states."""
  states_fn = lambda: jnp.ones((3, 24, 4))
  wanted = _texts(['yes'] * 3)._replace(states_fn=states_fn)
  found = _texts(['Yes', 'no', 'yes!'])._replace(states_fn=states_fn)
  score_B, metrics = judges.teacher(TOKENIZER)(wanted, found)
  assert score_B.tolist() == [1, 0, 1]
  assert float(metrics['unrelated']) == 1


def first_letters(wanted, found):
  """A custom judge, imported by its name."""
  return [float(a[:1] == b[:1]) for a, b in zip(wanted, found, strict=True)]


def not_a_number(wanted, found):
  return [float('nan')] * len(found)


def too_few(wanted, found):
  return [1.0]


def too_much(wanted, found):
  return [2.0] * len(found)


def broken(wanted, found):
  raise KeyError('model')


def test_a_custom_judge_gets_texts():
  judge = jax.jit(
    lambda noise: judges.make(f'{__name__}:first_letters', TOKENIZER)(
      _texts(['a b', 'é', 'c']), _texts(['a', 'éx', 'd'], 40)
    )
  )
  assert judge(0)[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('near', "'near' is unknown: expected 'match', 'teacher', 'encoder:"),
    ('nowhere_at_all:judge', "cannot be imported: No module named 'nowhere_"),
    (f'{__name__}:nobody', "cannot be imported: .*'nobody'"),
    (
      f'{__name__}:not_a_number',
      "returned nan for 'a red house' .* expected 0",
    ),
    (f'{__name__}:too_few', r'returned shape \(1,\) for 3 pairs'),
    (f'{__name__}:too_much', 'returned 2.0 for .* expected 0'),
    (f'{__name__}:broken', "failed on 3 pairs .*: KeyError: 'model'"),
  ],
)
def test_an_unusable_judge_is_refused_before_the_night(name, message):
  with pytest.raises(ValueError, match=message):
    judges.make(name, TOKENIZER)

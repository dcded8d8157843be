"""What counts as the same answer, and what does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.data import tokenizer
from sleep_jax.objectives import judges

WORDS = tokenizer.Bytes()


def _unread():
  raise AssertionError('A judge of texts has nobody read them.')


def _ending(tokens_BS, length_B, read=_unread):
  return judges.Completion(jnp.asarray(tokens_BS), jnp.asarray(length_B), read)


def _judged(wanted, said, noise=7):
  endings = [_texts([text], noise) for text in (wanted, said)]
  yes_B, found = judges.make('match', WORDS)(*endings)
  assert not found
  return float(yes_B[0])


def _texts(texts, noise=7):
  ids = [[*WORDS.encode(text), WORDS.eos] for text in texts]
  tokens = [row + [noise] * (24 - len(row)) for row in ids]
  return _ending(tokens, [len(row) for row in ids])


@pytest.mark.parametrize(
  'said',
  ['the red house', ' The red HOUSE.', 'the red  house!', 'thered house'],
)
def test_dress_does_not_count(said):
  assert _judged('the red house', said) == 1
  assert _judged('the red house', said, noise=40) == 1


@pytest.mark.parametrize(
  'said', ['', 'the red', 'the red house too', 'house red the', 'the bed house']
)
def test_words_do(said):
  assert _judged('the red house', said) == 0
  assert _judged(said, 'the red house') == 0


def test_nothing_is_nothing():
  assert _judged('', '?!') == 1


def test_part_of_a_letter_is_only_like_itself():
  assert _judged('é', 'é') == 1
  assert _judged('é', 'è') == 0


def test_each_row_is_judged_alone():
  wanted, said = _texts(['ab', 'ab', 'Ab']), _texts(['ab', 'ba', 'aB'])
  assert judges.match(WORDS)(wanted, said)[0].tolist() == [1, 0, 1]


def _minds(nearness, num=40, width=8):
  """Endings of other words each, as near in mind as is said; and padding."""
  random = np.random.default_rng(0)
  common = 5 * random.normal(size=width)  # What all states have in common.
  wanted_BD = random.normal(size=(num, width))
  said_BD = nearness * wanted_BD + (1 - nearness) * random.normal(
    size=(num, width)
  )

  def ending(mean_BD, first):
    # Two tokens whose states have this mean, and one that is not there.
    apart = random.normal(size=mean_BD.shape)
    states = [mean_BD + common + apart, mean_BD + common - apart, 99 * apart]
    tokens = [[first + row, 65, 66] for row in range(num)]
    return _ending(
      tokens, [2] * num, lambda: jnp.asarray(np.stack(states, 1), 'f4')
    )

  return ending(wanted_BD, 100), ending(said_BD, 160)


def test_what_is_nearer_than_the_unrelated_is_meant_the_same():
  judge = lambda x: judges.make('teacher', WORDS)(*_minds(x))
  near_B, found = judge(0.98)
  assert near_B.mean() > 0.95
  # 99 in 100 of what is unrelated stays below: so does what has no relation.
  assert judge(0.0)[0].mean() < 0.1
  assert 0.3 < float(found['unrelated']) < 1


def test_the_limit_is_that_of_unrelated_pairs():
  wanted, said = _minds(0.9)
  _, found = judges.teacher(WORDS)(wanted, said)
  mean_BD = np.asarray(wanted.read())[:, :2].mean(1)
  mean_BD -= mean_BD.mean(0)
  mean_BD /= np.linalg.norm(mean_BD, axis=1, keepdims=True)
  pairs = (mean_BD * np.roll(mean_BD, 20, 0)).sum(1)
  assert float(found['unrelated']) == pytest.approx(
    np.percentile(pairs, 99), rel=1e-4
  )


def test_where_all_is_alike_only_a_match_is_one():
  """No pair is unrelated, so nothing can be told by nearness."""
  read = lambda: jnp.ones((3, 24, 4))
  wanted = _texts(['yes'] * 3)._replace(read=read)
  said = _texts(['Yes', 'no', 'yes!'])._replace(read=read)
  yes_B, found = judges.teacher(WORDS)(wanted, said)
  assert yes_B.tolist() == [1, 0, 1]
  assert float(found['unrelated']) == 1


def first_letters(wanted, said):
  """A judge of one's own, found by its name."""
  return [float(a[:1] == b[:1]) for a, b in zip(wanted, said, strict=True)]


def not_a_number(wanted, said):
  return [float('nan')] * len(said)


def too_few(wanted, said):
  return [1.0]


def too_much(wanted, said):
  return [2.0] * len(said)


def broken(wanted, said):
  raise KeyError('model')


def test_a_judge_of_ones_own_is_asked_in_text():
  judge = jax.jit(
    lambda noise: judges.make(f'{__name__}:first_letters', WORDS)(
      _texts(['a b', 'é', 'c']), _texts(['a', 'éx', 'd'], 40)
    )
  )
  assert judge(0)[0].tolist() == [1, 1, 0]


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('near', "'near' is unknown: expected 'match', 'teacher', 'encoder:"),
    ('nowhere_at_all:judge', "cannot be imported: No module named 'nowhere_"),
    (f'{__name__}:nobody', "cannot be imported: .*'nobody'"),
    (f'{__name__}:not_a_number', "gave nan for 'a red house' .* expected 0"),
    (f'{__name__}:too_few', r'gave shape \(1,\) for 3 pairs'),
    (f'{__name__}:too_much', 'gave 2.0 for .* expected 0'),
    (f'{__name__}:broken', "failed on 3 pairs .*: KeyError: 'model'"),
  ],
)
def test_a_judge_that_does_not_judge_is_refused_before_the_night(name, said):
  with pytest.raises(ValueError, match=said):
    judges.make(name, WORDS)

"""What counts as the same answer, and what does not."""

import jax
import jax.numpy as jnp
import pytest

from sleep_jax.data import tokenizer
from sleep_jax.objectives import judges

WORDS = tokenizer.Bytes()


def _judged(wanted, said, noise=7):
  def padded(text):
    ids = [*WORDS.encode(text), WORDS.eos]
    return jnp.array([ids + [noise] * (24 - len(ids))]), jnp.array([len(ids)])

  judge = jax.jit(judges.match(WORDS))
  return float(judge(*padded(wanted), *padded(said))[0])


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
  rows = jnp.array([[97, 98], [97, 98], [65, 98]])
  length_B = jnp.array([2, 2, 2])
  said = jnp.array([[97, 98], [98, 97], [97, 66]])
  found = judges.match(WORDS)(rows, length_B, said, length_B)
  assert found.tolist() == [1, 0, 1]

"""Edit distances agree with rapidfuzz, and rewards with hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rapidfuzz.distance import Levenshtein

from sleep_jax import types
from sleep_jax.objectives import imitation_reward

_distance = jax.jit(imitation_reward.edit_distance)


def _padded(rows, width, noise=0):
  """Pads rows with random tokens."""
  random = np.random.default_rng(noise)
  tokens = random.integers(0, 9, (len(rows), width))
  for index, row in enumerate(rows):
    tokens[index, : len(row)] = row
  lengths = np.array([len(row) for row in rows])
  return jnp.asarray(tokens, 'i4'), jnp.asarray(lengths, 'i4')


def _expected(first, second):
  pairs = zip(first, second, strict=True)
  return [Levenshtein.distance(a, b) for a, b in pairs]


@pytest.mark.parametrize('vocab_size', [2, 3, 9])
def test_distances_of_random_rows_equal_those_of_rapidfuzz(vocab_size):
  random = np.random.default_rng(vocab_size)
  draw = lambda widest: [
    random.integers(0, vocab_size, random.integers(0, widest + 1)).tolist()
    for _ in range(300)
  ]
  first, second = draw(12), draw(9)
  found = _distance(*_padded(first, 12), *_padded(second, 9, noise=1))
  np.testing.assert_array_equal(found, _expected(first, second))


def test_distances_of_edge_cases_equal_those_of_rapidfuzz():
  whole = list(range(8))
  pairs = [
    ([], []), ([], whole), (whole, []), (whole, whole), (whole, whole[::-1]),
    (whole, whole[1:] + whole[:1]),  # A rotation: one deletion, one insertion.
    (whole, whole[4:]), (whole[4:], whole), (whole, whole[:4]),
    ([1] * 8, [1] * 3), ([1, 2] * 4, [2, 1] * 4), ([1, 2] * 4, [1] * 8),
    (whole, [8] * 8), (whole, [0, 8, 1, 8, 2, 8, 3, 8]), ([3], [4]),
    ([0, 0, 1, 0, 0], [0, 1, 0, 0, 0]),
  ]  # fmt: skip
  first, second = map(list, zip(*pairs, strict=True))
  found = _distance(*_padded(first, 8), *_padded(second, 8, noise=1))
  np.testing.assert_array_equal(found, _expected(first, second))


def test_a_distance_is_a_metric_and_ignores_padding():
  random = np.random.default_rng(0)
  draw = lambda: [
    random.integers(0, 3, random.integers(0, 7)).tolist() for _ in range(100)
  ]
  a, b, c = draw(), draw(), draw()
  measure = lambda x, y, noise=0: np.asarray(
    _distance(*_padded(x, 7, noise), *_padded(y, 7, noise + 5))
  )
  np.testing.assert_array_equal(measure(a, b), measure(b, a))
  np.testing.assert_array_equal(measure(a, b), measure(a, b, noise=7))
  assert (measure(a, c) <= measure(a, b) + measure(b, c)).all()


def _close(a, b, threshold=0.5):
  args = (*_padded([a], 8), *_padded([b], 8, noise=1))
  return float(imitation_reward.closeness(*args, threshold=threshold)[0])


def test_closeness_of_worked_examples():
  assert _close([1, 2, 3, 4], [1, 2, 3, 4]) == 1
  assert _close([1, 2, 3, 4], [5, 6, 7, 8]) == 0
  assert _close([1, 2, 3, 4], [1, 2, 3]) == 0.75
  assert _close([1, 2, 3, 4], [1, 2, 5, 6]) == 0.5  # At the threshold.
  assert _close([1, 2, 3, 4], [1, 2, 5, 6], threshold=0.49) == 0  # Beyond it.
  assert _close([1, 2, 3, 4], [1, 5, 6, 7], threshold=1.0) == 0.25


def test_closeness_of_empty_sequences():
  assert _close([], []) == 1
  assert _close([], [1]) == _close([1], []) == 0


def test_equal_rewards_of_a_group_have_no_advantage():
  reward_BG = jnp.array([[1.0, 1, 1], [0, 0, 0], [1, 0, 0.5]])
  found = imitation_reward.advantages(reward_BG)
  np.testing.assert_allclose(found, [[0] * 3, [0] * 3, [0.5, -0.5, 0]])


def test_repetition_of_worked_examples():
  rows = [[1, 2, 3, 4], [1, 1, 1, 1], [1, 2, 1, 2, 1], [1, 2], [3], []]
  found = imitation_reward.repetition(*_padded(rows, 8))
  np.testing.assert_allclose(found, [0, 2 / 3, 2 / 4, 0, 0, 0])


def test_a_continuation_holds_the_tokens_after_the_cut():
  tokens_BT = jnp.arange(12).reshape(2, 6)
  rollout = types.Rollout(tokens_BT, jnp.array([1, 2]), jnp.array([5, 6]))
  tokens_BS, length_B = imitation_reward.continuation(
    rollout, jnp.array([2, 5]), size=4
  )
  assert length_B.tolist() == [3, 1]
  assert tokens_BS[0, :3].tolist() == [2, 3, 4]
  assert tokens_BS[1, :1].tolist() == [11]

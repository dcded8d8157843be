"""Rollback: the worst conflicts of a day with earlier days are undone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.schedule import events
from sleep_jax.strategies import rollback
from tests import testing
from tests.strategies import methods

# Two arrays, so that the highest scores are found over both together.
BEFORE = {'v': [1.0, 1, 1], 'w': [[1.0, 1], [1, 1]]}
EARLIER = {'v': [1.0, 1, -1], 'w': [[1.0, -1], [0, 1]]}
UPDATE = {'v': [-0.1, 0.9, -0.9], 'w': [[-0.2, 0.3], [-0.8, -0.3]]}
FISHER = {'v': [5.0, 9, 9], 'w': [[1.0, 1], [9, 0]]}
# Opposite: v[0], w[0, 0], w[0, 1] and w[1, 1]. w[1, 0] has not moved before.
SCORES = {'v': [0.5, 0, 0], 'w': [[0.2, 0.3], [0, 0]]}


def _arrays(tree):
  is_list = lambda x: isinstance(x, list)
  return jax.tree.map(
    lambda x: jnp.asarray(x, jnp.float32), tree, is_leaf=is_list
  )


def _after():
  return jax.tree.map(jnp.add, _arrays(BEFORE), _arrays(UPDATE))


def test_a_score_is_size_times_fisher_where_signs_are_opposite_and_else_zero():
  found = rollback.conflict_scores(*map(_arrays, (UPDATE, EARLIER, FISHER)))
  testing.close(found, _arrays(SCORES), 1e-6)
  zero = np.concatenate([x.ravel() for x in jax.tree.leaves(found)]) == 0
  assert zero.tolist() == [False, True, True, False, False, True, True]


@pytest.mark.parametrize(
  'num, undone',
  [
    (0, {'v': [0, 0, 0], 'w': [[0, 0], [0, 0]]}),
    (1, {'v': [1, 0, 0], 'w': [[0, 0], [0, 0]]}),
    (2, {'v': [1, 0, 0], 'w': [[0, 1], [0, 0]]}),
    (3, {'v': [1, 0, 0], 'w': [[1, 1], [0, 0]]}),
    (7, {'v': [1, 0, 0], 'w': [[1, 1], [0, 0]]}),  # None of equal sign.
  ],
)
def test_the_coordinates_of_the_highest_scores_are_set_back(num, undone):
  before, after = _arrays(BEFORE), _after()
  found = rollback.roll_back(after, before, _arrays(SCORES), num)
  expected = jax.tree.map(
    lambda new, old, on: jnp.where(on > 0, old, new),
    after, before, _arrays(undone),
  )  # fmt: skip
  assert testing.same(found, expected)


def test_of_equal_scores_all_or_none_are_set_back():
  scores = _arrays({'v': [2.0, 2, 1], 'w': [[2.0, 0], [3, 0]]})

  def changed(num):
    found = rollback.roll_back(_after(), _arrays(BEFORE), scores, num)
    is_new = jax.tree.map(lambda x, y: int((x != y).sum()), found, _after())
    return sum(jax.tree.leaves(is_new))

  assert [changed(num) for num in range(6)] == [0, 1, 1, 1, 4, 5]


@pytest.mark.parametrize('num', [0, 1, 17, 250, 999, 1000])
def test_the_threshold_is_that_of_sorting(num):
  score = np.random.default_rng(0).lognormal(sigma=20, size=1000).astype('f4')
  parts = {'a': jnp.asarray(score[:300]), 'b': jnp.asarray(score[300:])}
  found = float(jax.jit(rollback.threshold, static_argnums=1)(parts, num))
  assert found == (np.sort(score)[::-1][num] if num < 1000 else 0)


@pytest.fixture(scope='module')
def made():
  """The method, whose days undo at most a tenth of the coordinates."""
  return methods.Made(rollback.make(2), share=0.1)


@pytest.fixture(scope='module')
def end_day(made):
  """(state, batches) -> state after a day with these rows."""
  read, finish = (
    jax.jit(made.method.read),
    jax.jit(functools.partial(made.method.finish, moment=events.END)),
  )

  def end(state, *batches):
    for batch in batches:
      state, _ = read(state, batch)
    return finish(state)[0]

  return end


def _second_day(state):
  """Moves as the first day did at half of the coordinates, else back."""
  params = {
    path: x + 0.02 * jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    for path, x in state.weights.params.items()
    if path in state.strategy['fisher']
  }
  return state.replace(weights=state.weights.with_params(params))


def test_after_two_days_only_conflicts_with_the_first_are_undone(made, end_day):
  trained = lambda state: {
    path: np.asarray(state.weights.params[path])
    for path in made.state.strategy['fisher']
  }
  first = methods.moved(made.state)
  after_first = end_day(first, testing.batch(1))
  # There is nothing before the first day that it could conflict with.
  assert testing.same(trained(after_first), trained(first))
  fisher = jax.tree.map(np.asarray, after_first.strategy['fisher'])
  assert all(x.any() for x in fisher.values())
  second = _second_day(after_first)
  after = end_day(second, testing.batch(2))
  flat = lambda tree: np.concatenate([tree[p].ravel() for p in sorted(tree)])
  initial, old = flat(trained(made.state)), flat(trained(after_first))
  new, kept = flat(trained(second)), flat(trained(after))
  undone = (kept != new).nonzero()[0]
  np.testing.assert_array_equal(kept[undone], old[undone])
  assert (np.sign(new - old) * np.sign(old - initial))[undone].max() == -1
  score = np.abs(new - old) * flat(fisher)
  opposite = np.sign(new - old) * np.sign(old - initial) < 0
  assert 0.4 < opposite.mean() < 0.6
  score *= opposite
  num = int(0.1 * len(score))
  assert 0.9 * num < len(undone) <= num
  others = np.delete(score, undone)
  assert score[undone].min() >= others.max() * (1 - 1e-6)
  # What is kept is where the third day begins, and the Fisher is a sum.
  assert testing.same(flat(after.strategy['optimum']), kept)
  assert (flat(after.strategy['fisher']) >= flat(fisher)).all()
  assert np.mean(flat(after.strategy['fisher'])) == pytest.approx(2, rel=1e-3)


def test_the_fisher_of_the_day_itself_does_not_count(made, end_day):
  """Its rows change the Fisher, and not what is undone."""
  first = end_day(methods.moved(made.state), testing.batch(1))
  second = _second_day(first)
  read, unread = end_day(second, testing.batch(2)), end_day(second)
  assert not testing.same(second.weights, unread.weights)
  assert testing.same(read.weights, unread.weights)
  assert not testing.same(read.strategy['fisher'], unread.strategy['fisher'])

"""ProtoAda: prototypes, groups, and updates that are split by a subspace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.schedule import events
from sleep_jax.strategies import protoada
from tests import testing
from tests.strategies import methods


def _draw(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype('f4')


def test_a_split_update_has_a_part_in_the_subspace_and_one_orthogonal_to_it():
  update, factor = _draw(2, 6, 5), _draw(2, 6, 3, seed=1)
  inside, rest = protoada.split(update, factor)
  np.testing.assert_allclose(inside + rest, update, atol=1e-6)
  turned = np.swapaxes(factor, 1, 2)
  np.testing.assert_allclose(turned @ rest, 0 * (turned @ rest), atol=1e-5)
  # What is in the subspace is all inside; each layer has its own.
  own = factor @ _draw(2, 3, 5, seed=2)
  np.testing.assert_allclose(protoada.split(own, factor)[0], own, atol=1e-5)
  assert np.abs(protoada.split(own[::-1], factor)[1]).max() > 0.1


def test_a_prototype_is_the_direction_of_the_prompts_and_the_answers_format():
  """Row 0 has a prompt of 2 tokens and an answer 7 8; row 1 has two texts."""
  tokens = [[1, 5, 7, 8, 0, 0], [1, 7, 1, 5, 5, 8]]
  segments = [[1, 1, 1, 1, -1, -1], [1, 1, 2, 2, 2, 2]]
  positions = [[0, 1, 2, 3, 0, 0], [0, 1, 0, 1, 2, 3]]
  batch = testing.batch(rows=2).replace(
    tokens_BT=jnp.asarray(tokens), segments_BT=jnp.asarray(segments),
    positions_BT=jnp.asarray(positions),
    prompts=testing.prompts([[1, 5], [], [1], [1, 5, 5]]),
  )  # fmt: skip
  states = np.zeros((2, 6, 2), 'f4')
  states[0, :2] = states[1, 2:5] = [3, 4]  # Of the two prompts of two tokens,
  states[1, 0] = [3, -6]  # and of the prompt of one.
  sums = protoada.count_tokens(batch, states, 10)
  np.testing.assert_allclose(sums['feature_D'], [18, 14])
  assert sums['answers_V'].tolist() == [0, 0, 0, 0, 0, 0, 0, 2, 2, 0]
  assert int(sums['num']) == 3
  found = protoada.prototype(sums, longest=6)
  expected = [18 / 520**0.5, 14 / 520**0.5, 4 / 3 / 6, np.log10(2)]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
  'new, days, expected',
  [
    ([1, 0], [0, 0, 0], 0),  # The first experience founds a group.
    ([2, 0], [1, 0, 0], 0),  # Equal directions; sizes do not matter.
    ([0, 1], [1, 0, 0], 1),  # Another direction founds one,
    ([0, 1], [1, 1, 0], 1),  # which later ones join.
    ([1, -1], [2, 1, 0], 2),  # Below the threshold of 0.8.
    ([3, 1], [2, 1, 0], 0),  # Above it.
  ],
)
def test_an_experience_joins_the_most_similar_group_or_founds_one(
  new, days, expected
):
  known = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
  found = protoada.choose_group(
    jnp.asarray(new, jnp.float32), known, jnp.asarray(days), 0.8
  )
  assert int(found) == expected


def _day(made, state, batch, step, scale):
  """A day: (state at its start, after training, after it)."""
  state = state.replace(step=jnp.int32(step))
  state, _ = jax.jit(made.method.read)(state, batch)
  begun = made.finish(state, events.START)
  adapter = {
    path: {
      'a': low['a'] + scale * _draw(*low['a'].shape, seed=step),
      'b': 0.1 * _draw(*low['b'].shape, seed=step + 1),
    }
    for path, low in begun.weights.adapter.items()
  }
  trained = begun.replace(weights=begun.weights.replace(adapter=adapter))
  return begun, trained, made.finish(trained, events.END)


def test_a_day_of_the_same_rows_joins_and_merges_only_what_is_in_the_subspace():
  made = methods.Made(protoada.make(2), rank=2, tasks=3)
  batch = testing.batch()
  _, trained, state = _day(made, made.state, batch, 0, 0.3)
  # The founder is added as it is.
  founder = trained.weights.adapter
  testing.close(
    made.outputs(state.weights), made.outputs(trained.weights), 1e-3
  )
  begun, trained, after = _day(made, state, batch, 4, 0.3)
  assert after.strategy['days_N'].tolist() == [2, 0, 0]
  for path, low in begun.weights.adapter.items():
    np.testing.assert_array_equal(low['a'], founder[path]['a'])
    assert not np.asarray(low['b']).any()
    new = trained.weights.adapter[path]
    inside, rest = protoada.split(new['a'] @ new['b'], founder[path]['a'])
    assert min(np.abs(inside).max(), np.abs(rest).max()) > 1e-3
    change = after.weights.params[path] - state.weights.params[path]
    np.testing.assert_allclose(change, inside / 2 + rest, atol=1e-5)
  # Its prototype is of the initial model, so equal rows have equal ones.
  np.testing.assert_allclose(
    after.strategy['prototypes_NF'][0], state.strategy['prototypes_NF'][0],
    rtol=1e-5,
  )  # fmt: skip


def test_a_day_with_other_rows_founds_a_group_with_a_factor_of_its_own():
  made = methods.Made(protoada.make(2), rank=2, tasks=3, threshold=0.999)
  _, _, state = _day(made, made.state, testing.batch(), 0, 0.0)
  begun, trained, after = _day(made, state, testing.batch(1), 4, 0.0)
  assert after.strategy['days_N'].tolist() == [1, 1, 0]
  factors = after.strategy['factors']
  for path, low in begun.weights.adapter.items():
    first, second, none = factors[path]['a']
    np.testing.assert_array_equal(second, low['a'])
    assert np.abs(first - second).max() > 0.1 and not none.any()
  testing.close(
    made.outputs(after.weights), made.outputs(trained.weights), 1e-3
  )

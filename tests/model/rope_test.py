"""Frequencies of rotary positions and their scalings."""

import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import rope, rope_scaling
from tests import testing

THETA, SIZE = 100.0, 8
PLAIN = rope.frequencies(SIZE, theta=THETA)
DYNAMIC = rope_scaling.Dynamic(factor=2.0, positions=6)
LONG = rope_scaling.LongRope(
  (1.0, 1.0, 1.0, 1.0), (2.0, 3.0, 4.0, 5.0), positions=6, magnitude=1.5
)


def _at_length(scaling, length):
  return rope.frequencies(
    SIZE, theta=THETA, scaling=scaling, length_BT=jnp.array([[length]])
  )[0, 0]


def test_yarn_divides_slow_pairs_and_keeps_fast_ones():
  yarn = rope_scaling.Yarn(factor=4.0, positions=60, fast=5.0, slow=1.0)
  turns = 60 * PLAIN / (2 * np.pi)
  found = rope.frequencies(SIZE, theta=THETA, scaling=yarn)
  assert turns[0] > 5 and turns[-1] < 1
  np.testing.assert_allclose(found[0], PLAIN[0], rtol=1e-6)
  np.testing.assert_allclose(found[-1], PLAIN[-1] / 4, rtol=1e-6)
  assert (found <= PLAIN * 1.0001).all() and (found >= PLAIN / 4.0001).all()


def test_bounds_of_yarn_that_are_not_rounded_move_the_pairs_between_them():
  """With 8 dims and theta 100, pair i turns 60 / 2 pi * 100^(-i / 4) times."""
  rounded = rope_scaling.Yarn(factor=4.0, positions=60, fast=5.0, slow=1.0)
  exact = rope_scaling.Yarn(4.0, 60, 5.0, 1.0, truncate=False)
  bounds = [4 * np.log(60 / (2 * np.pi * n)) / np.log(THETA) for n in (5, 1)]
  share = np.clip((np.arange(4) - bounds[0]) / (bounds[1] - bounds[0]), 0, 1)
  expected = PLAIN * (1 - share) + PLAIN / 4 * share
  found = rope.frequencies(SIZE, theta=THETA, scaling=exact)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  assert not np.allclose(
    found, rope.frequencies(SIZE, theta=THETA, scaling=rounded)
  )


@pytest.mark.parametrize('length', [1, 6])
def test_up_to_the_original_length_dynamic_changes_nothing(length):
  np.testing.assert_allclose(_at_length(DYNAMIC, length), PLAIN, rtol=1e-5)


def test_beyond_it_theta_grows_with_the_length():
  theta = THETA * (2 * 12 / 6 - 1) ** (8 / 6)
  expected = rope.frequencies(SIZE, theta=theta)
  np.testing.assert_allclose(_at_length(DYNAMIC, 12), expected, rtol=1e-5)


def test_longrope_has_one_list_of_divisors_up_to_the_length_and_one_beyond():
  np.testing.assert_allclose(_at_length(LONG, 6), PLAIN, rtol=1e-6)
  np.testing.assert_allclose(
    _at_length(LONG, 7), PLAIN / np.array([2, 3, 4, 5]), rtol=1e-6
  )
  assert rope_scaling.magnitude(LONG) == 1.5
  assert rope_scaling.magnitude(DYNAMIC) == 1.0


def test_the_magnitude_multiplies_queries_and_keys():
  x = jnp.ones((1, 3, 2, SIZE))
  at = jnp.arange(3)[None]
  np.testing.assert_allclose(
    rope.rotate(x, at, PLAIN, 1.5), 1.5 * rope.rotate(x, at, PLAIN), rtol=1e-6
  )


@pytest.mark.parametrize('scaling', [DYNAMIC, LONG], ids=['dynamic', 'long'])
def test_a_packed_sequence_has_the_frequencies_of_its_own_length(scaling):
  """A row of a long and a short sequence computes what each does alone."""
  model = testing.tiny(head_size=SIZE, rope_theta=THETA, rope_scaling=scaling)
  weights = testing.weights(model)
  tokens = jnp.arange(12)[None] + 3
  segments = jnp.array([[1] * 8 + [2] * 4])
  positions = jnp.array([[*range(8), *range(4)]])
  forward = testing.forward(model)
  packed = forward(weights, tokens, segments, positions)[0]
  for part in (slice(0, 8), slice(8, 12)):
    alone = forward(
      weights, tokens[:, part], segments[:, part], positions[:, part]
    )[0]
    np.testing.assert_allclose(packed[part], alone, atol=1e-5)
  # Padding belongs to no sequence.
  padded = segments.at[:, 8:].set(-1)
  again = forward(weights, tokens, padded, jnp.arange(12)[None])[0, :8]
  np.testing.assert_allclose(again, packed[:8], atol=1e-5)


def test_without_rotary_positions_a_block_ignores_positions():
  tokens = jnp.arange(6)[None] + 3
  segments = jnp.ones((1, 6), jnp.int32)
  positions = jnp.array([[0, 3, 7, 8, 20, 21]])
  for rotated, ignores in (((False, False), True), ((True, False), False)):
    model = testing.tiny(rotated=rotated)
    weights = testing.weights(model)
    forward = testing.forward(model)
    one, two = (
      forward(weights, tokens, segments, at)
      for at in (positions, jnp.arange(6)[None])
    )
    assert np.allclose(one, two, atol=1e-6) == ignores


@pytest.mark.parametrize(
  'changes',
  [
    dict(rotated=(True, False)),
    dict(rope_scaling=rope_scaling.Yarn(4.0, 4, magnitude=1.2)),
    dict(rope_scaling=rope_scaling.Dynamic(2.0, 20)),
    dict(
      window=3, local=(True, False), local_theta=7.0,
      local_scaling=rope_scaling.Dynamic(2.0, 20), rotated=(True, True),
    ),
    dict(pre_norms=False, post_norms=True, qk_norm_whole=True),
  ],
)  # fmt: skip
def test_decoding_computes_what_whole_rows_do(changes):
  model = testing.tiny(**changes)
  weights = testing.weights(model)
  tokens = testing.batch().tokens_BT[:2, :4]
  segments = jnp.ones((2, 4), jnp.int32)
  positions = jnp.broadcast_to(jnp.arange(4)[None], (2, 4))
  whole = testing.forward(model)(weights, tokens, segments, positions)
  length_B = jnp.full((2,), 3)
  first_BV, cache = model.prefill(
    weights, tokens[:, :3], length_B, cache_size=4
  )
  next_BV, _ = model.decode(
    weights, tokens[:, 3], length_B, jnp.ones((2, 4), bool), cache, jnp.int32(3)
  )
  np.testing.assert_allclose(first_BV, whole[:, 2], atol=1e-5)
  np.testing.assert_allclose(next_BV, whole[:, 3], atol=1e-5)

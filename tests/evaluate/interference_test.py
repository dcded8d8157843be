"""Interference between two updates, on matrices written out by hand."""

import numpy as np
import pytest

from sleep_jax.evaluate import interference, update_conflict


def _update(scale, channels, layers=1, hidden=10, width=2):
  """Returns an update that moves some channels of one MLP, by `scale`."""
  gate = np.zeros((layers, width, hidden))
  down = np.zeros((layers, hidden, width))
  for channel in channels:
    gate[:, :, channel] = scale
    down[:, channel, :] = scale
  return {
    'mlp/gate': gate, 'mlp/up': np.zeros_like(gate), 'mlp/down': down,
    'norm/scale': np.zeros((layers, width)),
  }  # fmt: skip


def test_the_norm_of_a_channel_is_over_its_three_vectors():
  gate, up = np.zeros((1, 2, 3)), np.zeros((1, 2, 3))
  down = np.zeros((1, 3, 2))
  gate[0, :, 1], up[0, 0, 1], down[0, 1, 1] = (2.0, 2.0), 2.0, 2.0
  change = interference.channel_changes(gate, up, down)
  np.testing.assert_allclose(change, [[0, 4, 0]])


def test_a_coordinate_below_the_threshold_did_not_move():
  update = {'a': np.array([0.0, 5e-8, -5e-8, 2e-7]), 'b': np.array([1.0])}
  assert interference.unmoved_share(update) == pytest.approx(3 / 5)


def test_the_top_tenth_is_rounded_up_and_leaves_out_what_did_not_change():
  change = np.arange(20.0).reshape(2, 10)
  mask = interference.top_channels(change)
  assert np.argwhere(mask).tolist() == [[1, 8], [1, 9]]
  assert interference.top_channels(change[:, :9], 0.1).sum() == 2
  assert interference.top_channels(np.zeros((2, 10))).sum() == 0


def test_jaccard_is_the_share_of_common_channels():
  a = np.array([[True, True, False, False]])
  b = np.array([[False, True, True, False]])
  assert interference.jaccard(a, b) == pytest.approx(1 / 3)
  assert interference.jaccard(a, a) == 1
  assert interference.jaccard(a & False, b & False) is None


def test_signs_conflict_only_where_both_move():
  a = np.array([1.0, 1.0, 1.0, 0.0, -1.0])
  b = np.array([1.0, -1.0, 0.0, -1.0, 1.0])
  assert interference.sign_conflict(a, b) == pytest.approx(2 / 3)
  assert interference.sign_conflict(a, np.zeros(5)) is None


def test_opposite_updates_of_one_channel_conflict_everywhere():
  found = update_conflict.compare(_update(1.0, [3]), _update(-2.0, [3]))
  assert found['jaccard'] == 1
  assert found['cosine'] == pytest.approx(-1)
  assert found['cosine_shared'] == pytest.approx(-1)
  assert found['sign_conflict_shared'] == 1
  # Four of 62 coordinates move.
  assert found['unmoved'] == found['unmoved_other'] == pytest.approx(58 / 62)


def test_updates_of_different_channels_share_nothing():
  found = update_conflict.compare(_update(1.0, [3]), _update(1.0, [4]))
  assert (found['jaccard'], found['cosine']) == (0, 0)
  assert found['cosine_shared'] is None
  assert found['sign_conflict_shared'] is None


def test_channels_of_all_mlps_compete_for_one_tenth():
  small = {f'fast/{k}': v for k, v in _update(0.1, [0]).items()}
  large = {f'slow/{k}': v for k, v in _update(1.0, [1, 2]).items()}
  update = small | large
  assert update_conflict.mlp_paths(update) == ['fast/mlp', 'slow/mlp']
  # Two of 20 channels count: those of `slow`.
  found = update_conflict.compare(update, small | {
    key: -value for key, value in large.items()
  })  # fmt: skip
  assert found['jaccard'] == 1 and found['cosine_shared'] == pytest.approx(-1)
  assert found['cosine'] > -1


def test_the_difference_of_parameters_is_the_update():
  before = {'a': np.array([1.0], np.float32)}
  update = interference.difference(before, {'a': np.array([3.0], np.float32)})
  assert update['a'] == [2.0] and update['a'].dtype == np.float64

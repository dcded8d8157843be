"""The paired bootstrap agrees with what is known of it."""

import numpy as np
import pytest

from sleep_jax.evaluate import reading


def test_the_interval_is_that_of_a_normal_mean():
  rng = np.random.default_rng(0)
  before, after = rng.random(400) < 0.5, rng.random(400) < 0.6
  change = after.astype(int) - before.astype(int)
  half = 1.96 * np.std(change) / 20
  assert reading.paired_interval(before, after) == pytest.approx(
    (np.mean(change) - half, np.mean(change) + half), abs=0.01
  )


def test_what_does_not_change_has_an_interval_without_width():
  right = np.array([True, False, True])
  assert reading.paired_interval(right, right) == (0, 0)


def test_questions_of_one_group_count_as_one():
  rng = np.random.default_rng(0)
  before, after = rng.random(200) < 0.5, rng.random(200) < 0.6
  alone = reading.paired_interval(before, after)
  three_times = [np.repeat(x, 3) for x in (before, after)]
  groups = np.repeat(np.arange(200), 3).tolist()
  found = reading.paired_interval(*three_times, group_N=groups)
  assert found == pytest.approx(alone, abs=0.01)
  low, high = reading.paired_interval(*three_times)
  assert high - low < 0.65 * (alone[1] - alone[0])


def test_groups_of_different_sizes_count_by_their_questions():
  before, after = np.zeros(4, bool), np.array([1, 1, 1, 0], bool)
  low, high = reading.paired_interval(before, after, group_N=list('aaab'))
  assert (low, high) == (0, 1)

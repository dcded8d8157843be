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

"""The paired bootstrap agrees with what is known of it."""

import numpy as np
import pytest

from sleep_jax.evaluate import bootstrap, reading


def test_the_interval_is_that_of_a_normal_mean():
  rng = np.random.default_rng(0)
  change = rng.normal(0.3, 1.0, 400)
  mean, low, high = bootstrap.paired_interval(np.zeros(400), change)
  half = 1.96 * np.std(change) / 20
  assert mean == pytest.approx(np.mean(change))
  assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.01)


def test_how_hard_questions_are_cancels_out():
  hard = np.random.default_rng(1).uniform(0, 100, 50)
  assert bootstrap.paired_interval(hard, hard + 0.5) == pytest.approx(
    (0.5, 0.5, 0.5)
  )


def test_right_and_wrong_answers_give_the_interval_of_reading():
  rng = np.random.default_rng(2)
  before, after = rng.random(200) < 0.5, rng.random(200) < 0.6
  _, low, high = bootstrap.paired_interval(before, after)
  assert (low, high) == pytest.approx(
    reading.paired_interval(before, after), abs=0.011
  )


def test_one_question_has_an_interval_without_width():
  assert bootstrap.paired_interval([0.0], [1.0], draws=10) == (1, 1, 1)


def test_questions_that_do_not_pair_are_refused():
  with pytest.raises(ValueError, match=r'\(2,\) and after_N \(3,\)'):
    bootstrap.paired_interval(np.zeros(2), np.zeros(3))

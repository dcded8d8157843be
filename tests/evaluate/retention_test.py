"""Metrics agree with values worked out by hand and with a published matrix."""

import math

import numpy as np
import pytest

from sleep_jax.evaluate import cycles, retention


def make_evaluation(cycle, moment, experience, pretrain, *scores):
  return {
    'cycle': cycle,
    'moment': moment,
    'experience': experience,
    'step': 40 * cycle,
    'scores': {
      'pretrain': pretrain,
      **{str(i + 1): value for i, value in enumerate(scores)},
    },
  }


def two_cycles():
  return [
    make_evaluation(0, 'initial', 0, 1.0, 0.1, 0.2),
    make_evaluation(1, 'evening', 1, 0.5, 0.9, 0.2),
    make_evaluation(1, 'morning', 1, 0.9, 0.8, 0.3),
    make_evaluation(2, 'evening', 2, 0.3, 0.2, 1.0),
    make_evaluation(2, 'morning', 2, 0.8, 0.7, 0.9),
  ]


class TestMatrix:
  def test_the_published_matrix_of_seal_gives_its_published_means(self):
    base = [33.1, 32.1, 27.6, 32.6, 33.0, 33.7, 28.7, 25.3]
    diagonal = [38.3, 49.9, 44.6, 44.0, 37.6, 44.9, 38.5, 34.0]
    last = [18.9, 21.9, 16.4, 23.7, 22.1, 27.5, 33.5, 34.0]
    matrix = np.full((9, 8), np.nan)
    matrix[0] = base
    matrix[np.arange(1, 9), np.arange(8)] = diagonal
    matrix[8] = last
    assert np.mean(matrix[0]) == pytest.approx(30.8, abs=0.05)
    assert retention.la(matrix) == pytest.approx(41.5, abs=0.05)
    assert retention.acc(matrix) == pytest.approx(24.8, abs=0.051)
    assert retention.bwt(matrix) == pytest.approx(-19.1, abs=0.05)
    assert retention.start(matrix) == pytest.approx(30.8, abs=0.05)
    assert retention.retained(matrix) == pytest.approx(-0.56, abs=0.01)

  def test_retained_is_undefined_if_nothing_was_learned(self):
    assert retention.retained(np.array([[0.5, 0.5]] * 3)) is None

  def test_a_small_matrix_gives_the_values_worked_out_by_hand(self):
    matrix = np.array(
      [
        [0.0, 0.1, 0.2],
        [0.8, 0.3, 0.2],
        [0.9, 1.0, 0.6],
        [0.5, 0.7, 0.9],
      ]
    )
    assert retention.acc(matrix) == pytest.approx((0.5 + 0.7 + 0.9) / 3)
    assert retention.la(matrix) == pytest.approx((0.8 + 1.0 + 0.9) / 3)
    assert retention.bwt(matrix) == pytest.approx((-0.3 - 0.3) / 2)
    assert retention.fwt(matrix) == pytest.approx((0.2 + 0.4) / 2)
    assert retention.forgetting(matrix) == pytest.approx((0.4 + 0.3) / 2)

  def test_a_row_is_the_last_evaluation_after_an_experience(self):
    matrix = retention.r_matrix(two_cycles())
    expected = [[0.1, 0.2], [0.8, 0.3], [0.7, 0.9]]
    np.testing.assert_allclose(matrix, expected)

  def test_an_evaluation_within_an_experience_is_no_row(self):
    inside = make_evaluation(1, 'morning', None, 0.9, 0.4, 0.0)
    evaluations = two_cycles()
    with_it = [evaluations[0], inside, *evaluations[1:]]
    np.testing.assert_array_equal(
      retention.r_matrix(with_it), retention.r_matrix(evaluations)
    )

  def test_experiences_are_ordered_by_number_not_alphabetically(self):
    record = make_evaluation(0, 'initial', 0, 1.0, *range(12))
    assert list(retention.r_matrix([record])[0]) == list(range(12))

  def test_questions_after_their_documents_have_summaries_of_their_own(self):
    evaluations = two_cycles()
    assert retention.summarize(evaluations)['start_open'] is None
    # Later experiences are not scored, except of the initial model.
    for evaluation, scores in zip(
      evaluations, ((0.6, 0.8), (1.0,), (0.9,), (0.2, 0.4), (0.3, 0.5)),
      strict=True,
    ):  # fmt: skip
      evaluation['open_scores'] = {str(i): x for i, x in enumerate(scores, 1)}
    summary = retention.summarize(evaluations)
    assert summary['start_open'] == pytest.approx(0.7)
    assert summary['acc_open'] == pytest.approx(0.4)


class TestCycles:
  def test_harm_cost_and_damage_are_paired_on_the_same_probes(self):
    first, second = cycles.cycle_changes(two_cycles())
    assert first['harm'] == pytest.approx(-0.1)
    assert first['cost_to_new'] == pytest.approx(-0.1)
    assert first['damage_awake'] == pytest.approx(-0.5)
    assert second['harm'] == pytest.approx((-0.1 - 0.1) / 2)
    assert second['cost_to_new'] == pytest.approx(-0.1)
    assert second['damage_awake'] == pytest.approx((-0.6 - 0.6) / 2)

  def test_without_sleep_the_harm_equals_the_damage_awake(self):
    evenings = [e for e in two_cycles() if e['moment'] != 'morning']
    changes = cycles.cycle_changes(evenings)
    assert [c['cost_to_new'] for c in changes] == [0, 0]
    for change in changes:
      assert change['harm'] == pytest.approx(change['damage_awake'])

  def test_an_evening_without_a_morning_has_no_harm_yet(self):
    last = cycles.cycle_changes(two_cycles()[:-1])[-1]
    assert last['harm'] is None
    assert last['cost_to_new'] is None
    assert last['damage_awake'] == pytest.approx(-0.6)

  def test_a_day_without_a_night_ends_where_the_next_begins(self):
    without = [
      e for e in two_cycles() if e['cycle'] != 1 or e['moment'] != 'morning'
    ]
    without.append(make_evaluation(3, 'evening', 3, 0.6, 0.5, 0.7))
    first, second, third = cycles.cycle_changes(without)
    assert first['harm'] == first['damage_awake'] == pytest.approx(-0.5)
    assert first['cost_to_new'] == 0
    assert second['damage_awake'] == pytest.approx((-0.2 - 0.7) / 2)
    assert second['harm'] == pytest.approx((0.3 - 0.2) / 2)
    assert third['harm'] is None  # Its night may still come.

  def test_a_night_within_an_experience_counts_it_as_new(self):
    changes = cycles.cycle_changes(
      [
        make_evaluation(0, 'initial', 0, 1.0, 0.0),
        make_evaluation(1, 'evening', None, 0.8, 0.5),
        make_evaluation(1, 'morning', None, 0.9, 0.4),
        make_evaluation(2, 'evening', 1, 0.7, 0.9),
        make_evaluation(2, 'morning', 1, 0.9, 0.8),
      ]
    )
    assert [c['harm'] for c in changes] == pytest.approx([-0.1, 0.0])
    assert [c['cost_to_new'] for c in changes] == pytest.approx([-0.1, -0.1])


class TestSummary:
  def test_it_has_every_number_of_a_run(self):
    summary = retention.summarize(two_cycles(), {'seconds': 12.5, 'steps': 80})
    assert summary['prior_initial'] == 1.0
    assert summary['prior'] == pytest.approx(0.8)
    assert summary['harm_of_sleep'] == pytest.approx(-0.1)
    assert summary['seconds'] == 12.5
    assert summary['stored_bytes'] is None
    numbers = [v for v in summary.values() if v is not None]
    assert all(math.isfinite(v) for v in numbers)

  def test_joint_has_final_scores_only(self):
    initial_model = make_evaluation(0, 'initial', 0, 1.0, 0.0, 0.0)
    end = make_evaluation(1, 'evening', 2, 0.95, 0.8, 0.9)
    summary = retention.summarize([initial_model, end])
    assert summary['prior'] == 0.95
    assert summary['acc'] == pytest.approx(0.85)
    unknown = ['la', 'bwt', 'fwt', 'forgetting', 'harm_of_sleep']
    assert [summary[name] for name in unknown] == [None] * 5

  def test_one_experience_has_no_transfer(self):
    initial_model = make_evaluation(0, 'initial', 0, 1.0, 0.0)
    end = make_evaluation(1, 'morning', 1, 0.9, 0.8)
    summary = retention.summarize([initial_model, end])
    assert summary['la'] == summary['acc'] == 0.8
    assert [summary[n] for n in ('bwt', 'fwt', 'forgetting')] == [None] * 3

  def test_an_unfinished_run_counts_its_finished_experiences(self):
    summary = retention.summarize(two_cycles()[:3])
    assert summary['acc'] == pytest.approx(0.8)

  def test_missing_evaluations_or_probes_give_none(self):
    initial_model = make_evaluation(0, 'initial', 0, 1.0, 0.0)
    assert retention.summarize([initial_model])['prior'] == 1.0
    assert retention.summarize([initial_model])['acc'] is None
    assert retention.summarize([])['prior'] is None
    unprobed = [{**e, 'scores': {}} for e in two_cycles()]
    assert set(retention.summarize(unprobed).values()) == {None}


class TestSpread:
  def test_the_interval_of_three_seeds_is_a_t_interval(self):
    mean, half = cycles.mean_and_interval([0.8, 0.9, 1.0])
    assert mean == pytest.approx(0.9)
    assert half == pytest.approx(4.303 * 0.1 / 3**0.5, abs=1e-3)

  def test_one_seed_has_no_interval_and_none_has_no_mean(self):
    assert cycles.mean_and_interval([0.5, None]) == (0.5, None)
    assert cycles.mean_and_interval([None]) == (None, None)


def test_the_slope_of_a_line_is_exact():
  assert cycles.slope(range(11), 1 - 0.01 * np.arange(11)) == pytest.approx(
    -0.01
  )
  assert cycles.slope([0], [1.0]) is None


def test_accuracy_by_age_is_the_mean_of_a_diagonal():
  def evaluation(number, *scores):
    return {
      'experience': number, 'cycle': number, 'moment': 'morning',
      'scores': {str(n): score for n, score in enumerate(scores, 1)},
    }  # fmt: skip

  found = retention.by_age(
    [
      evaluation(0, 0, 0, 0),
      evaluation(1, 1.0, 0, 0),
      evaluation(2, 0.8, 0.9, 0),
      evaluation(3, 0.5, 0.6, 0.8),
    ]
  )
  expected = {0: (1.0 + 0.9 + 0.8) / 3, 1: (0.8 + 0.6) / 2, 2: 0.5}
  assert found == pytest.approx(expected)

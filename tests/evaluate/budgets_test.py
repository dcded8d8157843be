"""What a run knew at a budget, on a run written out by hand."""

import pytest

from sleep_jax.evaluate import budgets


def _evaluation(experience, tokens, prior, *scores):
  return {
    'experience': experience,
    'scores': {
      'pretrain': prior, **{str(n): s for n, s in enumerate(scores, 1)}
    },
    'cost': {
      'tokens_read': tokens - 10, 'tokens_generated': 7, 'tokens_forward': 3,
      'seconds': tokens / 5,
    },
  }  # fmt: skip


RUN = [
  _evaluation(0, 10, 1.0, 0.0, 0.0),
  _evaluation(1, 100, 0.9, 0.8, 0.0),
  _evaluation(2, 200, 0.7, 0.6, 1.0),
]


def test_a_run_is_read_at_its_last_evaluation_within_the_budget():
  found = budgets.at(RUN, 'tokens', 199)
  assert found == {
    'acc': pytest.approx(0.4), 'prior': 0.9, 'experiences': 1, 'spent': 100
  }  # fmt: skip
  assert budgets.at(RUN, 'tokens', 200)['acc'] == pytest.approx(0.8)
  assert budgets.at(RUN, 'seconds', 20)['experiences'] == 1


def test_a_run_that_finished_early_keeps_its_final_score():
  assert budgets.at(RUN, 'tokens', 1e9)['spent'] == 200


def test_nothing_is_said_where_costs_are_not_known():
  bare = [{k: v for k, v in e.items() if k != 'cost'} for e in RUN]
  assert budgets.at(bare, 'tokens', 100) is None
  assert budgets.curve(bare, 'tokens') == []


def test_the_curve_has_all_kinds_of_tokens_and_all_experiences():
  assert budgets.curve(RUN, 'tokens') == [
    (10.0, 0.0), (100.0, pytest.approx(0.4)), (200.0, pytest.approx(0.8))
  ]  # fmt: skip


def test_experiences_to_come_that_are_not_asked_count_as_they_were():
  # As an evaluator does: the initial model is asked about all three, and later
  # ones about the experiences so far and the next one.
  run = [
    _evaluation(0, 10, 1.0, 0.0, 0.0, 0.0),
    _evaluation(1, 100, 1.0, 0.9, 0.0),
    _evaluation(2, 200, 1.0, 0.6, 0.9, 0.3),
  ]
  accuracies = [accuracy for _, accuracy in budgets.curve(run, 'tokens')]
  assert accuracies == [0, pytest.approx(0.3), pytest.approx(0.6)]
  assert budgets.at(run, 'tokens', 150)['acc'] == pytest.approx(0.3)

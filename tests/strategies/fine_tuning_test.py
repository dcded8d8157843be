"""Strategies that are `sft` if what they add to it is switched off."""

import jax
import pytest

from tests import testing, tiny_study

OFF = {'refresh': {'steps': 0}, 'rollback': {'share': 0.0}}


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A tiny study of strategies without their additions."""
  config = tiny_study.config()
  for name, settings in OFF.items():
    config[name].update(settings)
  made = tiny_study.TinyStudy(config)
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


@pytest.fixture(scope='module')
def fine_tuned(study, tmp_path_factory):
  """The state and the record of `sft` at its end."""
  return study.run('sft', tmp_path_factory.mktemp('sft'))


def _learned(state, part):
  return jax.device_get(getattr(state, part))


@pytest.mark.parametrize('name', sorted(OFF))
def test_without_its_addition_a_strategy_is_sft(
  study, fine_tuned, name, tmp_path
):
  expected, record = fine_tuned
  state, found = study.run(name, tmp_path)
  for part in ('weights', 'opt'):
    assert testing.same(_learned(state, part), _learned(expected, part)), part
  # All but the cost: reviews read rows, and arrays are stored.
  scores = lambda record: [
    {key: value for key, value in evaluation.items() if key != 'cost'}
    for evaluation in tiny_study.without_times(record['evaluations'])
  ]
  assert scores(found) == scores(record)
  assert len(scores(found)) == 3


@pytest.mark.parametrize('name', sorted(OFF))
def test_with_its_addition_a_strategy_is_not_sft(
  study, fine_tuned, name, tmp_path
):
  whole = tiny_study.TinyStudy(tiny_study.config())
  whole.initial_model, whole.evaluator = study.initial_model, study.evaluator
  state, record = whole.run(name, tmp_path)
  expected, _ = fine_tuned
  assert not testing.same(
    _learned(state, 'weights'), _learned(expected, 'weights')
  )
  # Two steps after each of two days of four; a rollback takes no step.
  steps = {'refresh': 2 * (4 + 2), 'rollback': 2 * 4}
  assert record['evaluations'][-1]['cost']['steps'] == steps[name]

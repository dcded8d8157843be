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
  """The state of `sft` at its end."""
  return study.run('sft', tmp_path_factory.mktemp('sft'))


@pytest.mark.parametrize('name', sorted(OFF))
def test_without_its_addition_a_strategy_is_sft(
  study, fine_tuned, name, tmp_path
):
  expected, record = fine_tuned
  state, found = study.run(name, tmp_path)
  for part in ('weights', 'opt'):
    assert testing.same(
      jax.device_get(getattr(state, part)),
      jax.device_get(getattr(expected, part)),
    )
  scores = lambda record: tiny_study.without_times(record['evaluations'])
  assert scores(found) == scores(record)

"""The examiner asks what there is to ask, and nothing breaks on what is not."""

import dataclasses

import jax
import pytest

from sleep_jax.evaluate import evaluator
from tests import testing, town


@pytest.fixture(scope='module')
def here():
  return town.Town(town.config())


@pytest.fixture(scope='module')
def weights(here):
  return jax.jit(here.model.init)(jax.random.key(0))


def _evaluator(here, weights, **changes):
  stream = dataclasses.replace(here.stream, **changes)
  return evaluator.Evaluator(
    here.model, stream, weights, chunk=8, held_out_batches=1
  )


def test_a_newborn_has_not_moved_from_itself(here, weights):
  judge = _evaluator(here, weights)
  found = judge.evaluate(weights, 0)
  assert found['kl_initial'] == 0
  assert (
    set(found['scores'])
    == set(found['template_scores'])
    == {'pretrain', '1', '2'}
  )
  other = jax.tree.map(lambda x: x * 1.1, weights)
  moved = judge.evaluate(other, 0)
  assert moved['kl_initial'] > 0
  assert moved['held_out_loss'] != found['held_out_loss']
  assert set(judge.second_scores(weights)) == {'pretrain', '1', '2'}
  assert 0 <= judge.guard_accuracy(weights, 0) <= 1


def test_what_a_world_lacks_is_none_and_not_nought(here, weights):
  judge = _evaluator(
    here, weights, probes={}, template_probes={}, guard=None, held_out=None
  )
  assert judge.evaluate(weights, 0) == {
    'scores': {}, 'template_scores': {}, 'open_scores': {},
    'log_scores': {},
    'held_out_loss': None, 'kl_initial': None,
  }  # fmt: skip
  assert judge.second_scores(weights) == {}
  assert judge.guard_accuracy(weights, 0) is None


def test_answers_without_rivals_are_not_ranked(here, weights):
  probes = {
    key: probe.replace(set_B=probe.set_B * 0 - 1)
    for key, probe in here.stream.probes.items()
  }
  judge = _evaluator(here, weights, probes=probes)
  assert judge.second_scores(weights) == {}
  assert set(judge.evaluate(weights, 0)['scores']) == {'pretrain', '1', '2'}


def test_a_student_with_a_fresh_expert_can_be_asked(here, weights):
  """As the guard does, before anything is committed."""
  judge = _evaluator(here, weights)
  asked = judge.guard_accuracy(weights.replace(fresh=testing.expert(here.model, 2)), 0)
  assert 0 <= asked <= 1

"""An evaluator scores what a stream has and returns None for the rest."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from sleep_jax.evaluate import evaluator
from tests import testing, tiny_study


@pytest.fixture(scope='module')
def setup():
  return tiny_study.TinyStudy(tiny_study.config())


@pytest.fixture(scope='module')
def weights(setup):
  return jax.jit(setup.model.init)(jax.random.key(0))


def _evaluator(setup, weights, **changes):
  stream = dataclasses.replace(setup.stream, **changes)
  return evaluator.Evaluator(
    setup.model, stream, weights, chunk=8, held_out_batches=1
  )


def test_the_initial_model_has_no_divergence_from_itself(setup, weights):
  scorer = _evaluator(setup, weights)
  found = scorer.evaluate(weights, 0)
  assert found['kl_initial'] == 0
  assert (
    set(found['scores'])
    == set(found['template_scores'])
    == {'pretrain', '1', '2'}
  )
  other = jax.tree.map(lambda x: x * 1.1, weights)
  moved = scorer.evaluate(other, 0)
  assert moved['kl_initial'] > 0
  assert moved['held_out_loss'] != found['held_out_loss']
  assert set(scorer.second_scores(weights)) == {'pretrain', '1', '2'}
  assert 0 <= scorer.guard_accuracy(weights) <= 1


def test_what_a_stream_lacks_is_none_and_not_zero(setup, weights):
  scorer = _evaluator(
    setup, weights, probes={}, template_probes={}, guard=None, held_out=None
  )
  assert scorer.evaluate(weights, 0) == {
    'scores': {}, 'template_scores': {}, 'open_scores': {},
    'log_scores': {}, 'text_scores': {},
    'held_out_loss': None, 'kl_initial': None,
  }  # fmt: skip
  assert scorer.second_scores(weights) == {}
  assert scorer.guard_accuracy(weights) is None


def test_answers_without_other_candidates_are_not_ranked(setup, weights):
  probes = {
    key: probe.replace(set_B=probe.set_B * 0 - 1)
    for key, probe in setup.stream.probes.items()
  }
  scorer = _evaluator(setup, weights, probes=probes)
  assert scorer.second_scores(weights) == {}
  assert set(scorer.evaluate(weights, 0)['scores']) == {'pretrain', '1', '2'}


def test_the_guard_scores_a_model_alike_on_all_days(setup, weights):
  """Labels that later days bring compete from the first night on."""
  dataset = dataclasses.replace(setup.stream.dataset, score='rank')
  guard = setup.stream.guard

  def accuracy(since_SC):
    changed = guard.replace(candidate_since_SC=since_SC)
    scorer = _evaluator(setup, weights, dataset=dataset, guard=changed)
    return scorer.guard_accuracy(weights)

  first = jnp.zeros_like(guard.candidate_since_SC)
  # Only the right answer of the first question is known from the beginning.
  last = (first + 2).at[guard.set_B[0], guard.gold_B[0]].set(0)
  assert accuracy(last) == accuracy(first) < 1


def test_ranks_do_not_depend_on_the_attention_kernel(setup, weights):
  def ranked(attention):
    config = dataclasses.replace(setup.model.config, attention=attention)
    model = dataclasses.replace(setup.model, config=config)
    return evaluator.Evaluator(
      model, setup.stream, weights, chunk=64, held_out_batches=0
    ).second_scores(weights)

  # Splash attention compares segments only, and has no common beginning.
  assert ranked('splash') == ranked('xla')


def test_a_student_with_a_fresh_expert_can_be_evaluated(setup, weights):
  """The guard does this before it accepts the night."""
  scorer = _evaluator(setup, weights)
  accuracy = scorer.guard_accuracy(
    weights.replace(fresh=testing.expert(setup.model, 2))
  )
  assert 0 <= accuracy <= 1

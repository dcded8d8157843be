"""Cartridges: what is trained, what they are distilled from, what is kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sleep_jax.model import prefix
from sleep_jax.schedule import events
from sleep_jax.strategies import cartridge, method
from tests import testing
from tests.strategies import methods

PLACES, TASKS = 3, 2


@functools.cache
def _made():
  return methods.Made(
    cartridge.make(2), tokens=PLACES, tasks=TASKS, sequences=testing.ROWS
  )


@functools.cache
def _step():
  """Compiles (state, batch) -> loss, its gradients, and the answers."""
  made = _made()

  def step(state, batch):
    _, (term,), counts = made.method.penalty(state, batch)
    loss, grads = jax.value_and_grad(
      lambda weights: term.loss_fn(weights, term.rows)
    )(state.weights)
    return loss, grads.trainable, term.rows[0], counts

  return jax.jit(step)


def _own(state):
  return state.weights.adapter[prefix.PATH]


@functools.cache
def _begun():
  """The state at the start of the first day."""
  made = _made()
  state, _ = jax.jit(made.method.read)(made.state, testing.batch())
  return made.finish(state, events.START)


def test_only_the_prefix_of_the_day_is_trained():
  paths = set(_begun().opt['cartridge'][1][0].mu)
  assert paths == {f'adapter/{prefix.PATH}/{n}' for n in ('key', 'value')}
  _, grads, _, _ = _step()(_begun(), testing.batch())
  assert all(float(jnp.abs(grads[path]).max()) > 0 for path in paths)


def test_it_starts_as_the_keys_and_values_of_the_first_tokens_of_the_day():
  made, batch = _made(), testing.batch()
  tokens = batch.tokens_BT[:1, :PLACES]
  keys, values = made.model.keys_and_values(
    made.weights.replace(adapter=None), tokens, jnp.ones_like(tokens),
    jnp.arange(-PLACES, 0)[None],
  )  # fmt: skip
  flat = lambda x: x.reshape(testing.LAYERS, PLACES, -1)
  np.testing.assert_allclose(_own(_begun())['key'], flat(keys), atol=1e-5)
  np.testing.assert_allclose(_own(_begun())['value'], flat(values), atol=1e-5)
  # Of fewer tokens some stand twice; padding never does.
  short = batch.replace(segments_BT=batch.segments_BT.at[:, 1:].set(-1))
  short = jax.tree.map(lambda x: x[:2], short)
  found = cartridge.first_tokens(short, 3)
  assert found.tolist() == [testing.BOS] * 3


def test_the_teacher_writes_with_the_text_and_the_student_reads_without():
  loss, _, answers, counts = _step()(_begun(), testing.batch())
  assert float(loss) > 0
  length_B = answers.length_B
  told_B = length_B + answers.context.length_B - 1
  assert int(counts['tokens']) == length_B.sum()
  prompted_B = told_B - length_B + answers.prompt_length_B
  assert int(counts['forward']) == told_B.sum() + prompted_B.sum()
  # The answers are those of the initial model, whatever the prefix holds.
  other = methods.moved(_begun(), 0.3)
  core = other.weights.replace(params=_begun().weights.params)
  found, _, again, _ = _step()(other.replace(weights=core), testing.batch())
  assert testing.same(answers, again)
  assert float(found) != pytest.approx(float(loss), rel=1e-3)


def test_training_the_prefix_brings_the_student_to_the_teacher():
  state, tx = _begun(), optax.adam(3e-2)
  paths = [f'adapter/{prefix.PATH}/{name}' for name in ('key', 'value')]
  params = method.trained(state.weights, paths)
  opt, losses = tx.init(params), []
  for _ in range(30):
    moved = state.replace(weights=state.weights.with_params(params))
    loss, grads, _, _ = _step()(moved, testing.batch())
    losses.append(float(loss))
    updates, opt = tx.update({p: grads[p] for p in paths}, opt)
    params = optax.apply_updates(params, updates)
  assert losses[-1] < 0.7 * losses[0]


def test_a_finished_prefix_computes_the_same_and_stays():
  made, first = _made(), _begun()
  ended = made.finish(first, events.END)
  testing.close(made.outputs(ended.weights), made.outputs(first.weights), 1e-5)
  # Of the next day only the new part changes; the old one still counts.
  second = made.finish(ended, events.START)
  assert _own(second)['on'].sum() == testing.LAYERS * 2 * PLACES
  before = made.outputs(second.weights)
  ended = made.finish(second, events.END)
  testing.close(made.outputs(ended.weights), before, 1e-5)
  past = _own(ended)['past_key']
  np.testing.assert_array_equal(past[:, :PLACES], _own(first)['key'])
  np.testing.assert_array_equal(past[:, PLACES:], _own(second)['key'])
  assert not _own(ended)['on'][:, -PLACES:].any()

"""Refresh: after a day, steps on stored rows of before, and on no others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.replay import row_buffer
from sleep_jax.schedule import events
from sleep_jax.strategies import refresh
from tests import testing
from tests.strategies import methods

CONTEXT, STEPS = testing.CONTEXT, 20


def _stored(*batches, rows=16):
  """Returns a buffer of pairs (wake step, batch)."""
  stored = row_buffer.allocate(rows * CONTEXT, width=CONTEXT, dated=True)
  for step, batch in batches:
    stored = row_buffer.insert(stored, batch, jax.random.key(0), step)
  return stored


@functools.cache
def _made():
  return methods.Made(refresh.make(2), steps=STEPS)


@functools.cache
def _program():
  return jax.jit(functools.partial(_made().method.finish, moment=events.END))


def _finish(stored, *, start=4, step=9, **changes):
  """Returns the state after the end of a day that began after `start` steps."""
  state = _made().state.replace(
    step=jnp.int32(step), row_buffer=stored,
    strategy={'start': jnp.int32(start)}, **changes,
  )  # fmt: skip
  return _program()(state)


def test_only_rows_of_earlier_days_are_drawn_and_all_of_them():
  mark = lambda batch, number: batch.replace(
    tokens_BT=jnp.full_like(batch.tokens_BT, number)
    + jnp.arange(len(batch.tokens_BT))[:, None]
  )
  batch = testing.batch()
  stored = _stored((4, mark(batch, 100)), (5, mark(batch, 200)))
  found = row_buffer.sample_until(stored, jax.random.key(0), 400, 4)
  drawn, times = np.unique(found['tokens_BT'][:, 0], return_counts=True)
  assert drawn.tolist() == list(range(100, 108))
  # The mean is 50 and the standard deviation 7; the bounds are 4 of them away.
  assert 22 < times.min() and times.max() < 78
  later = row_buffer.sample_until(stored, jax.random.key(0), 400, 5)
  assert set(np.unique(later['tokens_BT'][:, 0])) > set(range(200, 208))


def test_empty_entries_are_not_rows_of_an_earlier_day():
  stored = _stored((4, testing.batch(rows=3)), rows=5)
  found = row_buffer.is_until(stored, 4)
  assert found.tolist() == [True] * 3 + [False] * 2


def test_rows_of_the_day_have_no_effect_and_rows_of_before_do():
  old, new = testing.batch(1), testing.batch(2)
  state, _ = _finish(_stored((4, old), (5, new)))
  same, _ = _finish(_stored((4, old), (5, testing.batch(3))))
  other, _ = _finish(_stored((4, testing.batch(3)), (5, new)))
  assert testing.same(state.weights, same.weights)
  assert not testing.same(state.weights, other.weights)


def test_a_refresh_learns_the_stored_rows_and_its_cost_is_counted():
  old = testing.batch(1)
  state, counts = _finish(_stored((4, old)))
  made = _made()

  def loss(weights: types.Weights):
    logits_BTV = testing.forward(made.model)(
      weights, old.tokens_BT, old.segments_BT, old.positions_BT
    )
    score_BT = jnp.take_along_axis(
      jax.nn.log_softmax(logits_BTV[:, :-1]), old.tokens_BT[:, 1:, None], 2
    )[..., 0]
    return float(-jnp.sum(score_BT * old.loss_BT[:, 1:]))

  assert loss(state.weights) < 0.8 * loss(made.weights)
  assert int(counts['steps']) == STEPS
  length_B = np.asarray((old.segments_BT >= 0).sum(1))
  each = STEPS * testing.ROWS
  assert each * length_B.min() < int(counts['tokens']) < each * length_B.max()
  assert int(counts['written']) == 0


@pytest.mark.parametrize('rows', [(), ((5, testing.batch()),)])
def test_without_rows_of_before_nothing_is_learned_or_counted(rows):
  opt = jax.tree.map(jnp.ones_like, _made().state.opt)  # With momentum.
  state, counts = _finish(_stored(*rows), opt=opt)
  assert testing.same(state.weights, _made().weights)
  assert testing.same(state.opt, opt)
  assert [int(counts[name]) for name in ('steps', 'tokens')] == [0, 0]


def test_the_next_day_begins_where_a_day_ends():
  state, _ = _finish(_stored(), step=9)
  assert int(state.strategy['start']) == 9


def test_a_step_stores_its_rows_with_its_number():
  step = lambda state, batch, held: (state.replace(step=state.step + 1), {})
  state = _made().state.replace(step=jnp.int32(6), row_buffer=_stored())
  state, _ = refresh.make(2).wrap(step)(state, testing.batch(), {})
  stored = state.row_buffer
  assert stored.step_C.tolist() == [7] * testing.ROWS + [0] * 8
  kept = np.asarray(stored.rows['tokens_BT'])[: testing.ROWS].tolist()
  assert sorted(kept) == sorted(testing.batch().tokens_BT.tolist())

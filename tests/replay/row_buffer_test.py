"""Tests of the reservoir of whole rows."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax.replay import row_buffer
from tests import testing

insert = jax.jit(row_buffer.insert)


def _batch(*marks):
  """Returns rows whose tokens all equal a mark."""
  batch = testing.batch()
  shape = len(marks), batch.tokens_BT.shape[1]
  first = jax.tree.map(lambda x: jnp.repeat(x[:1], len(marks), 0), batch)
  marks_B1 = jnp.asarray(marks, jnp.int32)[:, None]
  return first.replace(tokens_BT=jnp.broadcast_to(marks_B1, shape))


def _fill(capacity, batches, seed=0, **more):
  rows = row_buffer.allocate(
    capacity * testing.CONTEXT, width=testing.CONTEXT, **more
  )
  for step, marks in enumerate(batches):
    rows = insert(rows, _batch(*marks), jax.random.key(seed), step)
  return rows


def _kept(rows):
  kept = np.asarray(rows.rows['tokens_BT'])[: int(rows.num_rows), 0]
  return sorted(kept.tolist())


def test_every_row_is_stored_with_equal_probability():
  """It stores 4 of 16 rows: each stays one time in four."""
  times = np.zeros(16)
  for seed in range(200):
    kept = _kept(_fill(4, [range(8), range(8, 16)], seed))
    assert len(set(kept)) == 4
    times[kept] += 1
  # The mean is 50 and the standard deviation 6; the bounds are 4 of them away.
  assert times.min() > 26 and times.max() < 75


def test_how_often_a_row_is_offered_changes_nothing():
  once = _fill(4, [range(8), range(8, 16)])
  often = _fill(4, [range(8), range(8), [*range(8, 16), 8, 9], range(8)])
  assert _kept(once) == _kept(often)


def test_a_row_is_stored_once_even_if_a_batch_has_it_twice():
  assert _kept(_fill(8, [(1, 2, 1, 1), (2, 3)])) == [1, 2, 3]


def test_the_lowest_priorities_of_all_rows_are_kept_in_any_order():
  marks = list(range(30))
  parts = [marks[n : n + 5] for n in range(0, 30, 5)]
  assert _kept(_fill(7, parts)) == _kept(_fill(7, parts[::-1]))
  assert _kept(_fill(7, [marks])) == _kept(_fill(7, parts))


def test_another_run_keeps_other_rows():
  assert _kept(_fill(4, [range(30)], 0)) != _kept(_fill(4, [range(30)], 1))


def test_rows_that_are_equal_in_all_but_one_token_are_different_rows():
  batch = _batch(*[1] * testing.CONTEXT)
  tokens_BT = batch.tokens_BT + jnp.eye(testing.CONTEXT, dtype=jnp.int32)
  rows = row_buffer.allocate(
    100 * testing.CONTEXT, width=testing.CONTEXT
  )  # fmt: skip
  rows = insert(rows, batch.replace(tokens_BT=tokens_BT), jax.random.key(0))
  assert int(rows.num_rows) == testing.CONTEXT


def test_a_whole_row_is_stored_and_padding_is_not():
  batch = testing.batch(rows=3)
  segments_BT = batch.segments_BT.at[1].set(-1)
  rows = row_buffer.allocate(5 * testing.CONTEXT, width=testing.CONTEXT)
  rows = insert(rows, batch.replace(segments_BT=segments_BT), jax.random.key(0))
  assert int(rows.num_rows) == 2
  known = {
    tuple(row): n for n, row in enumerate(np.asarray(batch.tokens_BT).tolist())
  }
  for slot in range(2):
    number = known[tuple(rows.rows['tokens_BT'][slot].tolist())]
    assert number != 1
    for name, stored in rows.rows.items():
      np.testing.assert_array_equal(stored[slot], getattr(batch, name)[number])
  assert (np.asarray(rows.rows['segments_BT'][2:]) == -1).all()


def test_a_row_keeps_the_step_that_first_read_it():
  rows = _fill(8, [(1, 2), (3,), (1, 2, 3)], dated=True)
  kept = np.asarray(rows.rows['tokens_BT'])[:3, 0]
  steps = dict(zip(kept.tolist(), rows.step_C[:3].tolist(), strict=True))
  assert steps == {1: 0, 2: 0, 3: 1}


def test_rows_are_drawn_evenly_from_what_is_stored():
  rows = _fill(16, [range(8)])
  drawn = row_buffer.sample(rows, jax.random.key(1), 400)
  found, times = np.unique(drawn['tokens_BT'][:, 0], return_counts=True)
  assert found.tolist() == list(range(8))
  # The mean is 50 and the standard deviation 7; the bounds are 4 of them away.
  assert 22 < times.min() and times.max() < 78

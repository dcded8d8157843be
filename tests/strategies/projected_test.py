"""Projected updates change no output on stored inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax.model import matrix_inputs
from sleep_jax.schedule import events
from sleep_jax.strategies import projected
from tests import testing
from tests.strategies import methods

D, F = 8, 5


def _inputs(rank, seed=0):
  """Inputs `[20, D]` that span so many dimensions."""
  random = np.random.default_rng(seed)
  return random.normal(size=(20, rank)) @ random.normal(size=(rank, D))


def _projector(inputs, energy):
  covariance = jnp.asarray(inputs.T @ inputs, jnp.float32)[None]
  return np.asarray(projected.projector(covariance, energy))[0]


def test_a_projected_update_changes_no_output_on_inputs_that_span_less():
  inputs = _inputs(rank=3)
  update = np.random.default_rng(1).normal(size=(D, F))
  found = _projector(inputs, energy=1.0) @ update
  size = np.abs(inputs @ update).max()
  assert np.abs(inputs @ found).max() < 1e-3 * size
  # Five directions are free, so the update is not 0.
  assert np.linalg.matrix_rank(found, tol=1e-3) == 5


def test_it_is_an_orthogonal_projection_and_all_is_free_without_inputs():
  found = _projector(_inputs(rank=3), energy=1.0)
  np.testing.assert_allclose(found @ found, found, atol=1e-5)
  np.testing.assert_allclose(found, found.T, atol=1e-6)
  none = _projector(np.zeros((1, D)), energy=1.0)
  np.testing.assert_allclose(none, np.eye(D), atol=1e-6)


def test_directions_of_low_energy_are_free():
  inputs = np.diag([10.0, 5, 0.5, 0.1, 0, 0, 0, 0])
  # The squares are 100, 25, 0.25 and 0.01: the last two hold 0.2 % of them.
  found = _projector(inputs, energy=0.99)
  np.testing.assert_allclose(found, np.diag([0, 0] + 6 * [1.0]), atol=1e-5)
  found = _projector(inputs, energy=0.999)
  np.testing.assert_allclose(found, np.diag(3 * [0] + 5 * [1.0]), atol=1e-5)


def test_the_covariances_are_those_of_the_inputs_of_each_matrix():
  model = testing.tiny()
  weights, batch = testing.weights(model), testing.batch()
  inputs = matrix_inputs.reduce_inputs(
    model, weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT,
    lambda name, x: x,
  )  # fmt: skip
  matrices = {p for p in weights.params if '/mlp/' in p}
  assert set(inputs) == matrices
  for path in (p for p in matrices if p.endswith('/down')):
    gate, up = (path.replace('down', name) for name in ('gate', 'up'))
    read = lambda p: jnp.einsum('lbtd,ldf->lbtf', inputs[p], weights.params[p])
    np.testing.assert_allclose(
      inputs[path], jax.nn.silu(read(gate)) * read(up), rtol=1e-3, atol=1e-4
    )
  found = projected.covariances(model, weights, batch)
  valid = np.asarray(batch.segments_BT) >= 0
  for path in matrices:
    x = np.asarray(inputs[path])[:, valid]
    np.testing.assert_allclose(
      found[path], np.einsum('lnd,lne->lde', x, x), rtol=1e-3, atol=1e-3
    )


def test_after_a_review_steps_keep_the_outputs_of_the_matrices_on_its_rows():
  made = methods.Made(projected.make(2), energy=1.0)
  # One row of few tokens spans fewer dimensions than the inputs have.
  batch = jax.tree.map(lambda x: x[:1], testing.batch())
  state, counts = jax.jit(made.method.read)(made.state, batch)
  assert int(counts['forward']) == int((batch.segments_BT >= 0).sum())
  state = made.finish(state, events.END)
  step = lambda state, batch, held: (methods.moved(state), {})
  after, _ = projected.make(2).wrap(step)(state, batch, {})
  inputs = matrix_inputs.reduce_inputs(
    made.model, state.weights, batch.tokens_BT, batch.segments_BT,
    batch.positions_BT, lambda name, x: x,
  )  # fmt: skip
  valid = np.asarray(batch.segments_BT)[0] >= 0
  for path, x in inputs.items():
    x = np.asarray(x)[:, 0, valid]
    old, new = (s.weights.params[path] for s in (state, after))
    change = np.abs(x @ np.asarray(new - old)).max()
    free = np.abs(np.asarray(new - old)).max()
    assert change < 2e-3 < free, path

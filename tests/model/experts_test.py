"""Tests of the expert bank, its gates and the fresh expert."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import experts, layers

D, R, E = 6, 3, 4
ROUTERS = ('sigmoid', 'softmax', 'always')


def _draw(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), 'f4')


def _bank(slots=E, seed=0, gated=False):
  names = dict(A=(D, R), B=(R, D), router=(D,), bias=())
  names |= dict(U=(D, R)) if gated else {}
  return {
    name: _draw(slots, *shape, seed=seed + i)
    for i, (name, shape) in enumerate(names.items())
  }


def _apply(params, x, active, fresh=None, *, router='sigmoid', top_k=0):
  slots = params['A'].shape[0]
  bank = experts.ExpertBank(slots, R, router, top_k, 0.0, gated='U' in params)
  return bank.apply({'params': params}, x, jnp.asarray(active, 'f4'), fresh)


def _one(params, slot):
  return {name: leaf[slot] for name, leaf in params.items()}


X = _draw(2, 5, D, seed=9)


def test_a_bank_is_the_gated_sum_of_its_active_experts():
  p = jax.tree.map(np.asarray, _bank())
  x, y = np.asarray(X), 0
  for slot in (0, 2):
    u = x @ p['A'][slot]
    gate = 1 / (1 + np.exp(-(x @ p['router'][slot] + p['bias'][slot])))
    y = y + (u * u / (1 + np.exp(-u)) * gate[..., None]) @ p['B'][slot]
  np.testing.assert_allclose(_apply(_bank(), X, [1, 0, 1, 0]), y, atol=1e-5)


def test_gated_experts_have_an_up_projection_of_their_own():
  p = jax.tree.map(np.asarray, _bank(gated=True))
  x, y = np.asarray(X), 0
  for slot in (0, 2):
    gate = x @ p['A'][slot]
    y = y + (gate / (1 + np.exp(-gate)) * (x @ p['U'][slot])) @ p['B'][slot]
  args = dict(router='always')
  found = _apply(_bank(gated=True), X, [1, 0, 1, 0], **args)
  np.testing.assert_allclose(found, y, atol=1e-5)
  # With U = A they are the ungated ones; the sum is that of all outputs.
  same = _bank() | {'U': _bank()['A']}
  np.testing.assert_allclose(
    _apply(same, X, [1, 0, 1, 0], _one(same, 1), **args),
    _apply(_bank(), X, [1, 0, 1, 0], _one(_bank(), 1), **args),
    atol=1e-5,
  )
  gates = jnp.ones((*X.shape[:2], E))
  each = experts.outputs(X, _bank(gated=True), gates)
  whole = experts.apply(X, _bank(gated=True), gates)
  np.testing.assert_allclose(each.sum(2), whole, atol=1e-5)


@pytest.mark.parametrize('router', ROUTERS)
@pytest.mark.parametrize('top_k', [0, 2])
def test_masked_slots_add_exactly_zero_forward_and_backward(router, top_k):
  params, active = _bank(), [1, 0, 1, 0]
  # Inactive slots may hold any values.
  scaled = {k: v.at[jnp.array([1, 3])].mul(100) for k, v in params.items()}

  def value(p):
    return jnp.sum(_apply(p, X, active, router=router, top_k=top_k) ** 2)

  value_and_grad = jax.jit(jax.value_and_grad(value))
  (found, grads) = value_and_grad(params)
  (expected, scaled_grads) = value_and_grad(scaled)
  assert found == expected
  for name, leaf in scaled_grads.items():
    assert not np.asarray(leaf)[[1, 3]].any(), name
    np.testing.assert_array_equal(leaf, grads[name])
  assert np.asarray(grads['B'])[[0, 2]].any()


def test_skipping_inactive_groups_changes_no_values_or_gradients():
  """With two groups: only the last slot active, then one slot of each."""
  params = _bank(6)

  def apply_all(p, active):
    gates = experts.gates(X, p, active, router='sigmoid', top_k=0)
    return experts.apply(X, p, gates)

  for active in ([0, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0]):
    active = jnp.asarray(active, 'f4')
    (y, grads), (other, other_grads) = (
      jax.value_and_grad(lambda p, f=f, a=active: jnp.sum(f(p, a) ** 2))(params)
      for f in (lambda p, a: _apply(p, X, a), apply_all)
    )
    np.testing.assert_allclose(y, other, rtol=1e-6)
    for name, leaf in grads.items():
      np.testing.assert_allclose(leaf, other_grads[name], rtol=1e-5, atol=1e-4)
    assert np.asarray(grads['B'])[active > 0].any()


@pytest.mark.parametrize('router', ROUTERS)
def test_a_bank_without_active_slots_adds_zero(router):
  y = _apply(_bank(), X, [0] * E, router=router, top_k=2)
  assert not np.asarray(y).any()


@pytest.mark.parametrize('router', ROUTERS)
def test_an_untrained_fresh_expert_changes_no_output(router):
  fresh = experts.init(jax.random.key(0), D, R, gate_bias=0.0)
  args = dict(router=router, top_k=1)
  np.testing.assert_array_equal(
    _apply(_bank(), X, [1, 1, 0, 0], fresh, **args),
    _apply(_bank(), X, [1, 1, 0, 0], **args),
  )


@pytest.mark.parametrize('router', ['sigmoid', 'softmax'])
@pytest.mark.parametrize('top_k', [0, 1])
def test_a_fresh_expert_is_outside_the_selection(router, top_k):
  args = dict(router=router, top_k=top_k)
  active, fresh = [1, 1, 1, 0], _one(_bank(seed=5), 0)
  found = _apply(_bank(), X, active, fresh, **args)
  bank = _apply(_bank(), X, active, **args)
  alone = _apply(_bank(), X, [0] * E, fresh, router='sigmoid')
  assert np.abs(np.asarray(alone)).max() > 0.1
  np.testing.assert_allclose(found, bank + alone, atol=1e-5)
  # A large gate logit of the fresh expert does not change the other gates.
  found = _apply(_bank(), X, active, fresh | {'bias': jnp.float32(99)}, **args)
  u = X @ fresh['A']
  open_gate = (u * jax.nn.silu(u)) @ fresh['B']
  np.testing.assert_allclose(found, bank + open_gate, atol=1e-5)


def test_selection_by_hand():
  logits = jnp.array([[[3.0, 9.0, 1.0, 2.0]]])
  active = jnp.array([1.0, 0.0, 1.0, 1.0])
  select = lambda **kw: np.asarray(experts.select(logits, active, **kw))[0, 0]
  np.testing.assert_array_equal(
    select(router='sigmoid', top_k=2) > 0, [True, False, False, True]
  )
  odds = np.exp([3.0, 2.0])
  np.testing.assert_allclose(
    select(router='softmax', top_k=2)[[0, 3]], odds / odds.sum(), rtol=1e-5
  )
  np.testing.assert_array_equal(select(router='always', top_k=0), [1, 0, 1, 1])
  # With fewer than k active slots, all of them are selected.
  np.testing.assert_array_equal(
    select(router='sigmoid', top_k=3) > 0, [True, False, True, True]
  )


def test_with_gates_of_1_a_bank_is_more_hidden_units_of_the_base_model():
  params, hidden = _bank(), 8
  base_model = dict(
    gate=_draw(D, hidden), up=_draw(D, hidden, seed=1),
    down=_draw(hidden, D, seed=2),
  )  # fmt: skip
  run = lambda p, width: layers.SwiGLU(width).apply({'params': p}, X)
  wide = dict(
    gate=jnp.concatenate([base_model['gate'], *params['A'][:2]], 1),
    up=jnp.concatenate([base_model['up'], *params['A'][:2]], 1),
    down=jnp.concatenate([base_model['down'], *params['B'][:2]], 0),
  )
  bank = _apply(params, X, [1, 1, 0, 0], router='always')
  np.testing.assert_allclose(
    run(base_model, hidden) + bank, run(wide, hidden + 2 * R), atol=2e-4
  )


def test_the_slots_of_a_new_bank_have_different_values():
  params = experts.ExpertBank(E, R, 'sigmoid', 0, 0.5).init(
    jax.random.key(0), X, jnp.ones((E,))
  )['params']
  assert not np.asarray(params['B']).any()
  assert len({leaf.tobytes() for leaf in np.asarray(params['A'])}) == E
  np.testing.assert_array_equal(params['bias'], np.full((E,), 0.5))

"""Tests of the transformer: causality, batching, levels and experts."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import experts, transformer
from sleep_jax.objectives import losses
from tests import testing

DEEP = ((1, 2), (2, 4))


@functools.cache
def _model_with_experts(arrangement='sequential', **changes):
  """Returns a model with active experts, its weights and its forward."""
  model = testing.tiny(*DEEP, arrangement=arrangement, **changes)
  weights = testing.activate(testing.weights(model), 2, 0, 2)
  weights = testing.activate(weights, 3, 1)
  return model, weights, jax.jit(model.forward)


def _logits(forward, weights, batch):
  return np.asarray(
    forward(weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT)
  )


def _row(batch, index):
  return jax.tree.map(lambda x: x[index : index + 1], batch)


@pytest.mark.parametrize('arrangement', ['sequential', 'independent'])
def test_a_token_changes_no_logits_before_it(arrangement):
  _, weights, forward = _model_with_experts(arrangement)
  batch = testing.batch()
  t = 4
  other = batch.replace(
    tokens_BT=batch.tokens_BT.at[:, t].add(1) % testing.VOCAB
  )
  before, after = (
    _logits(forward, weights, batch),
    _logits(forward, weights, other),
  )
  np.testing.assert_array_equal(before[:, :t], after[:, :t])
  present = np.asarray(batch.segments_BT[:, t] > 0)
  assert present.sum() > 2
  assert (np.abs(before - after)[present][:, t].max(-1) > 1e-3).all()


def test_rows_of_a_batch_do_not_depend_on_each_other():
  _, weights, forward = _model_with_experts()
  batch = testing.batch()
  whole = _logits(forward, weights, batch)
  for index in range(8):
    alone = _logits(forward, weights, _row(batch, index))[0]
    valid = np.asarray(batch.segments_BT[index] > 0)
    np.testing.assert_allclose(
      whole[index][valid], alone[valid], rtol=1e-5, atol=2e-5
    )


def test_logits_at_some_positions_equal_those_of_full_rows():
  model, weights, forward = _model_with_experts()
  batch = testing.batch()
  at_BG = jnp.array([[0, 3], [2, 2], [9, 1]] + [[4, 5]] * 5)
  states_BGD = jax.jit(model.states_at)(
    weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT, at_BG
  )
  found = model.logits(weights, states_BGD)
  whole = _logits(forward, weights, batch)
  np.testing.assert_allclose(
    found, np.take_along_axis(whole, np.asarray(at_BG)[..., None], 1),
    rtol=1e-5, atol=1e-5,
  )  # fmt: skip


def test_tokens_of_padding_change_no_logits():
  _, weights, forward = _model_with_experts()
  batch = testing.batch()
  valid = np.asarray(batch.segments_BT > 0)
  other = batch.replace(tokens_BT=jnp.where(valid, batch.tokens_BT, 29))
  assert not np.array_equal(batch.tokens_BT, other.tokens_BT)
  np.testing.assert_array_equal(
    _logits(forward, weights, batch)[valid],
    _logits(forward, weights, other)[valid],
  )


def test_packed_sequences_do_not_attend_to_each_other():
  _, weights, forward = _model_with_experts()
  tokens = jnp.array([[1, 7, 8, 2, 1, 9, 10, 11, 12, 2]])
  segments = jnp.array([[1] * 4 + [2] * 6])
  positions = jnp.array([[*range(4), *range(6)]])
  packed = np.asarray(forward(weights, tokens, segments, positions))
  for start, stop in ((0, 4), (4, 10)):
    row = jnp.zeros((1, 10), jnp.int32)
    row = row.at[:, : stop - start].set(tokens[:, start:stop])
    length = jnp.array([stop - start])
    alone = np.asarray(forward(weights, *types.model_inputs(row, length)))
    np.testing.assert_allclose(
      packed[0, start:stop], alone[0, : stop - start], rtol=1e-5, atol=2e-5
    )


def test_a_row_ends_at_its_length_whatever_its_tokens():
  row = jnp.array([[testing.BOS, testing.PAD, testing.EOS, testing.PAD, 5, 6]])
  _, segments, positions = types.model_inputs(row, jnp.array([5]))
  np.testing.assert_array_equal(segments, [[1, 1, 1, 1, 1, -1]])
  np.testing.assert_array_equal(positions, [[0, 1, 2, 3, 4, 5]])


def test_the_order_of_tokens_matters():
  _, weights, forward = _model_with_experts()
  last_logits = lambda *x: np.asarray(
    forward(weights, *types.model_inputs(jnp.array([x]), jnp.array([4])))
  )[0, -1]
  assert np.abs(last_logits(1, 7, 8, 9) - last_logits(1, 8, 7, 9)).max() > 1e-3


def test_the_loss_of_an_initial_model_is_that_of_a_uniform_guess():
  model = testing.tiny(*DEEP)
  weights = jax.jit(model.init)(jax.random.key(0))
  batch = testing.batch()
  logits = jax.jit(model.forward)(
    weights, batch.tokens_BT, batch.segments_BT, batch.positions_BT
  )
  loss = float(losses.next_token_loss(logits, batch.tokens_BT, batch.loss_BT))
  assert loss == pytest.approx(math.log(testing.VOCAB), rel=0.1)
  assert not np.asarray(weights.active_NE).any()


@pytest.mark.parametrize('arrangement', ['sequential', 'independent'])
def test_levels_with_zero_output_change_nothing(arrangement):
  """A model with added levels equals the pretrained one without them."""
  model, weights, forward = _model_with_experts(arrangement)
  zeroed = {
    path: jnp.zeros_like(leaf)
    for path, leaf in weights.params.items()
    if path.endswith('mlp/down') and 'levels/3' not in path
  }
  assert len(zeroed) == 2
  extended = weights.with_params(zeroed)
  extended = extended.replace(active_NE=jnp.zeros_like(extended.active_NE))
  plain = transformer.Transformer(
    dataclasses.replace(model.config, levels=model.config.levels[-1:])
  )
  core = {
    path.replace('levels/3/', 'levels/1/'): leaf
    for path, leaf in weights.params.items()
    if 'levels/1/' not in path and 'levels/2/' not in path
  }
  pretrained = weights.replace(params=core, active_NE=extended.active_NE[:1])
  batch = testing.batch()
  np.testing.assert_allclose(
    _logits(forward, extended, batch),
    _logits(jax.jit(plain.forward), pretrained, batch),
    rtol=1e-5, atol=1e-5,
  )  # fmt: skip
  difference = _logits(forward, weights, batch) - _logits(
    forward, extended, batch
  )
  assert np.abs(difference).max() > 0.1


def test_the_order_of_levels_matters_only_in_a_chain():
  batch = testing.batch()

  def swapped(arrangement):
    _, weights, forward = _model_with_experts(arrangement)
    # Levels 1 and 2 have bases of the same shape; 2 alone has experts.
    weights = weights.replace(active_NE=jnp.zeros_like(weights.active_NE))
    swap = {'levels/1/base': 'levels/2/base', 'levels/2/base': 'levels/1/base'}
    params = {
      path: weights.params[path.replace(here, there)]
      for path in weights.params
      for here, there in swap.items()
      if here in path
    }
    assert params
    one = _logits(forward, weights, batch)
    two = _logits(forward, weights.with_params(params), batch)
    return np.abs(one - two).max()

  assert swapped('sequential') > 0.05
  assert swapped('independent') < 1e-4


def test_unrolling_changes_no_logits():
  model, weights, forward = _model_with_experts(tied=False)
  config = dataclasses.replace(model.config, unroll=2)
  other = jax.jit(transformer.Transformer(config).forward)
  batch = testing.batch()
  np.testing.assert_allclose(
    _logits(forward, weights, batch), _logits(other, weights, batch),
    rtol=1e-5, atol=1e-5,
  )  # fmt: skip


def test_activating_an_untrained_expert_changes_no_bit():
  _, weights, forward = _model_with_experts()
  bank = 'blocks/levels/3/experts/B'
  untrained = weights.with_params({bank: weights.params[bank].at[:, 3].set(0)})
  batch = testing.batch()
  before = _logits(forward, untrained, batch)
  after = _logits(forward, testing.activate(untrained, 3, 3), batch)
  np.testing.assert_array_equal(before, after)
  trained = _logits(forward, testing.activate(weights, 3, 3), batch)
  assert np.abs(trained - before).max() > 1e-2


def _divide_mlps(weights, layer_levels):
  """Divides the MLPs of a plain network among the levels of 'depth'."""
  params = {}
  for path, leaf in weights.params.items():
    if '/levels/' not in path:
      params[path] = leaf
      continue
    for level in set(layer_levels):
      own = [n for n, found in enumerate(layer_levels) if found == level]
      params[path.replace('/levels/1/', f'/levels/{level}/')] = leaf[
        jnp.asarray(own)
      ]
  return types.Weights(params, jnp.zeros((2, testing.SLOTS)))


@pytest.mark.parametrize('layer_levels', [(2, 2, 1), (1, 2, 2), (1, 1, 2)])
def test_levels_in_depth_equal_the_plain_network_bit_for_bit(layer_levels):
  """'depth' adds no parameters: it divides the MLPs among the levels."""
  made = functools.partial(
    config_lib.make, dict(width=16, num_heads=4, num_kv_heads=2, head_size=4,
    num_layers=3, unroll=3), vocab_size=testing.VOCAB,
  )  # fmt: skip
  settings = dict(made.args[0])
  plain = transformer.Transformer(
    made((dict(hidden=16, update_period='infinite', sleep_period='infinite'),))
  )
  deep = transformer.Transformer(config_lib.make(
    settings | dict(arrangement='depth', layer_levels=layer_levels),
    testing.levels((1, 2)), vocab_size=testing.VOCAB,
  ))  # fmt: skip
  weights = testing.weights(plain)
  shared = _divide_mlps(weights, layer_levels)
  assert {p: x.shape for p, x in shared.params.items()} == {
    p: x.shape for p, x in testing.weights(deep).params.items()
    if 'experts' not in p
  }  # fmt: skip
  bank = {
    p: x for p, x in testing.weights(deep).params.items() if 'experts' in p
  }
  shared = shared.with_params(bank)
  batch = testing.batch()
  np.testing.assert_array_equal(
    _logits(jax.jit(plain.forward), weights, batch),
    _logits(jax.jit(deep.forward), shared, batch),
  )
  # An expert of a level has a row only for the blocks of that level.
  expert = deep.init_expert(jax.random.key(0), 2)['2']
  assert expert['A'].shape[0] == layer_levels.count(2)


def test_decoding_in_depth_gives_the_logits_of_whole_rows():
  model = transformer.Transformer(config_lib.make(
    dict(width=16, num_heads=4, num_kv_heads=2, head_size=4, num_layers=3,
         arrangement='depth', layer_levels=(2, 1, 1)),
    testing.levels((1, 2)), vocab_size=testing.VOCAB,
  ))  # fmt: skip
  weights = testing.activate(testing.weights(model), 2, 1)
  weights = weights.replace(fresh=testing.expert(model, 2))
  tokens = testing.batch().tokens_BT[:, :5]
  length_B = jnp.full((8,), 5)
  whole = jax.jit(model.forward)(weights, *types.model_inputs(tokens, length_B))
  _, cache = jax.jit(functools.partial(model.prefill, cache_size=5))(
    weights, tokens[:, :4], length_B - 1
  )
  last, _ = jax.jit(model.decode)(
    weights, tokens[:, 4], length_B - 1, jnp.ones((8, 5), bool), cache, 4
  )
  np.testing.assert_allclose(last, whole[:, 4], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('found', [(), (1, 2), (1, 2, 1), (2, 2, 2), (1, 1, 3)])
def test_invalid_layer_levels_are_refused(found):
  settings = dict(
    width=16, num_heads=4, num_kv_heads=2, head_size=4, num_layers=3,
    arrangement='depth', layer_levels=found,
  )  # fmt: skip
  with pytest.raises(ValueError, match=r'layer_levels.*for example \(2, 2, 1'):
    config_lib.make(settings, testing.levels((1, 2)), vocab_size=9)


def test_layer_levels_without_depth_are_refused():
  with pytest.raises(ValueError, match='set the arrangement to'):
    testing.tiny(layer_levels=(1, 2))


def test_recorded_inputs_reproduce_the_output_of_the_bank():
  """The gated outputs of the experts sum to the output of the bank."""
  model, weights, _ = _model_with_experts()
  rows = types.model_inputs(testing.batch().tokens_BT, jnp.full((8,), 10))
  x_LBTD = model.expert_inputs(weights, *rows, 3)
  bank = model.bank(weights, 3)
  c, active_E = model.config, weights.active_NE[2, : testing.SLOTS]
  for layer in range(testing.LAYERS):
    one = {name: leaf[layer] for name, leaf in bank.items()}
    gates = experts.gates(
      x_LBTD[layer], one, active_E, router='sigmoid', top_k=0
    )
    each = experts.outputs(x_LBTD[layer], one, gates)
    whole = experts.apply(x_LBTD[layer], one, gates)
    np.testing.assert_allclose(each.sum(2), whole, atol=1e-5)
    assert not np.asarray(gates[..., 0]).any()  # Slot 0 is inactive.
  assert x_LBTD.shape == (testing.LAYERS, 8, 10, testing.WIDTH)
  assert c.num_layers_of(3) == testing.LAYERS


def test_rounded_products_change_logits_and_gradients_by_rounding_only():
  tokens = jnp.asarray(np.random.default_rng(0).integers(3, 32, (3, 9)))
  found = {}
  for products in ('float32', 'bfloat16'):
    model = testing.tiny(products=products)
    weights = testing.weights(model, 0)

    def loss(params, model=model, weights=weights):
      inputs = types.model_inputs(tokens, jnp.full((3,), 9))
      logits = model.forward(weights.with_params(params), *inputs)
      return jnp.sum(jax.nn.logsumexp(logits, -1)), logits

    assert all(x.dtype == jnp.float32 for x in weights.params.values())
    found[products] = jax.jit(jax.grad(loss, has_aux=True))(weights.params)
  for a, b in zip(*map(jax.tree.leaves, found.values()), strict=True):
    assert a.dtype == b.dtype == jnp.float32
    scale = float(jnp.abs(a).max()) + 1e-6
    np.testing.assert_allclose(a / scale, b / scale, atol=0.05)
  logits = [x[1] for x in found.values()]
  assert 0 < float(jnp.abs(logits[0] - logits[1]).max()) < 0.1

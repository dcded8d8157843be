"""A prefix of keys and values stands for the tokens that they are of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import lora, prefix
from tests import testing

P, ROWS = 4, 3  # Tokens before the rows; rows.


@functools.cache
def _model(**changes):
  model = testing.tiny(**changes)
  return model, testing.weights(model)


def _inputs(tokens_BT, first):
  """Tokens, segments and positions of rows that begin at a position."""
  place_BT = np.arange(tokens_BT.shape[1])[None] + np.zeros_like(tokens_BT)
  return tokens_BT, np.ones_like(tokens_BT), place_BT + first


def _tokens():
  """The tokens before the rows, the same for all, and the rows."""
  random = np.random.default_rng(0)
  before_1P = random.integers(3, testing.VOCAB, (1, P)).astype('i4')
  rows_BT = random.integers(3, testing.VOCAB, (ROWS, 5)).astype('i4')
  return np.repeat(before_1P, ROWS, 0), rows_BT


def _with_prefix(model, weights, before_1P, *, split):
  """Weights with the keys of tokens as prefix, the first `split` finished."""
  found = model.keys_and_values(weights, *_inputs(before_1P, -P))
  whole = [x[:, 0].reshape(x.shape[0], P, -1) for x in found]
  # One further place is off, and holds what must not be seen.
  own = prefix.init(weights.params, tokens=P - split, past=2)[prefix.PATH]
  on = np.zeros(own['on'].shape, 'f4')
  on[:, :split] = on[:, -(P - split) :] = 1
  own = own | {'on': jnp.asarray(on)}
  for name, x in zip(('key', 'value'), whole, strict=True):
    past = jnp.full_like(own[f'past_{name}'], 3.0).at[:, :split]
    own |= {name: x[:, split:], f'past_{name}': past.set(x[:, :split])}
  return weights.replace(adapter={prefix.PATH: own})


@pytest.mark.parametrize('changes', [
  {}, {'looped': True, 'unroll': 1}, {'window': 99, 'local': (True, False)},
])  # fmt: skip
def test_a_prefix_of_keys_computes_what_the_tokens_before_do(changes):
  model, weights = _model(**changes)
  before_BP, rows_BT = _tokens()
  both_BT = np.concatenate([before_BP, rows_BT], 1)
  expected = testing.forward(model)(weights, *_inputs(both_BT, 0))[:, P:]
  told = _with_prefix(model, weights, before_BP[:1], split=2)
  found = testing.forward(model)(told, *_inputs(rows_BT, 0))
  np.testing.assert_allclose(found, expected, atol=1e-4)
  # Token by token it is the same.
  logits, cache = jax.jit(functools.partial(model.prefill, cache_size=5))(
    told, rows_BT[:, :4], np.full(ROWS, 4)
  )
  np.testing.assert_allclose(logits, expected[:, 3], atol=1e-4)
  mask_BS = np.ones((ROWS, 5), bool)
  logits, _ = jax.jit(model.decode)(
    told, rows_BT[:, 4], np.full(ROWS, 4), mask_BS, cache, 4
  )
  np.testing.assert_allclose(logits, expected[:, 4], atol=1e-4)
  # Without the prefix it is not.
  without = testing.forward(model)(weights, *_inputs(rows_BT, 0))
  assert np.abs(without - expected).max() > 0.1


def test_a_prefix_that_is_off_changes_nothing():
  model, weights = _model()
  _, rows_BT = _tokens()
  told = weights.replace(adapter=prefix.init(weights.params, tokens=2, past=1))
  forward = testing.forward(model)
  np.testing.assert_allclose(
    forward(told, *_inputs(rows_BT, 0)), forward(weights, *_inputs(rows_BT, 0)),
    atol=1e-6,
  )  # fmt: skip


def test_every_text_of_a_packed_row_sees_the_prefix():
  model, weights = _model()
  before_BP, rows_BT = _tokens()
  told = _with_prefix(model, weights, before_BP[:1], split=2)
  alone = testing.forward(model)(told, *_inputs(rows_BT, 0))
  packed = (
    rows_BT.reshape(1, -1), np.repeat([[1, 2, 3]], 5, 1),
    np.tile(np.arange(5), ROWS)[None],
  )  # fmt: skip
  found = testing.forward(model)(told, *packed)
  np.testing.assert_allclose(found.reshape(alone.shape), alone, atol=1e-4)


def test_a_prefix_is_kept_where_adapters_are_merged():
  _, weights = _model()
  told = weights.replace(adapter=prefix.init(weights.params, tokens=2, past=1))
  assert lora.merged(told) is told

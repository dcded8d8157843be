"""Tests of sampling with a cache.

A model with scripted outputs shows where sequences end. The transformer shows
that cached and uncached outputs are equal.
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.model import sampling
from tests import testing

EOS, BOS, V = testing.EOS, testing.BOS, testing.VOCAB
RAGGED = [[BOS], [BOS, 7], [BOS, 7, 8, 9, 10, 11], [BOS, 0, EOS, 0, 5]]


class ScriptedModel:
  """Generates `lines[b]` for any prompt. Its cache is the next index."""

  def __init__(self, *lines):
    self._lines_BT = jnp.asarray(lines)

  def prefill(self, weights, tokens_BP, length_B, *, cache_size, read):
    del tokens_BP, length_B, cache_size
    return read(weights, 0), jnp.int32(1)

  def decode(self, weights, token_B, position_B, mask_BS, cache, slot, read):
    del token_B, position_B, mask_BS, slot
    return read(weights, cache), cache + 1

  def next_logits_and_states(self, weights, index):
    """Returns the logits of the line, and its index as a state."""
    del weights
    at = jnp.minimum(index, self._lines_BT.shape[1] - 1)
    logits_BV = 99.0 * jax.nn.one_hot(self._lines_BT[:, at], V)
    return logits_BV, jnp.full((len(logits_BV), 1), index, jnp.float32)


def _generated(rollout):
  """Returns the generated tokens of each row."""
  rows = zip(
    np.asarray(rollout.tokens_BT), np.asarray(rollout.prompt_length_B),
    np.asarray(rollout.length_B), strict=True,
  )  # fmt: skip
  return [row[start:stop].tolist() for row, start, stop in rows]


def _sample_script(lines, prompts, **settings):
  settings = dict(max_length=8, eos=EOS) | settings
  return sampling.sample(
    ScriptedModel(*lines), None, testing.prompts(prompts), jax.random.key(0),
    **settings,
  )  # fmt: skip


def test_a_sequence_ends_with_its_first_eos():
  rollout = _sample_script(
    [[5, 6, EOS, 7, EOS, 8], [5, 6, 7, 8, EOS, 9]], [[BOS, 3], [BOS]]
  )
  assert _generated(rollout) == [[5, 6, EOS], [5, 6, 7, 8, EOS]]
  np.testing.assert_array_equal(rollout.length_B, [5, 6])


def test_a_sequence_that_is_cut_has_no_eos():
  rollout = _sample_script(
    [[5, 6, 7, 8, 9, 10, 11, 12]] * 2, [[BOS, 3, 4], [BOS]]
  )
  assert _generated(rollout) == [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 10, 11]]
  np.testing.assert_array_equal(rollout.length_B, [8, 8])


def test_eos_as_the_last_token_is_kept():
  rollout = _sample_script([[5, 6, 7, 8, EOS, 9]], [[BOS, 3, 4]])
  assert _generated(rollout) == [[5, 6, 7, 8, EOS]]


def test_eos_as_the_first_token_gives_a_sequence_of_one():
  rollout = _sample_script([[EOS, 5, 5], [5, EOS, 5]], [[BOS, 3], [BOS, 3]])
  assert _generated(rollout) == [[EOS], [5, EOS]]


def test_the_states_that_predicted_each_token_are_kept():
  line = [[3, 4, 5, 6, 7, 8, 9]]
  rollout = _sample_script(line, [[BOS]], max_new=5, keep_states=True)
  np.testing.assert_array_equal(rollout.states_BGD[0, :, 0], range(5))
  assert _sample_script(line, [[BOS]]).states_BGD is None


def test_max_new_limits_the_continuation():
  rollout = _sample_script(
    [[5, 6, 7, 8], [5, EOS, 7, 8]], [[BOS], [BOS, 3]], max_new=2
  )
  assert _generated(rollout) == [[5, 6], [5, EOS]]


def test_a_prompt_is_defined_by_its_length_not_by_its_tokens():
  """Padding and EOS inside a prompt are ordinary tokens."""
  prompts = [[BOS, EOS, 0, 7], [BOS, 0, 0], [BOS, EOS]]
  rollout = _sample_script([[5, EOS, 9]] * 3, prompts)
  assert _generated(rollout) == [[5, EOS]] * 3
  for row, prompt in zip(np.asarray(rollout.tokens_BT), prompts, strict=True):
    assert row[: len(prompt)].tolist() == prompt


def test_a_prompt_of_maximum_length_has_no_continuation():
  rollout = _sample_script([[5, 6]], [[BOS, 3, 4, 6, 7, 8]], max_length=6)
  assert _generated(rollout) == [[]]
  assert rollout.tokens_BT[0].tolist() == [BOS, 3, 4, 6, 7, 8]


@functools.cache
def _model_and_weights():
  model = testing.tiny((1, 2), (2, 4))
  weights = testing.activate(testing.weights(model), 2, 1)
  weights = testing.activate(weights, 3, 0)
  return model, weights.replace(fresh=testing.expert(model, 3))


@functools.cache
def _sampler(**settings):
  model, _ = _model_and_weights()
  settings = dict(max_length=testing.CONTEXT, eos=EOS) | settings
  return jax.jit(functools.partial(sampling.sample, model, **settings))


def _greedy_uncached(rows):
  """Returns greedy continuations, each token from a full forward pass."""
  model, weights = _model_and_weights()
  forward = jax.jit(model.forward)
  rows, generated = [list(row) for row in rows], [[] for _ in rows]
  for _ in range(testing.CONTEXT):
    width = testing.CONTEXT
    tokens = jnp.array([row + [0] * (width - len(row)) for row in rows])
    length = jnp.array([len(row) for row in rows])
    positions = jnp.broadcast_to(jnp.arange(width)[None], tokens.shape)
    # By length, because prompts contain padding and EOS tokens.
    segments = jnp.where(positions < length[:, None], 1, -1)
    logits = np.asarray(forward(weights, tokens, segments, positions))
    for index, row in enumerate(rows):
      ended = generated[index] and generated[index][-1] == EOS
      if not ended and len(row) < width:
        generated[index].append(int(logits[index, len(row) - 1].argmax()))
        row.append(generated[index][-1])
  return generated


def test_cached_decoding_equals_uncached_decoding():
  _, weights = _model_and_weights()
  rows = RAGGED * 2
  rollout = _sampler(temperature=0)(
    weights, testing.prompts(rows), jax.random.key(0)
  )
  assert _generated(rollout) == _greedy_uncached(rows)
  assert len({tuple(x) for x in _generated(rollout)}) > 2


@pytest.mark.parametrize(
  'changes',
  [
    {},
    dict(looped=True),
    dict(looped=True, arrangement='depth', layer_levels=(2, 1)),
  ],
)
def test_cached_logits_equal_uncached_logits(changes):
  model, weights = _model_and_weights()
  if changes:
    model = testing.tiny(**changes)
    weights = testing.weights(model)
  tokens = testing.batch().tokens_BT[:4]
  length_B = jnp.array([1, 3, 4, 6])
  last, steps = 3, 4
  whole = jax.jit(model.forward)(
    weights, *types.model_inputs(tokens, length_B + steps)
  )

  @jax.jit
  def cached(tokens, length_B):
    logits, cache = model.prefill(
      weights, tokens[:, :6], length_B, cache_size=6 + steps
    )
    found = [logits]
    for t in range(last):
      token_B = jnp.take_along_axis(tokens, (length_B + t)[:, None], 1)[:, 0]
      slots = jnp.arange(6 + steps)[None]
      mask = (slots < length_B[:, None]) | ((slots >= 6) & (slots <= 6 + t))
      logits, cache = model.decode(
        weights, token_B, length_B + t, mask, cache, 6 + t
      )
      found.append(logits)
    return jnp.stack(found, 1)

  at = (length_B[:, None] - 1 + jnp.arange(last + 1)[None])[..., None]
  np.testing.assert_allclose(
    cached(tokens, length_B), jnp.take_along_axis(whole, at, 1),
    rtol=1e-5, atol=2e-5,
  )  # fmt: skip


def test_a_continuation_does_not_depend_on_the_other_rows():
  _, weights = _model_and_weights()
  rows = RAGGED + [[BOS, token] for token in (3, 4, 5, 6)]
  sample = _sampler(temperature=0)
  together = sample(weights, testing.prompts(rows), jax.random.key(0))
  alone = [
    _generated(sample(weights, testing.prompts([row] * 8), jax.random.key(1)))[
      0
    ]
    for row in rows
  ]
  assert _generated(together) == alone


def test_wider_padding_changes_no_continuation():
  _, weights = _model_and_weights()
  sample, key = _sampler(temperature=1.0), jax.random.key(3)
  narrow = sample(weights, testing.prompts(RAGGED), key)
  wide = sample(weights, testing.prompts(RAGGED, width=9), key)
  assert _generated(narrow) == _generated(wide)


def test_samples_follow_the_probabilities_of_the_model():
  """Compares frequencies of the first token with the softmax."""
  model, weights = _model_and_weights()
  num, prompt = 6000, [BOS, 7, 8]
  rollout = _sampler(temperature=2.0, max_new=1)(
    weights, testing.prompts([prompt] * num, width=3), jax.random.key(5)
  )
  logits, _ = jax.jit(functools.partial(model.prefill, cache_size=3))(
    weights, jnp.array([prompt]), jnp.array([3])
  )
  odds = np.asarray(jax.nn.softmax(logits[0] / 2.0))
  found = np.bincount([x[0] for x in _generated(rollout)], minlength=V) / num
  spread = np.sqrt(odds * (1 - odds) / num)
  assert (np.abs(found - odds) < 4.5 * spread + 1 / num).all()


@pytest.mark.parametrize('vocab_size', [5, 32, 70])
def test_pick_follows_the_odds_and_never_takes_a_token_of_odds_0(vocab_size):
  odds = np.random.default_rng(0).gamma(0.3, size=vocab_size)
  odds[[0, vocab_size // 2, -1]] = 0.0
  odds, num = odds / odds.sum(), 20_000
  logits = jnp.tile(jnp.log(odds).astype('f4')[None] + 50.0, (num, 1))
  found = np.bincount(
    np.asarray(jax.jit(sampling.pick)(jax.random.key(1), logits)),
    minlength=vocab_size,
  ) / num  # fmt: skip
  spread = np.sqrt(odds * (1 - odds) / num)
  assert (np.abs(found - odds) < 4.5 * spread + 1 / num).all()
  assert (found[odds == 0] == 0).all()


@pytest.mark.parametrize('certain', [0, 31, 32, 69])
def test_pick_takes_a_certain_token_at_both_ends_of_the_random_range(certain):
  logits = jnp.full((2, 70), -jnp.inf).at[:, certain].set(0.0)
  ends_B1 = jnp.array([[0.0], [1 - 2**-22]])
  with mock.patch.object(jax.random, 'uniform', lambda *_, **__: ends_B1):
    picked = sampling.pick(jax.random.key(0), logits)
  assert picked.tolist() == [certain, certain]


ODDS = np.log([0.05, 0.4, 0.1, 0.3, 0.15])


@pytest.mark.parametrize(
  ('settings', 'kept'),
  [
    (dict(top_k=0, top_p=1.0), [0, 1, 2, 3, 4]),
    (dict(top_k=2, top_p=1.0), [1, 3]),
    (dict(top_k=9, top_p=1.0), [0, 1, 2, 3, 4]),
    (dict(top_k=0, top_p=0.6), [1, 3]),
    (dict(top_k=0, top_p=0.8), [1, 3, 4]),
    (dict(top_k=0, top_p=1e-6), [1]),
    # Probabilities are those among the top k: 0.4 / 0.85 + 0.3 / 0.85 > 0.8.
    (dict(top_k=3, top_p=0.8), [1, 3]),
  ],
)
def test_top_k_and_top_p_by_hand(settings, kept):
  logits = jnp.asarray(ODDS, jnp.float32)[None] + 2.0
  out = np.asarray(sampling.filter_logits(logits, **settings))[0]
  assert np.flatnonzero(np.isfinite(out)).tolist() == kept
  np.testing.assert_array_equal(out[kept], np.asarray(logits)[0, kept])

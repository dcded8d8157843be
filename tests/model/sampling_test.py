"""Sampling: cached equals uncached, and a sequence ends where it should.

Ends are shown with a model that says what a script tells it; what a cache must
not change, with the real one.
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import sampling, transformer
from tests import testing

EOS, BOS, V = testing.EOS, testing.BOS, testing.VOCAB
RAGGED = [[BOS], [BOS, 7], [BOS, 7, 8, 9, 10, 11], [BOS, 0, EOS, 0, 5]]


class Script:
  """Says `lines[b]` whatever the prompt; its cache is the next place."""

  def __init__(self, *lines):
    self._lines_BT = jnp.asarray(lines)

  def prefill(self, weights, tokens_BP, length_B, *, cache_size):
    del weights, tokens_BP, length_B, cache_size
    return self._say(0), jnp.int32(1)

  def decode(self, weights, token_B, position_B, mask_BS, cache, slot):
    del weights, token_B, position_B, mask_BS, slot
    return self._say(cache), cache + 1

  def _say(self, place):
    place = jnp.minimum(place, self._lines_BT.shape[1] - 1)
    return 99.0 * jax.nn.one_hot(self._lines_BT[:, place], V)


def _said(rollout):
  """Generated tokens, row by row."""
  rows = zip(
    np.asarray(rollout.tokens_BT), np.asarray(rollout.prompt_length_B),
    np.asarray(rollout.length_B), strict=True,
  )  # fmt: skip
  return [row[start:stop].tolist() for row, start, stop in rows]


def _recite(lines, prompts, **settings):
  settings = dict(max_length=8, eos=EOS) | settings
  return sampling.sample(
    Script(*lines), None, testing.prompts(prompts), jax.random.key(0),
    **settings,
  )  # fmt: skip


def test_the_first_end_is_kept_and_nothing_after_it():
  made = _recite(
    [[5, 6, EOS, 7, EOS, 8], [5, 6, 7, 8, EOS, 9]], [[BOS, 3], [BOS]]
  )
  assert _said(made) == [[5, 6, EOS], [5, 6, 7, 8, EOS]]
  np.testing.assert_array_equal(made.length_B, [5, 6])


def test_what_is_cut_off_has_no_end():
  made = _recite([[5, 6, 7, 8, 9, 10, 11, 12]] * 2, [[BOS, 3, 4], [BOS]])
  assert _said(made) == [[5, 6, 7, 8, 9], [5, 6, 7, 8, 9, 10, 11]]
  np.testing.assert_array_equal(made.length_B, [8, 8])


def test_an_end_in_the_last_place_counts():
  made = _recite([[5, 6, 7, 8, EOS, 9]], [[BOS, 3, 4]])
  assert _said(made) == [[5, 6, 7, 8, EOS]]


def test_an_end_at_once_is_a_sequence_of_one():
  made = _recite([[EOS, 5, 5], [5, EOS, 5]], [[BOS, 3], [BOS, 3]])
  assert _said(made) == [[EOS], [5, EOS]]


def test_a_continuation_can_be_kept_short():
  made = _recite([[5, 6, 7, 8], [5, EOS, 7, 8]], [[BOS], [BOS, 3]], max_new=2)
  assert _said(made) == [[5, 6], [5, EOS]]


def test_a_prompt_is_told_by_its_length_not_by_its_tokens():
  """Ids of padding and of the end, inside a prompt, are its tokens."""
  prompts = [[BOS, EOS, 0, 7], [BOS, 0, 0], [BOS, EOS]]
  made = _recite([[5, EOS, 9]] * 3, prompts)
  assert _said(made) == [[5, EOS]] * 3
  for row, prompt in zip(np.asarray(made.tokens_BT), prompts, strict=True):
    assert row[: len(prompt)].tolist() == prompt


def test_a_prompt_that_fills_all_is_left_alone():
  made = _recite([[5, 6]], [[BOS, 3, 4, 6, 7, 8]], max_length=6)
  assert _said(made) == [[]]
  assert made.tokens_BT[0].tolist() == [BOS, 3, 4, 6, 7, 8]


@functools.cache
def _made():
  model = testing.tiny((1, 2), (2, 4))
  weights = testing.activate(testing.weights(model), 2, 1)
  weights = testing.activate(weights, 3, 0)
  return model, weights.replace(fresh=testing.expert(model, 3))


@functools.cache
def _sampler(**settings):
  model, _ = _made()
  settings = dict(max_length=testing.CONTEXT, eos=EOS) | settings
  return jax.jit(functools.partial(sampling.sample, model, **settings))


def _greedy_by_reading_all(rows):
  """Each next token from a whole forward pass: no cache anywhere."""
  model, weights = _made()
  forward = jax.jit(model.forward)
  rows, said = [list(row) for row in rows], [[] for _ in rows]
  for _ in range(testing.CONTEXT):
    width = testing.CONTEXT
    tokens = jnp.array([row + [0] * (width - len(row)) for row in rows])
    length = jnp.array([len(row) for row in rows])
    place = jnp.broadcast_to(jnp.arange(width)[None], tokens.shape)
    # Told by length, whatever the ids: prompts hold those of padding and EOS.
    segments = jnp.where(place < length[:, None], 1, -1)
    logits = np.asarray(forward(weights, tokens, segments, place))
    for index, row in enumerate(rows):
      ended = said[index] and said[index][-1] == EOS
      if not ended and len(row) < width:
        said[index].append(int(logits[index, len(row) - 1].argmax()))
        row.append(said[index][-1])
  return said


def test_cached_decoding_says_what_uncached_reading_would():
  _, weights = _made()
  rows = RAGGED * 2
  made = _sampler(temperature=0)(
    weights, testing.prompts(rows), jax.random.key(0)
  )
  assert _said(made) == _greedy_by_reading_all(rows)
  assert len({tuple(x) for x in _said(made)}) > 2


@pytest.mark.parametrize(
  'changes',
  [
    {},
    dict(looped=True),
    dict(looped=True, arrangement='depth', layer_levels=(2, 1)),
  ],
)
def test_cached_logits_equal_uncached_ones(changes):
  model, weights = _made()
  if changes:
    model = testing.tiny(**changes)
    weights = testing.weights(model)
  tokens = testing.batch().tokens_BT[:4]
  length_B = jnp.array([1, 3, 4, 6])
  last, steps = 3, 4
  whole = jax.jit(model.forward)(
    weights, *transformer.rows(tokens, length_B + steps)
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


def test_eight_asked_together_say_what_each_says_alone():
  _, weights = _made()
  rows = RAGGED + [[BOS, token] for token in (3, 4, 5, 6)]
  sample = _sampler(temperature=0)
  together = sample(weights, testing.prompts(rows), jax.random.key(0))
  alone = [
    _said(sample(weights, testing.prompts([row] * 8), jax.random.key(1)))[0]
    for row in rows
  ]
  assert _said(together) == alone


def test_wider_prompts_say_the_same_from_the_same_key():
  _, weights = _made()
  sample, key = _sampler(temperature=1.0), jax.random.key(3)
  narrow = sample(weights, testing.prompts(RAGGED), key)
  wide = sample(weights, testing.prompts(RAGGED, width=9), key)
  assert _said(narrow) == _said(wide)


def test_draws_follow_the_models_odds():
  """Many first tokens after one prompt, against the softmax that says them."""
  model, weights = _made()
  num, prompt = 6000, [BOS, 7, 8]
  made = _sampler(temperature=2.0, max_new=1)(
    weights, testing.prompts([prompt] * num, width=3), jax.random.key(5)
  )
  logits, _ = jax.jit(functools.partial(model.prefill, cache_size=3))(
    weights, jnp.array([prompt]), jnp.array([3])
  )
  odds = np.asarray(jax.nn.softmax(logits[0] / 2.0))
  found = np.bincount([x[0] for x in _said(made)], minlength=V) / num
  spread = np.sqrt(odds * (1 - odds) / num)
  assert (np.abs(found - odds) < 4.5 * spread + 1 / num).all()


@pytest.mark.parametrize('vocab_size', [5, 32, 70])
def test_a_pick_follows_the_odds_and_never_takes_the_impossible(vocab_size):
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
def test_a_certain_word_is_picked_at_both_ends_of_the_draw(certain):
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
    # Mass is counted among the k: 0.4 / 0.85 + 0.3 / 0.85 > 0.8.
    (dict(top_k=3, top_p=0.8), [1, 3]),
  ],
)
def test_top_k_and_top_p_by_hand(settings, kept):
  logits = jnp.asarray(ODDS, jnp.float32)[None] + 2.0
  out = np.asarray(sampling.filter_logits(logits, **settings))[0]
  assert np.flatnonzero(np.isfinite(out)).tolist() == kept
  np.testing.assert_array_equal(out[kept], np.asarray(logits)[0, kept])

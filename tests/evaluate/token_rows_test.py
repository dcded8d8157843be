"""Packed rows give the states of each sequence read alone."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.evaluate import token_rows
from sleep_jax.objectives import losses
from tests import testing
from tests.evaluate import ability_model

Target = token_rows.Target
SEQUENCES = (
  Target([1, 9, 8, 20, 21, 22], 4),
  Target([1, 9, 8, 30, 31], 4),
  Target([1, 9, 8, 40, 41, 42, 43, 44], 5),
  Target([1, 9, 8, 50, 51, 52], 5),
)


def test_sequences_share_a_row_and_their_common_beginning():
  rows = token_rows.pack(SEQUENCES, width=9)
  _ = -1
  assert rows.tokens_NT.tolist() == [
    [1, 9, 8, 20, 21, 30, 0, 0, 0],
    [1, 9, 8, 40, 41, 42, 43, 50, 51],
  ]
  assert rows.segments_NT.tolist() == [
    [0, 0, 0, 1, 1, 2, _, _, _],
    [0, 0, 0, 1, 1, 1, 1, 2, 2],
  ]
  assert rows.positions_NT.tolist() == [
    [0, 1, 2, 3, 4, 3, 0, 0, 0],
    [0, 1, 2, 3, 4, 5, 6, 3, 4],
  ]
  assert rows.target_M.tolist() == [21, 22, 31, 42, 43, 44, 52]
  # The state of the token before each target.
  before = rows.tokens_NT.reshape(-1)[rows.at_M].tolist()
  assert before == [20, 21, 30, 41, 42, 43, 51]


def test_a_packed_sequence_has_the_states_that_it_has_alone():
  model, weights = ability_model.model(), ability_model.weights()
  together = token_rows.states(
    model, weights, token_rows.pack(SEQUENCES, width=16)
  )
  read = jax.jit(model.states)
  alone = []
  for sequence in SEQUENCES:
    tokens = jnp.asarray([sequence.tokens[:-1]], jnp.int32)
    length = jnp.asarray([tokens.shape[1]], jnp.int32)
    states_TD = read(weights, *types.model_inputs(tokens, length))[0]
    alone.append(states_TD[sequence.first - 1 :])
  testing.close(together, np.concatenate(alone))


def test_the_first_rows_do_not_depend_on_what_follows():
  model, weights = ability_model.model(), ability_model.weights()
  windows = [
    Target([1, *np.random.default_rng(n).integers(3, 250, 12).tolist()], 1)
    for n in range(4)
  ]
  cut = [windows[0], Target(windows[1].tokens[:6], 1)]
  whole, part = (
    token_rows.states(model, weights, token_rows.pack(given, width=12))
    for given in (windows, cut)
  )
  assert np.array_equal(whole[: len(part)], part)


def test_losses_and_divergences_are_those_of_whole_logits():
  model, first = ability_model.model(), ability_model.weights()
  other = ability_model.weights(1.1)
  rows = token_rows.pack(SEQUENCES, width=16)
  one, two = (token_rows.states(model, w, rows) for w in (first, other))
  logits = [
    model.logits(w, jnp.asarray(x))[None]
    for w, x in ((first, one), (other, two))
  ]
  expected = losses.divergence(*logits, beta=0)[0]
  found = token_rows.divergences(model, first, one, other, two)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
  assert found.min() > 0
  same = token_rows.divergences(model, first, one, first, one)
  assert not same.any()
  nats = token_rows.nats(model, first, one, rows.target_M)
  target_1M = jnp.asarray(rows.target_M)[None]
  likelihood = losses.token_log_likelihood(logits[0], target_1M)[0]
  np.testing.assert_allclose(nats, -likelihood, rtol=1e-5)

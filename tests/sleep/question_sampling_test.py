"""Rows continue prompts that are read once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.sleep import question_calls, question_sampling
from tests import testing

_NEW, _WIDTH = 5, 4
_PROMPTS = [1, 20, 21, 5], [1, 9]
_ROWS = (  # Prompt, given tokens, banned tokens.
  (0, [7, 8], []),
  (1, [11], []),
  (0, [], []),
  (0, [7, 8], []),
)


@functools.cache
def _model():
  model = testing.tiny()
  return model, testing.weights(model)


@functools.cache
def _program():
  model, _ = _model()

  @jax.jit
  def write(weights, prompts, rows, ends_V, key, temperature):
    return question_sampling.write(
      model, weights, prompts, rows, ends_V, key, max_new=_NEW,
      temperature=temperature,
    )  # fmt: skip

  return write


def _write(rows=_ROWS, *, ends=(), temperature=0.0, seed=0, absent=1):
  ends_V = np.isin(np.arange(testing.VOCAB), ends)
  given = [row[1] for row in rows] + [[]] * absent
  banned = np.full((len(given), 2), -1)
  for number, (_, _, tokens) in enumerate(rows):
    banned[number, : len(tokens)] = tokens
  texts = _program()(
    _model()[1],
    types.Texts(
      jnp.asarray(question_calls.padded(_PROMPTS, _WIDTH)),
      jnp.asarray([len(p) for p in _PROMPTS], jnp.int32),
    ),
    question_calls.Rows(
      jnp.asarray([row[0] for row in rows] + [0] * absent, jnp.int32),
      jnp.asarray(question_calls.padded(given, 3)),
      jnp.asarray([len(row[1]) for row in rows] + [-1] * absent, jnp.int32),
      jnp.asarray(banned, jnp.int32),
    ),
    jnp.asarray(ends_V),
    jax.random.key(seed),
    temperature,
  )
  return [
    row[:size].tolist()
    for row, size in zip(np.asarray(texts.tokens_BT), texts.length_B,
                         strict=True)
  ]  # fmt: skip


def _likeliest(prompt, given, banned=()):
  """Returns the next likeliest tokens, one forward pass for each."""
  model, weights = _model()
  tokens = [*_PROMPTS[prompt], *given]
  for _ in range(_NEW):
    padded = jnp.asarray([tokens + [0] * (12 - len(tokens))])
    length = jnp.asarray([len(tokens)])
    logits = testing.forward(model)(
      weights, *types.model_inputs(padded, length)
    )
    next_V = np.array(logits[0, len(tokens) - 1])
    next_V[list(banned)] = -np.inf
    tokens.append(int(next_V.argmax()))
  return tokens[-_NEW:]


def test_each_row_has_the_likeliest_tokens_after_its_prompt():
  found = _write()
  assert found[:3] == [_likeliest(*row[:2]) for row in _ROWS[:3]]
  assert found[3] == found[0]
  assert found[4] == []  # An absent row.


def test_banned_tokens_are_not_written_but_may_be_given():
  first = _likeliest(0, [7, 8])[0]
  rows = ((0, [7, 8], [first, 8]), *_ROWS[1:])
  found = _write(rows)
  assert found[0] == _likeliest(0, [7, 8], [first, 8])
  assert found[1:] == _write()[1:]


def test_a_text_ends_with_an_end_token_and_the_others_go_on():
  all_tokens = _write()
  end = all_tokens[0][1]
  for found, whole in zip(_write(ends=[end]), all_tokens, strict=True):
    stop = whole.index(end) + 1 if end in whole else len(whole)
    assert found == whole[:stop]


def test_sampling_follows_the_key():
  one, same = _write(temperature=1.0), _write(temperature=1.0)
  assert one == same
  assert one != _write(temperature=1.0, seed=1)
  assert one[0] != one[3]  # Equal rows draw their own tokens.


def test_calls_have_one_shape_and_keep_the_order():
  shapes, seen = set(), []

  def write(prompts, rows, ends_V, call, temperature, max_new):
    del ends_V, temperature, max_new
    shapes.add(jax.tree.map(np.shape, (prompts, rows)).__repr__())
    seen.append(int(call))
    present = rows.given_length_B >= 0
    first = prompts.tokens_BT[rows.prompt_B, 0]
    tokens = np.stack([first, rows.given_BO[:, 0]], 1)
    return types.Texts(tokens, np.where(present, 2, 0))

  calls = question_calls.Calls(write)
  rows = [question_calls.Row(n // 5, [n + 1]) for n in range(150)]
  prompts = {n: [100 + n, 3] for n in range(30)}
  found = calls.write(prompts, rows, np.zeros(4, bool), max_new=2)
  assert found == [[100 + n // 5, n + 1] for n in range(150)]
  assert calls.num_tokens == 300
  assert len(shapes) == 1 and seen == list(range(len(seen)))

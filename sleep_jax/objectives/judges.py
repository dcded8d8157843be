"""Judges: decide whether two texts have the same meaning.

A judge is a function `(wanted, found) -> (score_B, metrics)` of the teacher's
text and the student's completion. The score is from 0 to 1, 1 for the same
meaning; the metrics are what it measured, by name. A judge is compiled into
the night. It is a `jax.tree_util.Partial`, whose tables of the vocabulary are
arguments, so that one compiled night serves all tokenizers.

References: 2606.03979 v2 section 3.3 (the semantic reward).
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types

Array = types.Array
# (wanted, found), lists of texts -> for each pair a score from 0 to 1.
TextJudge = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
MATCH, TEACHER, ENCODER = 'match', 'teacher', 'encoder'
_PERCENTILE = 99  # Of the cosines of unrelated pairs; related ones exceed it.


class Completion(NamedTuple):
  """Continuations of sequences after a cut.

  Attributes:
    tokens_BS: int32, the first EOS included.
    length_B: int32.
    states_fn: () -> `[B, S, D]`, the teacher's last hidden states at these
      tokens; computed only if it is called.
  """

  tokens_BS: Array
  length_B: Array
  states_fn: Callable[[], Array]


Judge = Callable[[Completion, Completion], tuple[Array, dict[str, Array]]]


class Tokenizer(Protocol):
  """The part of a tokenizer that judges use."""

  vocab_size: int

  def decode(self, ids: Iterable[int]) -> str: ...


def make(name: str, tokenizer: Tokenizer) -> Judge:
  """Returns a judge by its name.

  Args:
    name: 'match', 'teacher', 'encoder:FOLDER' (see `sentence_encoder`), or
      'module:function', a `TextJudge` of your own.
    tokenizer: decodes the tokens that are compared.

  Raises:
    ConfigError: there is no such judge, or yours fails on a trial call.
  """
  if name == MATCH:
    return match(tokenizer)
  if name == TEACHER:
    return teacher(tokenizer)
  module, colon, function = name.partition(':')
  place = f'consolidate.imitation.judge {name!r}'
  if not (module and colon and function):
    raise errors.ConfigError(
      f'{place} is unknown: expected {MATCH!r}, {TEACHER!r}, '
      "'encoder:FOLDER' or 'module:function'."
    )
  if module == ENCODER:
    # It imports scipy, which takes 0.2 seconds.
    from sleep_jax.objectives import sentence_encoder

    encoder = sentence_encoder.Encoder(function)
    similar = functools.partial(sentence_encoder.are_similar, encoder)
    return from_function(similar, tokenizer, place=place)
  try:
    called = getattr(importlib.import_module(module), function)
  except (ImportError, AttributeError) as error:
    raise errors.ConfigError(
      f'{place} cannot be imported: {error}. Name a function of a module on '
      'the Python path.'
    ) from error
  wanted = ['a red house', 'yes', '']
  _call_checked(called, wanted, ['A red house.', 'no', ''], place)
  return from_function(called, tokenizer, place=place)


def match(tokenizer: Tokenizer) -> Judge:
  """Returns a judge that compares letters and digits, token by token.

  Case, spaces, punctuation, BOS and EOS are ignored.
  """
  return jax.tree_util.Partial(_judge_by_match, _normal_forms(tokenizer))


def _judge_by_match(form_V, wanted, found):
  wanted_BS, found_BS = (
    _compact_forms(jnp.asarray(form_V), x.tokens_BS, x.length_B)
    for x in (wanted, found)
  )
  return jnp.all(wanted_BS == found_BS, 1).astype(jnp.float32), {}


def teacher(tokenizer: Tokenizer) -> Judge:
  """Returns a judge that compares the teacher's mean hidden states.

  Two texts have the same meaning if they match, or if the cosine of their mean
  hidden states exceeds that of 99 in 100 unrelated pairs. The mean over all
  wanted texts is subtracted first, because the states of one model share a
  direction. The unrelated pairs are the wanted texts and the same texts rotated
  by half the batch, without pairs that match. The limit is the judge's metric
  `unrelated`.
  """
  return jax.tree_util.Partial(_judge_by_states, match(tokenizer))


def _judge_by_states(matches, wanted, found):
  wanted_BD, found_BD = _mean_states(wanted), _mean_states(found)
  centre_1D = wanted_BD.mean(0, keepdims=True)
  wanted_BD, found_BD = wanted_BD - centre_1D, found_BD - centre_1D
  rotate = lambda x: jnp.roll(x, x.shape[0] // 2, 0)
  others = Completion(
    rotate(wanted.tokens_BS), rotate(wanted.length_B), wanted.states_fn
  )
  same_B, _ = matches(wanted, others)
  unrelated_B = jnp.where(
    same_B > 0, jnp.nan, _cosine(wanted_BD, rotate(wanted_BD))
  )
  limit = jnp.nanpercentile(unrelated_B, _PERCENTILE)
  # Without unrelated pairs there is no limit: only a match counts.
  limit = jnp.where(jnp.isnan(limit), 1.0, limit)
  matched_B, _ = matches(wanted, found)
  near_B = _cosine(wanted_BD, found_BD) > limit
  return jnp.maximum(matched_B, near_B), {'unrelated': limit}


def from_function(
  function: TextJudge, tokenizer: Tokenizer, *, place: str
) -> Judge:
  """Returns a judge that calls a Python function on decoded texts.

  Args:
    function: scores pairs of texts, on the host.
    tokenizer: decodes the tokens.
    place: names the judge in errors.
  """

  def callback(wanted_BS, wanted_length_B, found_BS, found_length_B):
    wanted, found = (
      [
        tokenizer.decode(row[:length].tolist())
        for row, length in zip(tokens_BS, length_B, strict=True)
      ]
      for tokens_BS, length_B in (
        (np.asarray(wanted_BS), np.asarray(wanted_length_B)),
        (np.asarray(found_BS), np.asarray(found_length_B)),
      )
    )
    return _call_checked(function, wanted, found, place)

  def judge(wanted, found):
    shape = jax.ShapeDtypeStruct(wanted.length_B.shape, jnp.float32)
    score_B = jax.pure_callback(
      callback, shape, wanted.tokens_BS, wanted.length_B, found.tokens_BS,
      found.length_B,
    )  # fmt: skip
    return score_B, {}

  return jax.tree_util.Partial(judge)


def _call_checked(function, wanted, found, place):
  """Calls a `TextJudge` and checks its result."""
  try:
    scores = np.asarray(function(wanted, found), np.float32)
  except Exception as error:
    raise errors.ConfigError(
      f'{place} failed on {len(wanted)} pairs of texts, the first '
      f'{wanted[0]!r} and {found[0]!r}: {type(error).__name__}: {error}'
    ) from error
  if scores.shape != (len(wanted),):
    raise errors.ConfigError(
      f'{place} returned shape {scores.shape} for {len(wanted)} pairs of '
      'texts: expected one number for each.'
    )
  wrong = ~((scores >= 0) & (scores <= 1))  # True for NaN.
  if wrong.any():
    row = int(np.argmax(wrong))
    raise errors.ConfigError(
      f'{place} returned {scores[row]} for {wanted[row]!r} and {found[row]!r}: '
      'expected 0 (different meaning) to 1 (same meaning).'
    )
  return scores


def _mean_states(completion):
  """Returns the mean hidden state of each completion, `[B, D]`."""
  states_BSD = completion.states_fn().astype(jnp.float32)
  place_1S = jnp.arange(states_BSD.shape[1])[None]
  inside_BS1 = (place_1S < completion.length_B[:, None])[..., None]
  total_BD = jnp.sum(jnp.where(inside_BS1, states_BSD, 0), 1)
  return total_BD / jnp.maximum(completion.length_B, 1)[:, None]


def _cosine(a_BD, b_BD):
  size_B = jnp.linalg.norm(a_BD, axis=1) * jnp.linalg.norm(b_BD, axis=1)
  return jnp.sum(a_BD * b_BD, 1) / jnp.maximum(size_B, 1e-9)


def _normal_forms(tokenizer):
  """Numbers the normal forms of tokens, int32 `[V]`; 0 is the empty form."""
  forms = {'': 0}
  found = []
  for token in range(tokenizer.vocab_size):
    text = tokenizer.decode([token])
    # A token with part of a character only equals itself.
    whole = '\ufffd' not in text
    letters = ''.join(c for c in text.casefold() if c.isalnum())
    form = letters if whole else f'part {token}'
    found.append(forms.setdefault(form, len(forms)))
  return np.array(found, np.int32)


def _compact_forms(form_V, tokens_BS, length_B):
  """Returns forms in their order without empty ones, padded with 0."""
  inside_BS = jnp.arange(tokens_BS.shape[1])[None] < length_B[:, None]
  form_BS = jnp.where(inside_BS, form_V[tokens_BS], 0)
  order_BS = jnp.argsort(form_BS == 0, axis=1, stable=True)
  return jnp.take_along_axis(form_BS, order_BS, 1)

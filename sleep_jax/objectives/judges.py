"""Judges: does what the student said mean what the teacher had said?

A judge is `(wanted, said) -> (yes_B, found)`: 1 for yes and 0 for no, and what
it measured on the way, by name. It is compiled into the night, and a
`jax.tree_util.Partial`: tables that depend on the vocabulary are arguments, so
that one compiled night serves them all.

References: 2606.03979 v2 section 3.3 (the semantic reward).
"""

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.objectives import sentence_encoder

Array = types.Array
# (wanted, said), both texts -> of each pair 0 to 1.
TextJudge = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
MATCH, TEACHER, ENCODER = 'match', 'teacher', 'encoder'
_UNRELATED = 99  # Percentile of unrelated pairs that a related one exceeds.


class Completion(NamedTuple):
  """How sequences go on after a cut.

  Attributes:
    tokens_BS: int32, the first EOS included.
    length_B: int32.
    read: () -> `[B, S, D]`, the teacher's last hidden states at these tokens;
      computed only if it is called.
  """

  tokens_BS: Array
  length_B: Array
  read: Callable[[], Array]


Judge = Callable[[Completion, Completion], tuple[Array, dict[str, Array]]]


class Tokenizer(Protocol):
  """A tokenizer, as far as a judge asks one."""

  vocab_size: int

  def decode(self, ids: Iterable[int]) -> str: ...


def make(name: str, tokenizer: Tokenizer) -> Judge:
  """A judge by its name.

  Args:
    name: 'match', 'teacher', 'encoder:FOLDER' (see `sentence_encoder`), or
      'module:function', a `Call` of your own.

  Raises:
    ValueError: there is no such judge, or yours fails a question put to it.
  """
  if name == MATCH:
    return match(tokenizer)
  if name == TEACHER:
    return teacher(tokenizer)
  module, colon, function = name.partition(':')
  place = f'consolidate.imitation.judge {name!r}'
  if not (module and colon and function):
    raise ValueError(
      f'{place} is unknown: expected {MATCH!r}, {TEACHER!r}, '
      "'encoder:FOLDER' or 'module:function'."
    )
  if module == ENCODER:
    encoder = sentence_encoder.Encoder(function)
    alike = functools.partial(sentence_encoder.are_similar, encoder)
    return from_function(alike, tokenizer, place=place)
  try:
    called = getattr(importlib.import_module(module), function)
  except (ImportError, AttributeError) as error:
    raise ValueError(
      f'{place} cannot be imported: {error}. Name a function of a module that '
      'Python finds from here.'
    ) from error
  _ask(called, ['a red house', 'yes', ''], ['A red house.', 'no', ''], place)
  return from_function(called, tokenizer, place=place)


def match(tokenizer: Tokenizer) -> Judge:
  """The same letters and digits in the same tokens, whatever else there is.

  Case, spaces, punctuation, BOS and EOS do not count.
  """
  return jax.tree_util.Partial(_matched, _forms(tokenizer))


def _matched(form_V, wanted, said):
  wanted_BS, said_BS = (
    _spoken(jnp.asarray(form_V), x.tokens_BS, x.length_B)
    for x in (wanted, said)
  )
  return jnp.all(wanted_BS == said_BS, 1).astype(jnp.float32), {}


def teacher(tokenizer: Tokenizer) -> Judge:
  """A match, or nearer to the teacher's mind than unrelated endings are.

  Nearness is the cosine of mean hidden states, less the mean of all that was
  wanted: states of one model share a direction. Unrelated are an ending that
  was wanted and the one half a set away, unless they match. `unrelated` is the
  cosine that 99 in 100 of those pairs stay below, and that must be exceeded.
  """
  return jax.tree_util.Partial(_near, match(tokenizer))


def _near(same, wanted, said):
  wanted_BD, said_BD = _meaning(wanted), _meaning(said)
  centre_1D = wanted_BD.mean(0, keepdims=True)
  wanted_BD, said_BD = wanted_BD - centre_1D, said_BD - centre_1D
  far = lambda x: jnp.roll(x, x.shape[0] // 2, 0)
  others = Completion(far(wanted.tokens_BS), far(wanted.length_B), wanted.read)
  alike_B, _ = same(wanted, others)
  apart_B = jnp.where(alike_B > 0, jnp.nan, _cosine(wanted_BD, far(wanted_BD)))
  limit = jnp.nanpercentile(apart_B, _UNRELATED)
  # Where all are alike nothing but a match can be told.
  limit = jnp.where(jnp.isnan(limit), 1.0, limit)
  matched_B, _ = same(wanted, said)
  near_B = _cosine(wanted_BD, said_BD) > limit
  return jnp.maximum(matched_B, near_B), {'unrelated': limit}


def from_function(function: TextJudge, tokenizer: Tokenizer, *, place: str) -> Judge:
  """A judge in Python, asked about texts on the host.

  Args:
    place: what an error calls it.
  """

  def asked(wanted_BS, wanted_length_B, said_BS, said_length_B):
    wanted, said = (
      [
        tokenizer.decode(row[:length].tolist())
        for row, length in zip(tokens_BS, length_B, strict=True)
      ]
      for tokens_BS, length_B in (
        (np.asarray(wanted_BS), np.asarray(wanted_length_B)),
        (np.asarray(said_BS), np.asarray(said_length_B)),
      )
    )
    return _ask(function, wanted, said, place)

  def judge(wanted, said):
    shape = jax.ShapeDtypeStruct(wanted.length_B.shape, jnp.float32)
    yes_B = jax.pure_callback(
      asked, shape, wanted.tokens_BS, wanted.length_B, said.tokens_BS,
      said.length_B,
    )  # fmt: skip
    return yes_B, {}

  return jax.tree_util.Partial(judge)


def _ask(function, wanted, said, place):
  try:
    found = np.asarray(function(wanted, said), np.float32)
  except Exception as error:
    raise ValueError(
      f'{place} failed on {len(wanted)} pairs of texts, the first '
      f'{wanted[0]!r} and {said[0]!r}: {type(error).__name__}: {error}'
    ) from error
  if found.shape != (len(wanted),):
    raise ValueError(
      f'{place} gave shape {found.shape} for {len(wanted)} pairs of texts: '
      'expected one number for each.'
    )
  wrong = ~((found >= 0) & (found <= 1))  # NaN is neither.
  if wrong.any():
    row = int(np.argmax(wrong))
    raise ValueError(
      f'{place} gave {found[row]} for {wanted[row]!r} and {said[row]!r}: '
      'expected 0 (no) to 1 (yes).'
    )
  return found


def _meaning(ending):
  """Mean hidden state of each ending, `[B, D]`."""
  states_BSD = ending.read().astype(jnp.float32)
  place_1S = jnp.arange(states_BSD.shape[1])[None]
  inside_BS1 = (place_1S < ending.length_B[:, None])[..., None]
  total_BD = jnp.sum(jnp.where(inside_BS1, states_BSD, 0), 1)
  return total_BD / jnp.maximum(ending.length_B, 1)[:, None]


def _cosine(a_BD, b_BD):
  size_B = jnp.linalg.norm(a_BD, axis=1) * jnp.linalg.norm(b_BD, axis=1)
  return jnp.sum(a_BD * b_BD, 1) / jnp.maximum(size_B, 1e-9)


def _forms(tokenizer):
  """int32 `[V]`: tokens of one normal form share a number; 0 is no form."""
  forms = {'': 0}
  found = []
  for token in range(tokenizer.vocab_size):
    text = tokenizer.decode([token])
    # Part of a character: nothing but itself is like it.
    whole = '\ufffd' not in text
    letters = ''.join(c for c in text.casefold() if c.isalnum())
    form = letters if whole else f'part {token}'
    found.append(forms.setdefault(form, len(forms)))
  return np.array(found, np.int32)


def _spoken(form_V, tokens_BS, length_B):
  """Forms in their order, those without a form left out, 0 at the end."""
  inside_BS = jnp.arange(tokens_BS.shape[1])[None] < length_B[:, None]
  form_BS = jnp.where(inside_BS, form_V[tokens_BS], 0)
  order_BS = jnp.argsort(form_BS == 0, axis=1, stable=True)
  return jnp.take_along_axis(form_BS, order_BS, 1)

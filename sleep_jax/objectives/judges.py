"""Judges: does what the student said mean what the teacher had said?

A judge is `(wanted_BS, wanted_length_B, said_BS, said_length_B) -> [B]`, 1 for
yes and 0 for no, compiled into the night.

References: 2606.03979 v2 section 3.3 (the semantic reward).
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import jax.numpy as jnp
import numpy as np

from sleep_jax import types

Array = types.Array
Judge = Callable[[Array, Array, Array, Array], Array]


class Words(Protocol):
  """A tokenizer, as far as a judge asks one."""

  vocab_size: int

  def decode(self, ids: Iterable[int]) -> str: ...


def match(words: Words) -> Judge:
  """The same letters and digits in the same tokens, whatever else there is.

  Case, spaces, punctuation, BOS and EOS do not count.
  """
  form_V = _forms(words)

  def judge(wanted_BS, wanted_length_B, said_BS, said_length_B):
    wanted_BS = _spoken(jnp.asarray(form_V), wanted_BS, wanted_length_B)
    said_BS = _spoken(jnp.asarray(form_V), said_BS, said_length_B)
    return jnp.all(wanted_BS == said_BS, 1).astype(jnp.float32)

  return judge


def _forms(words):
  """int32 `[V]`: tokens of one normal form share a number; 0 is no form."""
  forms = {'': 0}
  found = []
  for token in range(words.vocab_size):
    text = words.decode([token])
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

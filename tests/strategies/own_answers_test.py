"""Prompts of a batch that a model answers, and the texts that they begin."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.strategies import own_answers
from tests import testing


def test_a_prompt_has_the_text_that_it_begins_also_in_a_packed_row():
  """Texts of 4 and 3 tokens, and one of 4 that goes on; three prompts."""
  none = [0, 0]
  batch = testing.batch(rows=2).replace(
    tokens_BT=jnp.asarray([[1, 5, 6, 2, 1, 7, 2, 0], [1, 8, 9, 4, 0, 0, 0, 0]]),
    segments_BT=jnp.asarray(
      [[1, 1, 1, 1, 2, 2, 2, -1], [1, 1, 1, 1, -1, -1, -1, -1]]
    ),
    prompts=types.Prompts(
      tokens_BP=jnp.asarray([[1, 5], [1, 7], [1, 8], none]),
      length_B=jnp.asarray([2, 2, 2, 0]),
      subject_B2=jnp.asarray([none] * 4),
    ),
  )
  drawn = own_answers.draw(batch, jax.random.key(0), num=6, eos=2)
  texts = [
    (*np.asarray(prompt), *np.asarray(text)[: int(length)])
    for prompt, text, length in zip(
      drawn.tokens_BP, drawn.context.tokens_BT, drawn.context.length_B,
      strict=True,
    )
  ]  # fmt: skip
  expected = [(1, 5, 1, 5, 6), (1, 7, 1, 7), (1, 8, 1, 8, 9, 4)]
  assert sorted(texts[:3]) == sorted(texts[3:]) == expected

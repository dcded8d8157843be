"""Writes short texts after prompts that many rows share.

The model reads a prompt once. Each row of it continues the prompt with tokens
of its own that are given, and then with tokens that it samples. A row has
tokens that it must not write.

References: 2606.03979 v2 section 3.4 (texts about the day that the model writes
itself).
"""

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import blocks, sampling
from sleep_jax.sleep import question_calls

Array = types.Array


def write(
  model: types.Model,
  weights: types.Weights,
  prompts: types.Texts,
  rows: question_calls.Rows,
  ends_V: Array,
  key: Array,
  *,
  max_new: int,
  temperature: Array | float,
) -> types.Texts:
  """Samples the rows of some prompts.

  Args:
    model: with `prefill` and `decode`.
    weights: of the model.
    prompts: `[N, P]`, read once each.
    rows: what continues them.
    ends_V: bool, the tokens that end a text.
    key: consumed.
    max_new: most tokens that a row samples.
    temperature: of sampling. 0 takes the most likely token.

  Returns:
    The sampled tokens `[B, max_new]`, without the given ones, and their number,
    with the token that ends the text. Of an absent row the number is 0.
  """
  B, num_given = rows.given_BO.shape
  P = prompts.tokens_BT.shape[1]
  logits_NV, caches = model.prefill(
    weights,
    prompts.tokens_BT,
    prompts.length_B,
    cache_size=P + num_given + max_new,
  )
  weights = blocks.unstack(model.config, weights)  # Once for all tokens.
  logits_BV = logits_NV[rows.prompt_B]
  caches = jax.tree.map(
    lambda x: jnp.take(x, rows.prompt_B, x.ndim - 4), caches
  )
  size_B = prompts.length_B[rows.prompt_B]
  slots = jnp.arange(P + num_given + max_new)[None]
  in_prompt_BS = slots < size_B[:, None]
  num_given_B = jnp.maximum(rows.given_length_B, 0)

  def draw(logits_BV, t):
    logits_BV = jnp.where(_banned(rows, logits_BV.shape), -jnp.inf, logits_BV)
    likeliest_B = jnp.argmax(logits_BV, -1)
    logits_BV = logits_BV / jnp.where(temperature > 0, temperature, 1)
    drawn_B = sampling.pick(jax.random.fold_in(key, t), logits_BV)
    return jnp.where(temperature > 0, drawn_B, likeliest_B)

  def step(carry):
    t, logits_BV, caches, done_B, out_BG, length_B = carry
    at = jnp.minimum(t, num_given - 1)
    is_given_B = t < num_given_B
    token_B = jnp.where(is_given_B, rows.given_BO[:, at], draw(logits_BV, t))
    token_B = token_B.astype(jnp.int32)
    writes_B = ~is_given_B & ~done_B
    place_B = jnp.where(writes_B, t - num_given_B, max_new)
    out_BG = out_BG.at[jnp.arange(B), place_B].set(token_B, mode='drop')
    length_B = jnp.where(writes_B, t - num_given_B + 1, length_B)
    done_B |= writes_B & (ends_V[token_B] | (length_B >= max_new))
    mask_BS = in_prompt_BS | ((slots >= P) & (slots <= P + t))
    logits_BV, caches = model.decode(
      weights, token_B, size_B + t, mask_BS, caches, P + t
    )
    return t + 1, logits_BV, caches, done_B, out_BG, length_B

  zero_B = jnp.zeros((B,), jnp.int32)
  carry = (
    jnp.int32(0), logits_BV, caches, rows.given_length_B < 0,
    jnp.zeros((B, max_new), jnp.int32), zero_B,
  )  # fmt: skip
  *_, out_BG, length_B = jax.lax.while_loop(
    lambda carry: ~jnp.all(carry[3]), step, carry
  )
  return types.Texts(out_BG, length_B)


def _banned(rows, shape):
  """Returns bool `[B, V]`, the tokens that a row must not write."""
  banned_BK = jnp.where(rows.banned_BK < 0, shape[1], rows.banned_BK)
  row_B1 = jnp.arange(shape[0])[:, None]
  none = jnp.zeros(shape, bool)
  return none.at[row_B1, banned_BK].set(True, mode='drop')

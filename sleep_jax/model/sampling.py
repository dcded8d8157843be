"""Sampling with a KV cache: ragged prompts in, rollouts out, all on device.

Prompts are told by their lengths, never by a padding id. All rows write their
t-th new token to the same cache slot P + t, so that a write is one slice;
positions stay those of the row's own sequence.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array
_BLOCK = 32
_BELOW_ONE = 1 - 2**-22
# (weights, prompts, key) -> Rollout
Sample = Callable[[types.Weights, types.Prompts, Array], types.Rollout]


class Cached(Protocol):
  """A model that can read prompts and then go on token by token."""

  prefill: Callable
  decode: Callable


def sample(
  model: Cached,
  weights: types.Weights,
  prompts: types.Prompts,
  key: Array,
  *,
  max_length: int,
  eos: int,
  max_new: int | None = None,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> types.Rollout:
  """Continues each prompt until EOS or `max_length` tokens in all.

  Args:
    model: with `prefill` and `decode`.
    prompts: `[B, P]`, each of at least one token.
    key: consumed.
    max_length: of prompt and continuation together; a longer sequence is cut
      and then holds no EOS.
    max_new: longest continuation; default: what `max_length` leaves.
    temperature: 0 takes the likeliest token.
    top_k: likeliest tokens to draw from; 0 means all.
    top_p: smallest set of tokens with at least this mass.

  Returns:
    Rollout of width `max_length`; the first EOS is kept, nothing after it.
  """
  tokens_BP, length_B = prompts.tokens_BP, prompts.length_B
  B, P = tokens_BP.shape
  # The shortest prompt is one token.
  new = min(max_length - 1, max_new or max_length)
  logits_BV, cache = model.prefill(
    weights, tokens_BP, length_B, cache_size=P + new
  )
  in_prompt_BS = jnp.arange(P + new)[None] < length_B[:, None]

  def draw(logits_BV, t):
    if temperature == 0:
      return jnp.argmax(logits_BV, -1)
    logits_BV = restrict(logits_BV / temperature, top_k=top_k, top_p=top_p)
    return pick(jax.random.fold_in(key, t), logits_BV)

  def write(t, logits_BV, out_BT, done_B, end_B):
    done_B = done_B | (length_B + t >= max_length)
    token_B = jnp.where(done_B, eos, draw(logits_BV, t)).astype(jnp.int32)
    out_BT = jax.lax.dynamic_update_slice_in_dim(out_BT, token_B[:, None], t, 1)
    end_B = jnp.where(done_B, end_B, length_B + t + 1)
    return token_B, out_BT, done_B | (token_B == eos), end_B

  def step(carry):
    t, cache, (token_B, *written) = carry
    slots = jnp.arange(P + new)[None]
    mask_BS = in_prompt_BS | ((slots >= P) & (slots < P + t))
    logits_BV, cache = model.decode(
      weights, token_B, length_B + t - 1, mask_BS, cache, P + t - 1
    )
    return t + 1, cache, write(t, logits_BV, *written)

  nothing = (
    jnp.full((B, new), eos, jnp.int32), jnp.zeros((B,), bool), length_B,
  )  # fmt: skip
  carry = jnp.int32(1), cache, write(0, logits_BV, *nothing)
  going = lambda carry: (carry[0] < new) & ~jnp.all(carry[2][2])
  _, _, (_, out_BT, _, end_B) = jax.lax.while_loop(going, step, carry)
  return types.Rollout(
    tokens_BT=_join(tokens_BP, length_B, out_BT, max_length),
    prompt_length_B=length_B,
    length_B=end_B,
  )


def pick(key: Array, logits_BV: Array) -> Array:
  """A word per row, drawn by its odds.

  One uniform number per row is looked up in the summed odds, first of blocks of
  words, then inside the block: noise for every word costs more than the sums
  (benchmarks/draws.py). A word of no odds is never drawn.
  """
  odds_BV = jnp.exp(logits_BV - jnp.max(logits_BV, -1, keepdims=True))
  odds_BV = jnp.pad(odds_BV, ((0, 0), (0, -odds_BV.shape[1] % _BLOCK)))
  odds_BNK = odds_BV.reshape(len(odds_BV), -1, _BLOCK)
  upto_BN = jnp.cumsum(jnp.sum(odds_BNK, -1), -1)
  # Below 1, so that rounding leaves it below the sum of all.
  at_B1 = jax.random.uniform(key, (len(odds_BV), 1), maxval=_BELOW_ONE)
  at_B1 = at_B1 * upto_BN[:, -1:]
  block_B1 = jnp.argmax(upto_BN > at_B1, -1, keepdims=True)
  upto_BN = jnp.pad(upto_BN, ((0, 0), (1, 0)))
  rest_B1 = at_B1 - jnp.take_along_axis(upto_BN, block_B1, 1)
  inside_BK = jnp.take_along_axis(odds_BNK, block_B1[..., None], 1)[:, 0]
  inside_BK = jnp.cumsum(inside_BK, -1)
  # The two sums of a block are not rounded alike.
  rest_B1 = jnp.minimum(rest_B1, inside_BK[:, -1:] * _BELOW_ONE)
  return block_B1[:, 0] * _BLOCK + jnp.argmax(inside_BK > rest_B1, -1)


def restrict(logits_BV: Array, *, top_k: int, top_p: float) -> Array:
  """Logits with everything outside top-k and top-p at minus infinity."""
  V = logits_BV.shape[-1]
  if 0 < top_k < V:
    least = jax.lax.top_k(logits_BV, top_k)[0][:, -1:]
    logits_BV = jnp.where(logits_BV < least, -jnp.inf, logits_BV)
  if top_p < 1:
    ordered = jnp.sort(logits_BV, -1)[:, ::-1]
    mass = jnp.cumsum(jax.nn.softmax(ordered, -1), -1)
    # The token that crosses top_p is kept, so that one always is.
    last = jnp.sum(mass < top_p, -1, keepdims=True)
    least = jnp.take_along_axis(ordered, jnp.minimum(last, V - 1), -1)
    logits_BV = jnp.where(logits_BV < least, -jnp.inf, logits_BV)
  return logits_BV


def _join(tokens_BP, length_B, out_BT, max_length):
  """Puts each row's continuation right after its own prompt."""
  place = jnp.arange(max_length)[None]
  after = jnp.clip(place - length_B[:, None], 0, out_BT.shape[1] - 1)
  prompt = jnp.take_along_axis(
    tokens_BP, jnp.minimum(place, tokens_BP.shape[1] - 1), 1
  )
  continuation = jnp.take_along_axis(out_BT, after, 1)
  return jnp.where(place < length_B[:, None], prompt, continuation)

"""Sampling with a KV cache, on the device: ragged prompts to rollouts.

The length of a prompt defines its end, never a padding token. All rows write
their t-th new token to the same cache slot P + t, so that a write is one slice.
Positions are those within the sequence of each row.
"""

from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array
_BLOCK = 32  # Tokens per block in `pick`.
_BELOW_ONE = 1 - 2**-22


class CachedModel(Protocol):
  """A model with prefill of prompts and decoding of one token at a time."""

  prefill: Callable
  decode: Callable
  next_logits_and_states: Callable


def sample(
  model: CachedModel,
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
  keep_states: bool = False,
) -> types.Rollout:
  """Continues each prompt until EOS or the maximum length.

  Args:
    model: model with `prefill` and `decode`.
    weights: weights of the model.
    prompts: `[B, P]`, each of at least one token.
    key: consumed.
    max_length: maximum number of tokens of prompt and continuation together. A
      longer sequence is cut and has no EOS.
    eos: end token.
    max_new: maximum number of tokens of the continuation. By default, as many
      as `max_length` allows.
    temperature: sampling temperature. 0 takes the most likely token.
    top_k: number of most likely tokens to sample from. 0 means all.
    top_p: samples from the smallest set of tokens with at least this
      probability. 1 means all.
    keep_states: whether the inputs of the head that predicted each generated
      token are returned, as many as a sequence can have.

  Returns:
    Rollout of width `max_length`. Sequences end with their first EOS. From
    there on, tokens and states are arbitrary.
  """
  tokens_BP, length_B = prompts.tokens_BP, prompts.length_B
  B, P = tokens_BP.shape
  # The shortest prompt is one token.
  num_new = min(max_length - 1, max_new or max_length)
  read = model.next_logits_and_states
  (logits_BV, state_BD), cache = model.prefill(
    weights, tokens_BP, length_B, cache_size=P + num_new, read=read
  )
  in_prompt_BS = jnp.arange(P + num_new)[None] < length_B[:, None]

  def draw(logits_BV, t):
    if temperature == 0:
      return jnp.argmax(logits_BV, -1)
    logits_BV = filter_logits(logits_BV / temperature, top_k=top_k, top_p=top_p)
    return pick(jax.random.fold_in(key, t), logits_BV)

  def put(x_BT, new_B, t):
    return jax.lax.dynamic_update_slice_in_dim(x_BT, new_B[:, None], t, 1)

  def write(t, logits_BV, state_BD, out_BT, states_BTD, done_B, end_B):
    done_B = done_B | (length_B + t >= max_length)
    token_B = jnp.where(done_B, eos, draw(logits_BV, t)).astype(jnp.int32)
    out_BT = put(out_BT, token_B, t)
    states_BTD = put(states_BTD, state_BD[:, :D], t)
    end_B = jnp.where(done_B, end_B, length_B + t + 1)
    return token_B, out_BT, states_BTD, done_B | (token_B == eos), end_B

  def step(carry):
    t, cache, (token_B, *written) = carry
    slots = jnp.arange(P + num_new)[None]
    mask_BS = in_prompt_BS | ((slots >= P) & (slots < P + t))
    (logits_BV, state_BD), cache = model.decode(
      weights, token_B, length_B + t - 1, mask_BS, cache, P + t - 1, read
    )
    return t + 1, cache, write(t, logits_BV, state_BD, *written)

  out_BT = jnp.full((B, num_new), eos, jnp.int32)
  D = state_BD.shape[1] if keep_states else 0
  states_BTD = jnp.zeros((B, num_new, D), state_BD.dtype)
  initial = out_BT, states_BTD, jnp.zeros((B,), bool), length_B
  carry = jnp.int32(1), cache, write(0, logits_BV, state_BD, *initial)
  unfinished = lambda carry: (carry[0] < num_new) & ~jnp.all(carry[2][3])
  *_, (_, out_BT, states_BTD, _, end_B) = jax.lax.while_loop(
    unfinished, step, carry
  )
  return types.Rollout(
    tokens_BT=_join(tokens_BP, length_B, out_BT, max_length),
    prompt_length_B=length_B,
    length_B=end_B,
    states_BGD=states_BTD if keep_states else None,
  )


def pick(key: Array, logits_BV: Array) -> Array:
  """Samples one token per row from the softmax of its logits.

  Looks up one uniform number per row in cumulative sums, first of blocks of
  tokens, then of the tokens of one block. This costs less than Gumbel noise for
  every token (benchmarks/draws.py). A token of probability 0 is never sampled.
  """
  odds_BV = jnp.exp(logits_BV - jnp.max(logits_BV, -1, keepdims=True))
  odds_BV = jnp.pad(odds_BV, ((0, 0), (0, -odds_BV.shape[1] % _BLOCK)))
  odds_BNK = odds_BV.reshape(len(odds_BV), -1, _BLOCK)
  cumulative_BN = jnp.cumsum(jnp.sum(odds_BNK, -1), -1)
  # Below 1, so that after rounding it is still below the sum of all.
  target_B1 = jax.random.uniform(key, (len(odds_BV), 1), maxval=_BELOW_ONE)
  target_B1 = target_B1 * cumulative_BN[:, -1:]
  block_B1 = jnp.argmax(cumulative_BN > target_B1, -1, keepdims=True)
  cumulative_BN = jnp.pad(cumulative_BN, ((0, 0), (1, 0)))
  rest_B1 = target_B1 - jnp.take_along_axis(cumulative_BN, block_B1, 1)
  inside_BK = jnp.take_along_axis(odds_BNK, block_B1[..., None], 1)[:, 0]
  inside_BK = jnp.cumsum(inside_BK, -1)
  # The sum and the cumulative sum of a block are rounded differently.
  rest_B1 = jnp.minimum(rest_B1, inside_BK[:, -1:] * _BELOW_ONE)
  return block_B1[:, 0] * _BLOCK + jnp.argmax(inside_BK > rest_B1, -1)


def filter_logits(logits_BV: Array, *, top_k: int, top_p: float) -> Array:
  """Sets logits outside top-k and top-p to minus infinity.

  Args:
    logits_BV: logits.
    top_k: see `sample`.
    top_p: see `sample`. Probabilities are those after top-k.
  """
  V = logits_BV.shape[-1]
  if 0 < top_k < V:
    threshold = jax.lax.top_k(logits_BV, top_k)[0][:, -1:]
    logits_BV = jnp.where(logits_BV < threshold, -jnp.inf, logits_BV)
  if top_p < 1:
    ordered = jnp.sort(logits_BV, -1)[:, ::-1]
    mass = jnp.cumsum(jax.nn.softmax(ordered, -1), -1)
    # Keeps the token that crosses top_p, so that at least one token is kept.
    last = jnp.sum(mass < top_p, -1, keepdims=True)
    threshold = jnp.take_along_axis(ordered, jnp.minimum(last, V - 1), -1)
    logits_BV = jnp.where(logits_BV < threshold, -jnp.inf, logits_BV)
  return logits_BV


def _join(tokens_BP, length_B, out_BT, max_length):
  """Concatenates each prompt, without its padding, and its continuation."""
  index = jnp.arange(max_length)[None]
  after = jnp.clip(index - length_B[:, None], 0, out_BT.shape[1] - 1)
  prompt = jnp.take_along_axis(
    tokens_BP, jnp.minimum(index, tokens_BP.shape[1] - 1), 1
  )
  continuation = jnp.take_along_axis(out_BT, after, 1)
  return jnp.where(index < length_B[:, None], prompt, continuation)

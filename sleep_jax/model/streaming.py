"""Streams generated tokens to the host, for several prompts at once.

`model.sampling` generates whole rollouts on the device. Here each token is
returned as soon as it is sampled.
"""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.model import blocks, sampling, transformer

Array = types.Array
# Lengths of prompts and caches are rounded up to multiples of this, so that few
# programs are compiled.
_STEP = 64


def stream(
  model: transformer.Transformer,
  weights: types.Weights,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  max_new: int,
  end_tokens: Sequence[int],
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> Iterator[list[int | None]]:
  """Yields the next token of each prompt, None where a text has ended.

  End tokens are not yielded. The stream ends when all texts have ended.

  Args:
    model: the model.
    weights: weights of the model. Call `prepare` first if several streams use
      the same weights.
    prompts: tokens of each prompt, BOS first, at least one.
    key: consumed.
    max_new: maximum number of new tokens of each prompt.
    end_tokens: tokens that end a text.
    temperature, top_k, top_p: see `sampling.sample`.
  """
  if not math.isfinite(temperature) or temperature < 0:
    raise errors.ConfigError(
      f'temperature is {temperature}: expected 0 or more.'
    )
  if not weights.blocks:
    weights = prepare(model, weights)
  length_B = np.array([len(prompt) for prompt in prompts], np.int32)
  P = padded_length(int(length_B.max()))
  tokens_BP = np.zeros((len(prompts), P), np.int32)
  for row, prompt in enumerate(prompts):
    tokens_BP[row, : len(prompt)] = prompt
  settings = (model, temperature, top_k, top_p)
  length_B, slot = jax.device_put((length_B, np.int32(P)))
  token_B, cache = _prefill(
    *settings, P + padded_length(max_new), weights, tokens_BP, length_B, key
  )
  ended_B = np.zeros(len(prompts), bool)
  for index in range(max_new):
    new_B = np.asarray(token_B)
    ended_B |= np.isin(new_B, list(end_tokens))
    if ended_B.all():
      return
    yield [
      None if ended else int(token)
      for token, ended in zip(new_B, ended_B, strict=True)
    ]
    if index + 1 < max_new:
      token_B, cache, slot = _decode(
        *settings, P, weights, cache, token_B, length_B, slot, key
      )


def prepare(
  model: transformer.Transformer, weights: types.Weights
) -> types.Weights:
  """Returns weights for `stream`, unstacked once for all streams."""
  return weights if model.config.looped else _unstack(model, weights)


@functools.partial(jax.jit, static_argnums=0)
def _unstack(model, weights):
  return blocks.unstack(model.config, weights)


def _draw(logits_BV, key, index, temperature, top_k, top_p):
  """Samples the `index`-th new token of each row."""
  if temperature == 0:
    return jnp.argmax(logits_BV, -1).astype(jnp.int32)
  logits_BV = sampling.filter_logits(
    logits_BV / temperature, top_k=top_k, top_p=top_p
  )
  key = jax.random.fold_in(key, index)
  return sampling.pick(key, logits_BV).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _prefill(
  model, temperature, top_k, top_p, size, weights, tokens_BP, length_B, key
):
  """Returns the first token of each row and caches of `size` slots."""
  logits_BV, cache = model.prefill(
    weights, tokens_BP, length_B, cache_size=size
  )
  return _draw(logits_BV, key, 0, temperature, top_k, top_p), cache


@functools.partial(
  jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnames='cache'
)
def _decode(
  model, temperature, top_k, top_p, P, weights, cache, token_B, length_B, slot,
  key,
):  # fmt: skip
  """Writes tokens to a cache slot. Returns the next ones, cache and slot."""
  slots, index = jnp.arange(cache[0][0].shape[-2])[None], slot - P
  mask_BS = (slots < length_B[:, None]) | ((slots >= P) & (slots <= slot))
  logits_BV, cache = model.decode(
    weights, token_B, length_B + index, mask_BS, cache, slot
  )
  token_B = _draw(logits_BV, key, index + 1, temperature, top_k, top_p)
  return token_B, cache, slot + 1


def padded_length(size: int) -> int:
  """Rounds a number of tokens up to 16, 32, 64, 128, 192 and so on."""
  step = _STEP if size > _STEP // 2 else _STEP // 4
  return -(-size // step) * step

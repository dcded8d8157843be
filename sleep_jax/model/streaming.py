"""Decoding for people: token by token as it comes, many prompts at once.

`model.sampling` writes whole rollouts on the device; here each token is handed
out as soon as it is drawn, and text as soon as its bytes are complete.
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.model import sampling, transformer

Array = types.Array
_STEP = 64  # Prompts and caches grow by so many tokens: few programs serve all.


def stream(
  model: transformer.Transformer,
  weights: types.Weights,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  max_new: int,
  ends: Sequence[int],
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> Iterator[list[int | None]]:
  """One token for each prompt at a time; None where a text is over.

  What ends a text is not handed out. It stops when all are over.

  Args:
    weights: made `ready` where they are streamed with more than once.
    prompts: tokens, BOS first; at least one each.
    key: consumed.
    max_new: most tokens of each.
    ends: tokens that end a text.
    temperature, top_k, top_p: see `sampling.sample`.
  """
  if not weights.blocks:
    weights = ready(model, weights)
  length_B = np.array([len(prompt) for prompt in prompts], np.int32)
  P = padded(int(length_B.max()))
  tokens_BP = np.zeros((len(prompts), P), np.int32)
  for row, prompt in enumerate(prompts):
    tokens_BP[row, : len(prompt)] = prompt
  how = (model, temperature, top_k, top_p)
  length_B, at = jax.device_put((length_B, np.int32(P)))
  token_B, cache = _begin(
    *how, P + padded(max_new), weights, tokens_BP, length_B, key
  )
  over_B = np.zeros(len(prompts), bool)
  for place in range(max_new):
    found_B = np.asarray(token_B)
    over_B |= np.isin(found_B, list(ends))
    if over_B.all():
      return
    yield [None if over else int(token)
           for token, over in zip(found_B, over_B, strict=True)]  # fmt: skip
    if place + 1 < max_new:
      token_B, cache, at = _step(
        *how, P, weights, cache, token_B, length_B, at, key
      )


def ready(
  model: transformer.Transformer, weights: types.Weights
) -> types.Weights:
  """Weights to `stream` with, unstacked once for all streams."""
  return weights if model.config.looped else _unstacked(model, weights)


@functools.partial(jax.jit, static_argnums=0)
def _unstacked(model, weights):
  return model.unstacked(weights)


def _draw(logits_BV, key, place, temperature, top_k, top_p):
  if temperature == 0:
    return jnp.argmax(logits_BV, -1).astype(jnp.int32)
  logits_BV = sampling.restrict(
    logits_BV / temperature, top_k=top_k, top_p=top_p
  )
  key = jax.random.fold_in(key, place)
  return sampling.pick(key, logits_BV).astype(jnp.int32)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
def _begin(
  model, temperature, top_k, top_p, size, weights, tokens_BP, length_B, key
):
  logits_BV, cache = model.prefill(
    weights, tokens_BP, length_B, cache_size=size
  )
  return _draw(logits_BV, key, 0, temperature, top_k, top_p), cache


@functools.partial(
  jax.jit, static_argnums=(0, 1, 2, 3, 4), donate_argnames='cache'
)
def _step(
  model, temperature, top_k, top_p, P, weights, cache, token_B, length_B, at,
  key,
):  # fmt: skip
  """The token after the one that goes to slot `at`; and the next slot."""
  slots, place = jnp.arange(cache[0][0].shape[-2])[None], at - P
  mask_BS = (slots < length_B[:, None]) | ((slots >= P) & (slots <= at))
  logits_BV, cache = model.decode(
    weights, token_B, length_B + place, mask_BS, cache, at
  )
  drawn_B = _draw(logits_BV, key, place + 1, temperature, top_k, top_p)
  return drawn_B, cache, at + 1


def padded(size: int) -> int:
  """Tokens that there is room for where `size` are needed."""
  step = _STEP if size > _STEP // 2 else _STEP // 4  # 16, 32, 64, 128, 192...
  return -(-size // step) * step

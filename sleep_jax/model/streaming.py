"""Streams generated tokens to the host, for several prompts at once.

`model.sampling` generates whole rollouts on the device. Here each token is
returned as soon as it is sampled.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from sleep_jax import errors, types
from sleep_jax.model import blocks, layer_programs, transformer

Array = types.Array
_STEP = 64  # See `padded_length`.


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
  programs = layer_programs.make(
    model, temperature=temperature, top_k=top_k, top_p=top_p
  )
  length_B = np.array([len(prompt) for prompt in prompts], np.int32)
  P = padded_length(int(length_B.max()))
  size = P + padded_length(max_new)
  tokens_BP = np.zeros((len(prompts), P), np.int32)
  for row, prompt in enumerate(prompts):
    tokens_BP[row, : len(prompt)] = prompt
  h_B1D, cache = programs.prefill(weights, tokens_BP, length_B, cache_size=size)
  ended_B = np.zeros(len(prompts), bool)
  for index in range(max_new):
    token_B, token = programs.draw(
      weights, h_B1D, key, length_B, P=P, index=index, cache_size=size
    )
    new_B = np.asarray(token_B)
    ended_B |= np.isin(new_B, list(end_tokens))
    if ended_B.all():
      return
    yield [
      None if ended else int(token)
      for token, ended in zip(new_B, ended_B, strict=True)
    ]
    if index + 1 < max_new:
      h_B1D = programs.read(weights, token, cache)


def prepare(
  model: transformer.Transformer, weights: types.Weights
) -> types.Weights:
  """Returns weights for `stream`, with each layer by itself.

  On one CPU the layers are views of the stacked arrays. Elsewhere they are
  copies, made once for all streams, or if `config.looped` they stay stacked and
  each is copied out while it is used.
  """
  if _is_on_one_cpu(weights):
    return _unstack_views(model.config, weights)
  return weights if model.config.looped else _unstack(model, weights)


def _is_on_one_cpu(weights) -> bool:
  (device, *others) = weights.params['embed'].sharding.device_set
  return device.platform == 'cpu' and not others


def _unstack_views(config, weights):
  """Returns unstacked weights that share the memory of the stacked ones."""
  (device,) = weights.params['embed'].sharding.device_set
  view = lambda tree: jax.tree.map(np.asarray, tree)
  own = {p: x for p, x in weights.params.items() if 'blocks/' not in p}
  stacked = {p: x for p, x in weights.params.items() if p not in own}
  stacked = weights.replace(
    params=view(stacked), adapter=view(weights.adapter),
    fresh=view(weights.fresh),
  )  # fmt: skip
  config = dataclasses.replace(config, looped=False)
  layers = blocks.unstack(config, stacked).blocks
  # Arrays that are aligned are not copied, and cannot be donated any more.
  layers = jax.device_put(layers, device, may_alias=True)
  return weights.replace(params=own, adapter=None, fresh=None, blocks=layers)


@functools.partial(jax.jit, static_argnums=0)
def _unstack(model, weights):
  return blocks.unstack(model.config, weights)


def padded_length(size: int) -> int:
  """Rounds a number of tokens up to 16, 32, 64, 128, 192, 256, 320, 384 ...

  There are four lengths from each power of two to the next, beginning at 256,
  so that few programs are compiled.
  """
  if size <= _STEP // 2:
    return max(_STEP // 4, -(-size // 16) * 16)
  step = max(_STEP, 2 ** ((size - 1).bit_length() - 3))
  return -(-size // step) * step

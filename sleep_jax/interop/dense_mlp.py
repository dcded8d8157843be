"""TODO: interop.dense_mlp (from interop.dense)."""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.interop import hf_checkpoint, hf_config, hf_names
from sleep_jax.model import config, transformer

# Fields of a model of which an ordinary checkpoint knows nothing.
_OURS = (
  'levels', 'arrangement', 'layer_levels', 'router', 'router_spread', 'top_k',
  'gate_bias', *config.COMPUTED,
)  # fmt: skip


def reason_not_dense(
  model: transformer.Transformer,
  weights: types.Weights,
  base_model: hf_checkpoint.HfCheckpoint | None = None,
) -> str:
  """Why these weights are no ordinary checkpoint; '' if they are one.

  Args:
    host: what the model was born of; None: it was born here.
  """
  c = model.config
  if weights.fresh or weights.adapter:
    return 'a night is under way: wake up first'
  on = bool(np.asarray(weights.active_NE).any())
  if on and c.router != 'always':
    return (
      f'model.router is {c.router!r}: how far an expert opens depends on what '
      "it reads, which no ordinary MLP can say. Only 'always' is exact"
    )
  if c.arrangement == 'depth':
    sizes = {level.hidden for level in c.levels}
    return (
      ''
      if len(sizes) == 1 and not on
      else (
        "model.arrangement is 'depth' with experts on, or with levels of "
        'different sizes: layers would have MLPs of different sizes, which no '
        'ordinary checkpoint has'
      )
    )
  if c.arrangement != 'independent' and not is_base_only(model, weights):
    return (
      f'model.arrangement is {c.arrangement!r}: levels in a chain are no one '
      "MLP. Only 'independent' levels are exact"
    )
  return '' if base_model else unsupported_fields(c)


def named_tensors(
  model: transformer.Transformer, weights: types.Weights, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
  """Names and tensors of the checkpoint, one after the other."""
  wide = ('gate', 'up', 'down')
  for path, parts in hf_names.tensor_sources(model):
    name = path.split('/')[-1]
    for source in parts:
      at = source.at
      # In 'depth' a level's MLPs are the host's own.
      several = model.config.arrangement != 'depth'
      if several and name in wide and path.startswith('blocks/levels/'):
        value = _units(model, weights, at[0], name)
      else:
        value = np.asarray(weights.params[path][at] if at else
                           weights.params[path])  # fmt: skip
      value = value.T if source.turned else value
      yield source.name, np.ascontiguousarray(value, dtype)


def native_hf_config(c: config.Model) -> dict[str, Any]:
  """config.json of a model that was born here."""
  kind = 'mistral' if c.window else 'llama'
  if c.qk_norm:
    kind = 'qwen3'
  elif c.qkv_bias and not c.out_bias:
    kind = 'qwen2'
  made: dict[str, Any] = dict(
    model_type=kind, vocab_size=c.vocab_size, hidden_size=c.width,
    num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads,
    num_key_value_heads=c.num_kv_heads, head_dim=c.head_size,
    hidden_act='silu', rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta,
    tie_word_embeddings=c.tied, attention_bias=c.out_bias,
    bos_token_id=c.vocab_size - 2, eos_token_id=c.vocab_size - 1,
  )  # fmt: skip
  return made | hf_config.rope_fields(c) | hf_config.window_fields(c, kind)


def unsupported_fields(c: config.Model) -> str:
  """What of a model its config.json would not say; '' if nothing."""
  try:
    said = hf_config.model_settings(native_hf_config(c), pathlib.Path('config.json'))
  except ValueError as error:
    return f'no family of checkpoints is like this model ({error})'
  again = config.make(said, (), vocab_size=c.vocab_size)
  for field in dataclasses.fields(c):
    mine, theirs = (getattr(x, field.name) for x in (c, again))
    if field.name not in _OURS and mine != theirs:
      return (
        f'model.{field.name} is {mine!r}, where the rest makes it a '
        f'{native_hf_config(c)["model_type"]!r} with {theirs!r}: no family '
        'has both'
      )
  return ''


def _units(model, weights, layer, name) -> np.ndarray:
  """A layer's gate, up or down with the units of all that is on."""
  axis = 0 if name == 'down' else 1
  parts = [
    weights.params[f'blocks/levels/{number}/base/mlp/{name}'][layer]
    for number in trained_levels(model, weights)
  ]
  bank = 'B' if name == 'down' else 'A'
  for number, slot in active_experts(weights):
    parts.append(
      weights.params[f'blocks/levels/{number}/experts/{bank}'][layer, slot]
    )
  return np.concatenate([np.asarray(part) for part in parts], axis)


def hidden_units(model, weights) -> int:
  c = model.config
  if c.arrangement == 'depth':
    return c.levels[0].hidden
  size = sum(c.levels[n - 1].hidden for n in trained_levels(model, weights))
  return size + sum(c.levels[n - 1].rank for n, _ in active_experts(weights))


def trained_levels(model, weights) -> list[int]:
  """The host's own, and those that have learned something."""
  c = model.config
  made = [c.num_levels]
  for number in range(1, c.num_levels):
    path = f'blocks/levels/{number}/base/mlp/down'
    if np.asarray(jax.numpy.any(weights.params[path] != 0)):
      made.append(number)
  return made


def active_experts(weights) -> list[tuple[int, int]]:
  """(level, slot) of every expert that is on."""
  return [(n + 1, e) for n, e in np.argwhere(np.asarray(weights.active_NE))]


def is_base_only(model, weights) -> bool:
  return trained_levels(model, weights) == [
    model.config.num_levels
  ] and not active_experts(weights)

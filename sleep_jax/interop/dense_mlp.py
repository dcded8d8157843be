"""Merges levels and experts into the hidden units of one MLP per layer.

Independent levels read the same norm and add into the same residual branch, so
their SwiGLUs can be concatenated along the hidden axis. An expert with a gate
of 1 is a gated unit, whose gate and up matrices are equal unless
`model.gated_experts` is set. The merged model is therefore exact and needs none
of our code.

References: docs/method.md, "Real models".
"""

import dataclasses
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.interop import (
  hf_checkpoint,
  hf_config,
  hf_layers,
  hf_names,
  hf_rope,
)
from sleep_jax.model import config

# Fields of `config.Model` that do not appear in a Hugging Face checkpoint.
_OWN_FIELDS = (
  'levels', 'arrangement', 'layer_levels', 'router', 'top_k', 'gate_bias',
  'gated_experts', *config.EXECUTION_FIELDS,
)  # fmt: skip
DEPTH = (
  "model.arrangement is 'depth' with active experts or with levels of "
  'different sizes: the MLP size would differ between layers, which no '
  'supported architecture allows'
)


def reasons_not_dense(
  model: types.Model,
  weights: types.Weights,
  base_model: hf_checkpoint.HfCheckpoint | None = None,
) -> list[str]:
  """Returns all reasons why an exact dense export is impossible.

  Args:
    model: the model to export.
    weights: its weights.
    base_model: checkpoint the model was imported from, or None if it was
      pretrained here.

  Returns:
    A clause for each reason; an empty list if the export is exact.
  """
  c = model.config
  reasons = []
  if weights.fresh:
    reasons.append('a night is in progress: finish it first')
  if weights.adapter:
    reasons.append(
      'the model has trained keys and values before all tokens, which its '
      'files have no place for'
    )
  active = _active_experts(weights)
  if active:
    most = max(np.asarray(weights.active_NE).sum(-1))
    reasons += routing_reasons(c, num_experts=int(most))
  if c.arrangement == 'depth':
    if active or len({level.hidden for level in c.levels}) > 1:
      reasons.append(DEPTH)
  elif c.arrangement != 'independent':
    reasons += chain_reasons(
      c,
      {level for level in _trained_levels(model, weights)}
      | {level for level, _ in active},
    )
  if base_model is None and (field := unsupported_fields(c)):
    reasons.append(field)
  return reasons


def routing_reasons(c: config.Model, *, num_experts: int) -> list[str]:
  """Returns why experts with the gates of a config are no hidden units.

  Args:
    c: of the model.
    num_experts: most active experts of a level.
  """
  reasons = []
  if c.router != 'always':
    reasons.append(
      f'model.router is {c.router!r}, whose gates depend on the input: only '
      "'always' is exact"
    )
  if 0 < c.top_k < num_experts:
    reasons.append(
      f'model.top_k is {c.top_k}, so that the input decides which experts are '
      'used: only 0, which uses all, is exact'
    )
  return reasons


def chain_reasons(c: config.Model, levels: Collection[int]) -> list[str]:
  """Returns why a chain of levels is not one MLP.

  A faster level that adds nothing is the identity, and does not matter.

  Args:
    c: of the model, whose levels are a chain.
    levels: numbers of the levels that add something.
  """
  faster = sorted(set(levels) - {c.num_levels})
  if not faster:
    return []
  subject = f'level {faster[0]} adds'
  if len(faster) > 1:
    subject = f'levels {" and ".join(map(str, faster))} add'
  return [
    f'model.arrangement is {c.arrangement!r}, and {subject} to what the next '
    "level reads: only 'independent' levels, or a chain whose faster levels "
    'are empty, are exact'
  ]


def named_tensors(
  model: types.Model, weights: types.Weights, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, tensor) of the dense checkpoint, one tensor at a time."""
  mlp_names = ('gate', 'up', 'down')
  for path, sources in hf_names.tensor_sources(model):
    name = path.split('/')[-1]
    for source in sources:
      index = source.index
      # In 'depth' the MLP of a level is the base model's own.
      merged = model.config.arrangement != 'depth'
      if merged and name in mlp_names and path.startswith('blocks/levels/'):
        value = _merged_matrix(model, weights, index[0], name)
      else:
        value = np.asarray(
          weights.params[path][index] if index else weights.params[path]
        )
      value = value.T if source.transposed else value
      yield source.name, np.ascontiguousarray(value, dtype)


def native_hf_config(c: config.Model) -> dict[str, Any]:
  """Returns the config.json of a model that was pretrained here."""
  model_type = 'mistral' if c.window else 'llama'
  if c.qk_norm:
    model_type = 'qwen3'
  elif c.qkv_bias and not c.out_bias:
    model_type = 'qwen2'
  fields: dict[str, Any] = dict(
    model_type=model_type, vocab_size=c.vocab_size, hidden_size=c.width,
    num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads,
    num_key_value_heads=c.num_kv_heads, head_dim=c.head_size,
    hidden_act='silu', rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta,
    tie_word_embeddings=c.tied, attention_bias=c.out_bias,
    bos_token_id=c.vocab_size - 2, eos_token_id=c.vocab_size - 1,
  )  # fmt: skip
  return fields | hf_rope.fields(c) | hf_layers.fields(c, model_type)


def unsupported_fields(c: config.Model) -> str:
  """Returns which model field a config.json cannot express, or '' if none.

  The config is written as config.json, read back, and compared field by field.
  """
  try:
    fields = hf_config.model_settings(
      native_hf_config(c), pathlib.Path('config.json')
    )
  except ValueError as error:
    return f'no supported architecture matches this model ({error})'
  read_back = config.make(fields, (), vocab_size=c.vocab_size)
  for field in dataclasses.fields(c):
    original, found = (getattr(x, field.name) for x in (c, read_back))
    if field.name not in _OWN_FIELDS and original != found:
      return (
        f'model.{field.name} is {original!r}, but the other fields make it a '
        f'{native_hf_config(c)["model_type"]!r} model with {found!r}: no '
        'supported architecture has this combination'
      )
  return ''


def _merged_matrix(model, weights, layer, name) -> np.ndarray:
  """Returns a layer's gate, up or down matrix with all merged hidden units."""
  axis = 0 if name == 'down' else 1
  parts = [
    weights.params[f'blocks/levels/{number}/base/mlp/{name}'][layer]
    for number in _trained_levels(model, weights)
  ]
  up = 'U' if model.config.gated_experts else 'A'
  bank = {'gate': 'A', 'up': up, 'down': 'B'}[name]
  for number, slot in _active_experts(weights):
    parts.append(
      weights.params[f'blocks/levels/{number}/experts/{bank}'][layer, slot]
    )
  return np.concatenate([np.asarray(part) for part in parts], axis)


def num_hidden_units(model, weights) -> int:
  """Returns the number of hidden units of the merged MLP of one layer."""
  c = model.config
  if c.arrangement == 'depth':
    return c.levels[0].hidden
  size = sum(c.levels[n - 1].hidden for n in _trained_levels(model, weights))
  return size + sum(c.levels[n - 1].rank for n, _ in _active_experts(weights))


def _trained_levels(model, weights) -> list[int]:
  """Returns the slowest level and each faster level whose output is not 0."""
  c = model.config
  levels = [c.num_levels]
  for number in range(1, c.num_levels):
    path = f'blocks/levels/{number}/base/mlp/down'
    if np.asarray(jax.numpy.any(weights.params[path] != 0)):
      levels.append(number)
  return levels


def _active_experts(weights) -> list[tuple[int, int]]:
  """Returns (level, slot) of every active expert."""
  return [(n + 1, e) for n, e in np.argwhere(np.asarray(weights.active_NE))]

"""Describes a model in a few lines of text."""

from typing import Any

from sleep_jax import types
from sleep_jax.interop import dense_mlp, expert_file
from sleep_jax.model import config as config_lib
from sleep_jax.model import rope_scaling


def describe(model: types.Model, weights: types.Weights, loaded: Any) -> str:
  """Returns a few lines: sizes, levels, active experts, and their nights.

  Args:
    model, weights: of `loaded`, or with attached experts.
    loaded: the `open_model.LoadedModel` they come from.
  """
  c = model.config
  count = sum(x.size for x in loaded.weights.params.values())
  lines = [
    f'{count:,} parameters',
    f'  {c.num_layers} blocks of width {c.width}, {c.num_heads} query heads '
    f'and {c.num_kv_heads} key-value heads, vocabulary {c.vocab_size}',
    f'  {_positions(c)}',
    f'  {c.num_levels} levels, {c.arrangement}; router {c.router}',
  ]
  for level, slots in expert_file.active_slots(weights).items():
    lines.append(f'  level {level}: active experts {slots}')
  for row in loaded.expert_history:
    # A row that forgets an expert has the number of the last night.
    when = 'after night' if row['event'] == 'forgotten' else 'night'
    lines.append(
      f'  {when} {row["night"]}: level {row["level"]}, expert {row["slot"]}, '
      f'{row["event"]}'
    )
  reasons = dense_mlp.reasons_not_dense(model, weights, loaded.base_model)
  lines.append(f'  dense export: {"; ".join(reasons) or "exact"}')
  return '\n'.join(lines)


def _positions(c: config_lib.Model) -> str:
  """Returns the kind of rotary positions, and blocks that differ."""
  text = f'rotary positions: {_rope(c.rope_theta, c.rope_scaling)}'
  num_local = sum(c.local)
  if num_local:
    text += f'; {num_local} local blocks with a window of {c.window}'
    if c.local_theta:
      text += f': {_rope(c.local_theta, c.local_scaling)}'
  num_without = len(c.rotated) - sum(c.rotated)
  return text + (f'; {num_without} blocks without' if num_without else '')


def _rope(theta: float, scaling: rope_scaling.Scaling) -> str:
  """Returns theta and scaling, in the words of a config.json."""
  if not isinstance(scaling, tuple):
    kind = type(scaling).__name__.lower()
    factor = getattr(scaling, 'factor', None)  # `longrope` has many.
    positions = f'original length {scaling.positions:g}'
  else:
    kind = {0: 'default', 1: 'linear', 4: 'llama3'}[len(scaling)]
    factor = scaling[0] if scaling else None
    positions = f'original length {scaling[3]:g}' if kind == 'llama3' else ''
  parts = [kind, f'theta {theta:g}']
  parts += [f'factor {factor:g}'] if factor is not None else []
  return ', '.join([*parts, positions] if positions else parts)

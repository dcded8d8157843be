"""Describes a model in a few lines of text."""

from typing import Any

from sleep_jax import types
from sleep_jax.interop import dense_mlp, expert_file


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

"""Trained keys and values that every token attends to, in every layer.

A prefix is a part of `types.Weights.adapter` and has no parameters of its own
in the model. It is not a text: its keys and values differ from layer to layer,
and no token stands for them. Its places have positions below 0, so those of the
tokens stay as they are.

References: cartridges, 2506.06266; prefix tuning, 2101.00190.
"""

import jax.numpy as jnp

from sleep_jax import types

NAME = 'prefix'
PATH = f'blocks/attention/{NAME}'  # In `types.Weights.adapter`.


def init(
  params: types.Params, *, tokens: int, past: int
) -> dict[str, types.Params]:
  """Returns an adapter whose prefix is off, and so changes no output.

  Args:
    params: of the model.
    tokens: P, places of the part that is trained.
    past: number of finished parts that there is room for.

  Returns:
    Of the part that is trained 'key' and 'value', `[L, P, G K]`; of finished
    ones 'past_key' and 'past_value', `[L, past P, G K]`; and 'on',
    `[L, past P + P]`, 1 for places that are attended to, the trained part last.
  """
  L, _, width = params['blocks/attention/key'].shape
  size, names = past * tokens, ('key', 'value')
  own = {name: jnp.zeros((L, tokens, width)) for name in names}
  old = {f'past_{name}': jnp.zeros((L, size, width)) for name in names}
  return {PATH: own | old | {'on': jnp.zeros((L, size + tokens))}}

"""Reads the inputs of the matrices of MLPs, reduced layer by layer.

The inputs of all layers are larger than the activations that a training step
keeps, so each layer's are reduced before the next layer is computed.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import traverse_util

from sleep_jax import types
from sleep_jax.model import attention_kernels, blocks, layers, rope

Array = types.Array


def reduce_inputs(
  model: types.Model,
  weights: types.Weights,
  tokens_BT: Array,
  segments_BT: Array,
  positions_BT: Array,
  reduce: Callable[[str, Array], Any],
) -> dict[str, Any]:
  """Returns what `reduce` makes of the inputs of each matrix of each MLP.

  Args:
    model: a transformer.
    weights: of the model.
    tokens_BT, segments_BT, positions_BT: rows, see `types.Batch`.
    reduce: (name of the matrix, its inputs in one layer `[B, T, D]`) -> tree,
      or None to leave the matrix out.

  Returns:
    Path of the matrix -> tree with a leading axis, the layers of the matrix.
  """
  c = model.config
  found: dict[str, Any] = {}
  mask = attention_kernels.prepare_mask(segments_BT, c.attention)
  positions = rope.make_positions(c, positions_BT, segments_BT)
  h_BTD = model.place('states', model.embed(weights, tokens_BT))
  for block, stack, _ in blocks.block_groups(c, weights):

    def body(h, layer, block=block):
      variables, fresh, kind = layer
      (h, _), recorded = block.apply(
        variables, model.place('states', h), mask, positions, kind,
        weights.active_NE, fresh, weights.opened_BNE, mutable=[layers.INPUTS],
      )  # fmt: skip
      flat = traverse_util.flatten_dict(recorded[layers.INPUTS], sep='/')
      reduced = {
        f'blocks/{path}': reduce(path.rsplit('/', 1)[1], x)
        for path, (x,) in flat.items()
        if '/mlp/' in path
      }
      return h, {path: x for path, x in reduced.items() if x is not None}

    h_BTD, reduced = jax.lax.scan(body, h_BTD, stack)
    found |= reduced
  return found

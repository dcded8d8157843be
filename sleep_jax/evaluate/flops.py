"""Model FLOPs of a run, by the count of the model's own matrices.

Every parameter of a matrix is one multiplication and one addition per token;
attention adds the products of queries, keys and values. Training a token costs
three times its forward pass: the backward pass has a product for the inputs and
one for the weights. Tokens that are sampled, and those that are read without a
backward pass, cost one. What is computed again to save memory is not counted.

Reference: Chowdhery et al. 2022 (PaLM), appendix B.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

PER_TOKEN = 'flops_per_token'  # Of a forward pass.
_TRAINING = 3  # Forward passes that a trained token costs.


def forward_per_token(
  params: Mapping[str, Any], *, length: int, num_layers: int, heads_size: int
) -> int:
  """Returns the FLOPs of a forward pass of one token.

  Args:
    params: path -> array or shape, see `types.Weights.params`. All expert slots
      in it count, so that the number does not depend on how many are in use: it
      is an upper bound where groups of slots without an active one are skipped.
    length: tokens of the row that a query attends to.
    num_layers: number of blocks.
    heads_size: features of all query heads together.
  """
  # Matrices of blocks are stacked over layers; norms and biases are not.
  blocks = sum(
    int(np.prod(leaf.shape))
    for path, leaf in params.items()
    if path.startswith('blocks/') and len(leaf.shape) > 2
  )
  head = params['head'] if 'head' in params else params['embed']
  attention = 2 * num_layers * heads_size * length
  return 2 * (blocks + int(np.prod(head.shape)) + attention)


def of_run(cost: Mapping[str, float]) -> float | None:
  """Returns the FLOPs of a run, or None if its model is not known.

  Args:
    cost: totals of `cost.Cost`.
  """
  per_token = cost.get(PER_TOKEN)
  if not per_token:
    return None
  forward = cost.get('tokens_generated', 0) + cost.get('tokens_forward', 0)
  return float(per_token * (_TRAINING * cost.get('tokens_read', 0) + forward))

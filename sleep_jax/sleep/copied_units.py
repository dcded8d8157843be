"""Starts a fresh expert from units that exist, so that little is left to learn.

Copied units do what they did, if experts are gated like MLPs, their gates are 1
and their input is the same; `learner.checks.check_copied_sender` requires that.
"""

import jax
import jax.numpy as jnp

from sleep_jax import types

Array = types.Array


def of_mlp(params: types.Params, level: int) -> types.Params:
  """Returns the units of a level's MLP, under the names of an expert."""
  prefix = f'blocks/levels/{level}/base/mlp/'
  names = {'A': 'gate', 'U': 'up', 'B': 'down'}
  return {name: params[prefix + array] for name, array in names.items()}


def of_slots(
  bank: types.Params, active_E: Array, slots: Array | None = None
) -> types.Params:
  """Returns the units of experts, those of inactive ones with B = 0.

  Args:
    bank: name -> `[L, E, ...]`.
    active_E: which experts are active.
    slots: numbers of the experts that are taken; None for all.
  """
  slots = jnp.arange(active_E.shape[0]) if slots is None else slots
  active_1S11 = active_E[slots][None, :, None, None] > 0
  down_LSRD = jnp.where(active_1S11, bank['B'][:, slots], 0)
  L, S, R, D = down_LSRD.shape
  columns = lambda x_LEDR: jnp.swapaxes(x_LEDR[:, slots], 1, 2).reshape(
    L, D, S * R
  )
  return {
    'A': columns(bank['A']),
    'U': columns(bank['U']),
    'B': down_LSRD.reshape(L, S * R, D),
  }


def copy(fresh: types.Params, *pools: types.Params) -> types.Params:
  """Returns an expert with the units of each layer that write most.

  Those are the units with the largest norms of their rows of B, times those of
  their columns of U. If the expert has more units than there are, the others
  stay random and add nothing.

  Args:
    fresh: the expert, name -> array, with leading axis L.
    *pools: units, A and U `[L, D, F]` and B `[L, F, D]`.
  """
  join = lambda name, axis: jnp.concatenate(
    [pool[name] for pool in pools], axis
  )
  gate_LDF, up_LDF, down_LFD = join('A', 2), join('U', 2), join('B', 1)
  size = min(fresh['A'].shape[-1], down_LFD.shape[1])
  weight_LF = jnp.linalg.norm(down_LFD, axis=2)
  weight_LF *= jnp.linalg.norm(up_LDF, axis=1)
  unit_LR = jax.lax.top_k(weight_LF, size)[1]
  columns = lambda x_LDF: jnp.take_along_axis(x_LDF, unit_LR[:, None], 2)
  rows_LRD = jnp.take_along_axis(down_LFD, unit_LR[..., None], 1)
  return fresh | {
    'A': fresh['A'].at[:, :, :size].set(columns(gate_LDF)),
    'U': fresh['U'].at[:, :, :size].set(columns(up_LDF)),
    'B': fresh['B'].at[:, :size].set(rows_LRD),
  }

"""Writes the update of a cycle as the change of arrays of one shape.

A night of `sleep` sets a bit in `active_NE`, which is no change of a parameter.
An expert whose output matrix B is zero adds exactly zero, like an inactive
slot. So both ends of a cycle are written with all slots active, and with B = 0
where a slot is inactive. Where B is zero, the other arrays of a slot have no
effect; they take the values of the end at which the slot is active. The update
of a night that adds an expert is then its B, and that of a slot that is never
used is zero. This holds where the gate of a slot does not depend on the other
slots: for the routers 'sigmoid' and 'always', without `top_k`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.model import config as config_lib

_COMPETING = 'softmax'  # Its gates sum to 1 over the active slots.


def check(config: config_lib.Model, weights: Sequence[types.Weights]) -> None:
  """Checks that the updates of a run are well defined.

  Args:
    config: of the model.
    weights: after each cycle.

  Raises:
    ConfigError: experts compete, and a slot is active; or the run keeps what it
      learns in trained keys and values, which are no parameters.
  """
  if any(one.adapter is not None for one in weights):
    raise errors.ConfigError(
      'The run keeps what it learns in an adapter that no matrix can hold, so '
      'the update of a day is no change of parameters. Leave its strategy out '
      'of --strategies.'
    )
  competes = config.router == _COMPETING or config.top_k > 0
  if competes and any(np.any(np.asarray(w.active_NE)) for w in weights):
    raise errors.ConfigError(
      f'config.model has router={config.router!r} and top_k={config.top_k}, '
      'and the run has active experts: a new expert then changes the gates of '
      'the others, and its update is no change of parameters. Expected another '
      "router than 'softmax' and top_k=0: change them, or leave out strategies "
      'that add experts.'
    )


def aligned(
  config: config_lib.Model, before: types.Weights, after: types.Weights
) -> tuple[types.Params, types.Params]:
  """Returns the parameters of both ends of a cycle, for banks that are full.

  Each end computes what its weights compute, if `all_active` is its
  `active_NE`; see `check`.

  Args:
    config: of the model.
    before, after: weights at the ends of a cycle, without an adapter.
  """
  old, new = dict(before.params), dict(after.params)
  for number, level in enumerate(config.levels, 1):
    prefix = f'blocks/levels/{number}/experts/'
    was_E, is_E = (
      np.asarray(w.active_NE)[number - 1, : level.slots] > 0
      for w in (before, after)
    )
    for path in [path for path in old if path.startswith(prefix)]:
      at_start, at_end = before.params[path], after.params[path]
      axes = (1, -1, *(1,) * (at_start.ndim - 2))  # [L, E, ...].
      was, now = was_E.reshape(axes), is_E.reshape(axes)
      if path == f'{prefix}B':
        old[path] = jnp.where(was, at_start, jnp.zeros_like(at_start))
        new[path] = jnp.where(now, at_end, jnp.zeros_like(at_end))
      else:
        old[path] = jnp.where(was, at_start, at_end)
        new[path] = jnp.where(now, at_end, old[path])
  return old, new


def all_active(config: config_lib.Model, active_NE: types.Array) -> types.Array:
  """Returns `active_NE` with every slot of every bank active.

  Args:
    config: of the model.
    active_NE: gives the shape.
  """
  slots = np.array([level.slots for level in config.levels])
  number = np.arange(np.shape(active_NE)[1])
  return jnp.asarray(number[None] < slots[:, None], jnp.float32)

"""Gives the state of a run free expert slots, or one more level.

A free slot is inactive, and an inactive slot adds exactly zero whatever its
arrays hold (`model.experts`), so they are zeros. A night writes all of them
when it puts its expert there.

A new slowest level takes over the MLP of the blocks, with a free bank of its
own. The bank of the level that was the slowest stays where it is, beside that
MLP (`model.config.Level`): it reads the same norm, and the sum is the same.
That level will sleep now. Its day is everything since pretraining, and the
prompts of its day are those of the past.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import errors
from sleep_jax.replay import buffer

_MAY_GROW = ('/experts/', 'active_NE', 'woke_N', 'guard_N')


def grow(state: Any, shapes: Any, *, old_slowest: int = 0) -> Any:
  """Returns a state with larger banks, or with one more level.

  Args:
    state: of a run, outside a night.
    shapes: the new state as `jax.ShapeDtypeStruct` with shardings.
    old_slowest: number of the level that was the slowest; 0: no new level.

  Raises:
    WorkdirError: something else differs between both.
  """
  if old_slowest:
    state = _with_new_day(state, old_slowest)
  base = f'blocks/levels/{old_slowest}/base/'
  next_base = f'blocks/levels/{old_slowest + 1}/base/'
  found = {
    _name(path).replace(base, next_base): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(state)
  }

  def make(path, wanted):
    name = _name(path)
    leaf = found.get(name)
    if leaf is None and base in name and 'norm' in name:
      leaf = found[name.replace(base, next_base)]  # The norm its bank has read.
    if leaf is None and base not in name and '/experts/' not in name:
      raise errors.WorkdirError(
        f'The checkpoint has no such array as {name} to grow from: use the '
        'version that saved it.'
      )
    if leaf is None:
      leaf = jnp.zeros(wanted.shape, wanted.dtype)
    return jax.device_put(_pad(name, leaf, wanted.shape), wanted.sharding)

  return jax.tree_util.tree_map_with_path(make, shapes)


def _name(path):
  return jax.tree_util.keystr(path)


def _pad(name, leaf, shape):
  """Returns an array with zeros behind it; scores repeat the last one."""
  if leaf.shape == shape:
    return leaf
  if not any(part in name for part in _MAY_GROW):
    raise errors.WorkdirError(
      f'{name} of the checkpoint is {leaf.shape}: expected {shape}. Use the '
      'version that saved it.'
    )
  more = [(0, new - old) for old, new in zip(leaf.shape, shape, strict=True)]
  # A new level has no guard score yet: it gets that of the level before it.
  return jnp.pad(leaf, more, mode='edge' if 'guard_N' in name else 'constant')


def _with_new_day(state, sender):
  """Returns the state with an age group of the day of a new sender."""
  like = state.replay.get(buffer.day_group(sender - 1))
  if like is None:
    return state
  group, past = (
    jax.tree.map(jnp.zeros_like, like),
    state.replay.get(buffer.PAST),
  )
  # The past has no documents; without them this day begins now.
  if past is not None and like.documents is None:
    capacity, num_past = like.length_C.shape[0], past.length_C.shape[0]
    num = min(capacity, num_past)
    put = lambda new, old: new.at[:num].set(old[:num]) if new.ndim else old
    group = jax.tree.map(put, group, past)
    if capacity > num_past:  # `count` may not exceed the entries copied here.
      group = group.replace(count=jnp.minimum(past.count, num_past))
  replay = {**state.replay, buffer.day_group(sender): group}
  return state.replace(replay=replay)

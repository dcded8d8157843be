"""Kinds of memory that a run needs, and the bytes of its state by kind.

The bytes of a state are computed from the shapes and shardings of its arrays,
with the padding of tiles on a TPU.
"""

import collections
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from sleep_jax.optim import optimizer
from sleep_jax.planning import tpu_topology
from sleep_jax.runtime import sharding

FROZEN, LEARNED = 'frozen model', 'levels and experts'
ACTIVATIONS, CACHES, GATHERED = 'activations', 'caches', 'gathered weights'
LOGITS, GRADIENTS, ADAPTERS = 'logits', 'gradients', 'adapters'
# Kind by the path of an array in a state. The first match counts; the last
# pattern matches everything but parameters.
_KINDS = (
  (r'^(opt|night/opt|night/opt_next)/', 'moments'),
  (r'^sums/', 'gradient sums'),
  (r'^anchor/', 'anchors'),
  (r'^night/(sender_next|fresh)/', 'uncommitted night weights'),
  (r'^night/|^(second_)?kl_penalty/', 'rehearsals'),
  (r'^(?!weights/params/)', 'replay and counters'),
)
# What to change if a kind is too large: one of these.
_SMALLER_LEVELS = ('lower levels[].hidden', 'raise mesh.fsdp')
REMEDIES = {
  FROZEN: ('raise mesh.fsdp or mesh.tensor', 'use more chips'),
  LEARNED: ('lower levels[].hidden, .slots or .rank', 'raise mesh.fsdp'),
  'moments': _SMALLER_LEVELS,
  'gradient sums': _SMALLER_LEVELS,
  'anchors': _SMALLER_LEVELS,
  'uncommitted night weights': _SMALLER_LEVELS,
  'rehearsals': (
    'lower draws of consolidate.teachers',
    'raise consolidate.updates_per_round',
  ),
  'replay and counters': ('lower replay.day, .past or .pretrain',),
  ACTIVATIONS: (
    'raise micro_batches (of wake, or of consolidate)', 'raise mesh.sequence',
    'shorten rows (data.context, consolidate.max_length)',
    "set model.remat='full'",
  ),
  CACHES: (
    'lower draws of consolidate.teachers', 'lower consolidate.max_new',
    'raise mesh.sequence',
  ),
  GATHERED: ('raise mesh.tensor',),
  LOGITS: ('lower block_tokens (of wake, or of consolidate)',),
  GRADIENTS: (
    *_SMALLER_LEVELS,
    'lower dream.trial.targets',
    "set dream.importance to 'random'",
  ),
  ADAPTERS: (
    'lower dream.trial.rank and .writer.rank', 'name fewer .targets'
  ),
}  # fmt: skip
_ONE_GPU = ('use a smaller model', 'use a card with more memory')


def remedy(kind: str, *, one_gpu: bool = False) -> str:
  """Returns what to change if a kind of memory is too large.

  Args:
    kind: see `REMEDIES`.
    one_gpu: whether there is nothing to shard over.
  """
  options = REMEDIES[kind]
  if one_gpu:
    alone = [x for x in options if 'mesh.' not in x and 'chips' not in x]
    options = tuple(alone) or _ONE_GPU
  return ', or '.join(options)


def state_bytes(
  state: Any,
  *,
  num_levels: int,
  array_bytes: Callable[[Sequence[int], int], int] = tpu_topology.padded_bytes,
) -> dict[str, float]:
  """Returns the bytes per device of a state by kind.

  Args:
    state: shapes with shardings.
    num_levels: number of levels of the model.
    array_bytes: see `chips.Topology`; by default with the padding of a TPU.
  """
  totals: dict[str, float] = collections.defaultdict(float)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = sharding.path_name(path)
    shard = leaf.sharding.shard_shape(leaf.shape)
    itemsize = leaf.dtype.itemsize
    if 'key' in str(leaf.dtype):
      shard, itemsize = (*shard, 2), 4  # A random key is two uint32.
    totals[kind_of(name, num_levels)] += array_bytes(shard, itemsize)
  return dict(totals)


def kind_of(name: str, num_levels: int) -> str:
  """Returns the kind of an array of a state, given its path."""
  for pattern, kind in _KINDS:
    if re.search(pattern, name):
      return kind
  path = name.removeprefix('weights/params/')
  learned = optimizer.parameter_owner(path, num_levels=num_levels) != 'core'
  return LEARNED if learned else FROZEN

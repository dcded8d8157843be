"""Kinds of memory that a run needs, and the bytes of its state by kind.

The bytes of a state are computed from the shapes and shardings of its arrays,
with the padding of TPU tiles.
"""

import collections
import re
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
  (r'^(anchor|average)/', 'anchors'),
  (r'^night/(sender_next|fresh)/', 'what a night proposes'),
  (r'^night/|^kl_penalty/', 'rehearsals'),
  (r'^(?!weights/params/)', 'replay and counters'),
)
# What to change if a kind is too large.
REMEDIES = {
  FROZEN: 'raise mesh.fsdp or mesh.tensor, or use more chips',
  LEARNED: 'lower levels[].hidden, .slots or .rank, or raise mesh.fsdp',
  'moments': 'lower levels[].hidden, or raise mesh.fsdp',
  'gradient sums': 'lower levels[].hidden, or raise mesh.fsdp',
  'anchors': 'lower levels[].hidden, or raise mesh.fsdp',
  'what a night proposes': 'lower levels[].hidden, or raise mesh.fsdp',
  'rehearsals': 'lower draws of consolidate.teachers, or raise '
  'consolidate.updates_per_round',
  'replay and counters': 'lower replay.day, .past or .pretrain',
  ACTIVATIONS: 'raise micro_batches (of wake, or of consolidate) or '
  'mesh.sequence, shorten rows (data.context, consolidate.max_length), or set '
  "model.remat='full'",
  CACHES: 'lower draws of consolidate.teachers, or consolidate.max_new, or '
  'raise mesh.sequence',
  GATHERED: 'raise mesh.tensor',
  LOGITS: 'lower block_tokens (of wake, or of consolidate)',
  GRADIENTS: 'lower levels[].hidden, or raise mesh.fsdp; for dreams, lower '
  "dream.trial.targets, or set dream.importance to 'random'",
  ADAPTERS: 'lower dream.trial.rank and .writer.rank, or name fewer .targets',
}


def state_bytes(state: Any, *, num_levels: int) -> dict[str, float]:
  """Returns the bytes per TPU of a state by kind, with the padding of tiles.

  Args:
    state: shapes with shardings.
    num_levels: number of levels of the model.
  """
  totals: dict[str, float] = collections.defaultdict(float)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = sharding.path_name(path)
    shard = leaf.sharding.shard_shape(leaf.shape)
    itemsize = leaf.dtype.itemsize
    if 'key' in str(leaf.dtype):
      shard, itemsize = (*shard, 2), 4  # A random key is two uint32.
    totals[kind_of(name, num_levels)] += tpu_topology.padded_bytes(
      shard, itemsize
    )
  return dict(totals)


def kind_of(name: str, num_levels: int) -> str:
  """Returns the kind of an array of a state, given its path."""
  for pattern, kind in _KINDS:
    if re.search(pattern, name):
      return kind
  path = name.removeprefix('weights/params/')
  learned = optimizer.parameter_owner(path, num_levels=num_levels) != 'core'
  return LEARNED if learned else FROZEN

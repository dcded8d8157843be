"""TODO: dream.lessons (from phases.trials)."""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types


class Lessons(struct.PyTreeNode):
  """What each of several dreams would have the model learn from.

  Attributes:
    rows: [M, K, T], of each dream its own; or [K, T], those of all.
    weight_MK: how much a row counts for a dream; 0: not at all.
    rate_M: the dream's learning rate, in units of the trial's.
    share_M: of the trial's steps, those that the dream takes.
  """

  rows: types.Rollout
  weight_MK: types.Array
  rate_M: types.Array
  share_M: types.Array

  @property
  def shared(self) -> bool:
    return self.rows.tokens_BT.ndim == 2

  def of(self, at_C: types.Array) -> 'Lessons':
    """Those of some of the dreams."""
    parts = self.replace(rows=None) if self.shared else self
    found = jax.tree.map(lambda x: x[at_C], parts)
    return found.replace(rows=self.rows) if self.shared else found


def from_texts(texts: types.Rollout, valid_MK: types.Array) -> Lessons:
  """Lessons that are the texts of dreams themselves.

  Args:
    texts: `[M K, T]`, those of a dream behind one another.
    valid_MK: 1 for a text that counts.
  """
  M, K = valid_MK.shape
  one_M = jnp.ones((M,))
  rows = jax.tree.map(lambda x: x.reshape(M, K, *x.shape[1:]), texts)
  return Lessons(rows, valid_MK.astype(jnp.float32), one_M, one_M)

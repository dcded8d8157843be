"""Training rows of several dreams, with weights, learning rates and lengths.

A dream is either a set of texts, which are its own training rows, or a choice
of how to learn from rows that all dreams of the task share.
"""

import jax
import jax.numpy as jnp
from flax import struct

from sleep_jax import types


class Lessons(struct.PyTreeNode):
  """What the model would be trained on by each of M dreams.

  Attributes:
    rows: rows of each dream, `[M, K, T]`; or rows that all dreams share,
      `[K, T]`.
    weight_MK: weight of a row in the loss of a dream; 0 leaves the row out.
    rate_M: learning rate of a dream, as a multiple of the trial's.
    share_M: share of the trial's steps that a dream takes, 0 to 1.
  """

  rows: types.Rollout
  weight_MK: types.Array
  rate_M: types.Array
  share_M: types.Array

  @property
  def shared(self) -> bool:
    """Whether all dreams share the same rows."""
    return self.rows.tokens_BT.ndim == 2

  def select(self, index_C: types.Array) -> 'Lessons':
    """Returns the lessons of the dreams at these indices."""
    parts = self.replace(rows=None) if self.shared else self
    found = jax.tree.map(lambda x: x[index_C], parts)
    return found.replace(rows=self.rows) if self.shared else found


def from_texts(texts: types.Rollout, valid_MK: types.Array) -> Lessons:
  """Returns lessons whose rows are the dreams' own texts.

  Args:
    texts: `[M K, T]`; the K texts of a dream are consecutive.
    valid_MK: 1 for a text that counts, else 0.
  """
  M, K = valid_MK.shape
  one_M = jnp.ones((M,))
  rows = jax.tree.map(lambda x: x.reshape(M, K, *x.shape[1:]), texts)
  return Lessons(rows, valid_MK.astype(jnp.float32), one_M, one_M)

"""Reads stored token rows as endless, shuffled batches.

Every epoch visits all rows in a new order drawn from the seed. Reads are random
access and batch `index` is the same for every caller, so a position in the
stream is one integer and does not depend on the number of hosts.
"""

import functools
import zlib
from collections.abc import Mapping

import numpy as np
import tensorstore

from sleep_jax import errors, types
from sleep_jax.data import long_rows, row_layout

# The pretraining rows are shuffled under their former name, 'birth': the
# results in docs/ were measured with that order.
_SEED_NAMES = {'pretrain': 'birth'}


class Source:
  """Stored token rows and the endless, shuffled batches over them.

  Attributes:
    name: used in messages and as a part of the shuffle seed.
    num_rows: number of stored rows; a packed row holds several texts.
    num_tokens: number of tokens in all rows, with BOS and EOS, without padding.
    layout: columns of a stored row.
    num_chats: number of given rows that are turns of conversations.
    skipped: given rows that were too long and are not among them.
    prompt_lengths: tokens of a stored prompt -> number of such prompts.
  """

  def __init__(
    self,
    name: str,
    store: tensorstore.TensorStore,
    *,
    layout: row_layout.Layout,
    num_tokens: int,
    batch_size: int,
    seed: int,
    num_chats: int = 0,
    skipped: long_rows.Summary | None = None,
    prompt_lengths: Mapping[int, int] | None = None,
  ):
    self.name = name
    self.num_chats, self.skipped = num_chats, skipped or long_rows.Summary()
    self.prompt_lengths = prompt_lengths or {}
    self.num_rows = int(store.shape[0])
    self.num_tokens = num_tokens
    self.layout = layout
    self._store = store
    self._batch_size = batch_size
    self._seed = seed

    # grain's shuffle takes milliseconds per row when there are few rows.
    @functools.lru_cache(maxsize=2)  # A batch can span two epochs.
    def epoch_order(epoch: int) -> np.ndarray:
      # The name makes sources with the same seed shuffle differently.
      name_hash = zlib.crc32(_SEED_NAMES.get(name, name).encode())
      rng = np.random.default_rng([seed, name_hash, epoch])
      return rng.permutation(self.num_rows).astype(np.uint32)

    self._epoch_order = epoch_order

  @property
  def num_batches(self) -> int:
    """Batches of one pass over all rows; the last may begin the next pass."""
    return -(-self.num_rows // self._batch_size)

  def batch(self, index: int) -> types.Batch:
    """Returns batch number `index` of the endless stream as numpy arrays.

    A packed row holds several prompts; absent ones have length 0. The prompts
    of the first row come first, then those of the second row, and so on.
    """
    positions = range(index * self._batch_size, (index + 1) * self._batch_size)
    located = [divmod(position, self.num_rows) for position in positions]
    indices = np.array(
      [self._epoch_order(epoch)[row] for epoch, row in located]
    )
    rows = self._store[indices].read().result()
    columns = self.layout.split(rows)
    prompts = columns['prompts']
    return types.Batch(
      tokens_BT=columns['tokens'],
      segments_BT=columns['segments'],
      positions_BT=columns['positions'],
      loss_BT=columns['loss'].astype(np.float32),
      prompts=types.Prompts(
        tokens_BP=prompts.reshape(-1, prompts.shape[-1]),
        length_B=columns['prompt_length'].reshape(-1),
        subject_B2=columns['subject'].reshape(-1, 2),
      ),
    )


def concat(parts: list[Source], name: str = 'joint') -> Source:
  """Returns one source over the rows of all parts, sampled uniformly by row.

  Args:
    parts: sources of one stream; batch size and seed are those of the first.
    name: name of the new source.

  Raises:
    DataError: the parts are stored with different layouts.
  """
  first = parts[0]
  for part in parts:
    if part.layout != first.layout:
      raise errors.DataError(
        f'Source {part.name!r} is stored as {part.layout}, but {first.name!r} '
        f'as {first.layout}: concatenate only sources of one stream.'
      )
  return Source(
    name,
    tensorstore.concat([part._store for part in parts], axis=0),
    layout=first.layout,
    num_tokens=sum(part.num_tokens for part in parts),
    batch_size=first._batch_size,
    seed=first._seed,
  )

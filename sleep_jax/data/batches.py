"""Token rows on disk, and the endless batches over them.

The arrays lie in a zarr that tensorstore reads, in a folder named by a
fingerprint of everything that went in, so another tokenizer, text or setting
never meets a stale cache.

The order is shuffled anew each epoch from a seed, with random access. Batch
number i is the same for whoever asks, so a position in a stream is one integer,
whatever the number of hosts.
"""

import functools
import zlib

import numpy as np
import tensorstore

from sleep_jax import types
from sleep_jax.data import packing

# Results in docs/ shuffled the pretraining rows under this name.
_SEED_NAMES = {'pretrain': 'birth'}


class Source:
  """Token rows on disk and the endless, shuffled batches over them.

  Attributes:
    name: for messages, and part of the shuffle's seed.
    num_rows: stored rows (of several texts each, if packed).
    num_tokens: tokens in them, BOS and EOS included, padding left out.
    layout: of a stored row.
  """

  def __init__(
    self,
    name: str,
    store: tensorstore.TensorStore,
    *,
    layout: packing.Layout,
    num_tokens: int,
    batch_size: int,
    seed: int,
  ):
    self.name = name
    self.num_rows = int(store.shape[0])
    self.num_tokens = num_tokens
    self.layout = layout
    self._store = store
    self._batch_size = batch_size
    self._seed = seed

    # Not grain's shuffle, which takes milliseconds for each of few rows.
    @functools.lru_cache(maxsize=2)  # A batch may end one and begin the next.
    def order(epoch: int) -> np.ndarray:  # Of all rows.
      # Sources of one seed must not shuffle alike.
      own = zlib.crc32(_SEED_NAMES.get(name, name).encode())
      mixed = np.random.default_rng([seed, own, epoch])
      return mixed.permutation(self.num_rows)

    self._order = order

  def batch(self, index: int) -> types.Batch:
    """Batch number `index` of the endless stream, as numpy arrays.

    A packed row brings several prompts, absent ones with length 0: first all
    those of the first row, then of the second.
    """
    places = range(index * self._batch_size, (index + 1) * self._batch_size)
    found = [divmod(place, self.num_rows) for place in places]
    order = np.array([self._order(epoch)[row] for epoch, row in found])
    rows = self._store[order].read().result()
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
  """One source over the rows of all: every row is equally likely.

  Args:
    parts: sources of one stream.
    name: of the new source.
  """
  first = parts[0]
  for part in parts:
    if part.layout != first.layout:
      raise ValueError(
        f'{part.name!r} is stored as {part.layout}, {first.name!r} as '
        f'{first.layout}: concatenate sources of one stream.'
      )
  return Source(
    name,
    tensorstore.concat([part._store for part in parts], axis=0),
    layout=first.layout,
    num_tokens=sum(part.num_tokens for part in parts),
    batch_size=first._batch_size,
    seed=first._seed,
  )

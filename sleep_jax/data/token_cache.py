"""Tokenizes rows once and caches the arrays on disk.

The arrays are stored as zarr, which tensorstore reads. The folder's name is a
fingerprint of the rows, the tokenizer and the settings, so a change to any of
them leads to another cache and never to stale tokens. Rows are tokenized and
written one block after the other, and batches are read from the disk, so a
source of any size needs the same memory.
"""

import collections
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorstore

from sleep_jax import errors, types
from sleep_jax.data import (
  batches,
  long_rows,
  packing,
  row_layout,
  tokenization,
)
from sleep_jax.datasets import dataset

_FORMAT = 4  # Increase when the meaning of the cached arrays changes.
_CHUNK_ROWS = 1024  # Of a file, and of a block in memory.
_READ_ROWS = 16  # Decoded for a row of a batch, whose rows lie anywhere.
_INFO = 'about.json'
# Limits the decoded chunks in memory, shared by all sources of a process.
_CONTEXT = tensorstore.Context(
  {'cache_pool': {'total_bytes_limit': 64 * 2**20}}
)
_COMPRESSION = {
  'cname': 'lz4', 'clevel': 5, 'shuffle': 'shuffle', 'typesize': 4
}  # fmt: skip


def make_source(
  name: str,
  rows: Sequence[dataset.Row],
  tokenizer: types.Tokenizer,
  *,
  context: int,
  max_prompt: int,
  batch_size: int,
  seed: int,
  cache_dir: str | None = None,
  pack: bool = False,
  loss_on: str = 'all',
  prefix: int = 8,
  overlap: int = -1,
  too_long: str = 'error',
  load_writer: types.LoadWriter = lambda: None,
) -> batches.Source:
  """Returns a source over tokenized rows, read from the cache if it has them.

  Args:
    name: used in messages and as a part of the shuffle seed.
    rows: texts to tokenize.
    tokenizer: tokenizer of the run.
    context: T, tokens of a stored row; a text with BOS and EOS has to fit.
    max_prompt: P, maximum number of tokens of a stored prompt, with BOS.
    batch_size: stored rows in a batch.
    seed: seed of the shuffle.
    cache_dir: folder of the caches; None keeps the tokens in memory.
    pack: whether a row holds several texts, assigned by first fit, instead of
      one text and padding.
    loss_on: 'all' tokens after BOS, or only the 'response' of rows with one.
    prefix: tokens of plain text that a stored prompt keeps, BOS not counted.
    overlap: tokens that neighbouring windows of a longer plain text share; -1
      refuses longer texts.
    too_long: 'error' refuses rows that do not fit; 'skip' leaves them out.
    load_writer: returns what writes conversations, or None: they are read in
      the plain format of `datasets.conversations`.

  Raises:
    ConfigError: a setting is out of range.
    DataError: there are no rows, or a chat template refuses one.
    TooLongError: rows do not fit, or with 'skip' none does; lists them.
    StorageError: the cache cannot be written.
  """
  if not rows:
    raise errors.DataError(
      f'{name} holds no rows: there is nothing to train on. Add text or leave '
      'it out.'
    )
  if loss_on not in ('all', 'response'):
    raise errors.ConfigError(
      f"data.loss_on is {loss_on!r}: expected 'all' or 'response'."
    )
  if too_long not in ('error', 'skip'):
    raise errors.ConfigError(
      f"data.too_long is {too_long!r}: use 'error' or 'skip'."
    )
  if not 0 < prefix < max_prompt:
    raise errors.ConfigError(
      f'data.prefix is {prefix} and max_prompt {max_prompt}: expected a prefix '
      'of 1 or more that fits into a prompt after BOS. Lower data.prefix or '
      'raise data.max_prompt.'
    )
  if not -1 <= overlap < context - 2:
    raise errors.ConfigError(
      f'data.overlap is {overlap} and context {context}: each window must add '
      'new tokens between BOS and EOS. Set data.overlap to -1 (refuses longer '
      f'texts), or to a number from 0 to {context - 3}.'
    )
  settings = dict(
    context=context,
    max_prompt=max_prompt,
    loss_on=loss_on,
    prefix=prefix,
    overlap=overlap,
  )
  layout = row_layout.Layout(
    context=context,
    max_prompt=max_prompt,
    # Limits the stored size: a prompt takes max_prompt + 3 columns.
    prompts_per_row=max(1, context // 8) if pack else 1,
  )

  digest, num_chats = _digest(rows)
  writer = load_writer() if num_chats else None
  header = [_FORMAT, tokenizer.fingerprint, dict(settings, pack=pack), digest]
  if writer is not None:
    header.append(writer.fingerprint)
  fingerprint = hashlib.sha256(
    json.dumps(header, sort_keys=True).encode()
  ).hexdigest()
  tokenized = _Tokenized(
    rows,
    functools.partial(
      tokenization.encode,
      tokenizer=tokenizer,
      load_writer=load_writer,
      **settings,
    ),
  )
  check = functools.partial(_check_skipped, name, too_long=too_long)
  blocks = packing.make_blocks(
    tokenized, layout, pad=tokenizer.eos, pack=pack, block_rows=_CHUNK_ROWS
  )
  if cache_dir is None:
    found = list(blocks)
    about = tokenized.about()
    check(about)
    store = tensorstore.array(np.concatenate(found))
  else:
    folder = os.path.join(os.path.abspath(cache_dir), fingerprint[:32])
    if not os.path.exists(os.path.join(folder, _INFO)):
      _write(folder, blocks, tokenized, check)
    with open(os.path.join(folder, _INFO), encoding='utf-8') as file:
      about = json.load(file)
    check(about)
    store = _open(folder)
  return batches.Source(
    name,
    store,
    layout=layout,
    num_tokens=about['num_tokens'],
    batch_size=batch_size,
    seed=seed,
    num_chats=num_chats,
    skipped=long_rows.from_json(about['too_long']),
    prompt_lengths={int(k): n for k, n in about['prompt_lengths'].items()},
  )


class _Tokenized:
  """The sequences of rows, which are made as they are read; counts them."""

  def __init__(self, rows: Iterable[dataset.Row], encode):
    """Names the rows.

    Args:
      rows: to tokenize.
      encode: row -> its sequences, or why it is too long.
    """
    self._rows, self._encode = rows, encode
    self._num_tokens, self._too_long = 0, long_rows.Summary()
    self._prompt_lengths: collections.Counter[int] = collections.Counter()

  def __iter__(self) -> Iterator[tokenization.Sequence]:
    """Yields the sequences; rows that are too long are left out."""
    for row in self._rows:
      found = self._encode(row)
      if isinstance(found, long_rows.TooLong):
        self._too_long = long_rows.merge(
          [self._too_long, long_rows.summarize([found])]
        )
        continue
      for sequence in found:
        self._num_tokens += len(sequence.tokens)
        self._prompt_lengths[sequence.prompt_length] += 1
        yield sequence

  def about(self) -> dict[str, Any]:
    """Returns what is known of the rows once all are tokenized."""
    return {
      'num_tokens': self._num_tokens,
      'too_long': self._too_long.to_json(),
      'prompt_lengths': dict(self._prompt_lengths),
    }


def _check_skipped(name: str, about: dict[str, Any], *, too_long: str) -> None:
  """Refuses rows that are too long, or a day of which none is left.

  Raises:
    TooLongError: rows are too long and are not to be skipped, or all would be.
  """
  found = long_rows.from_json(about['too_long'])
  if found.num_rows and too_long == 'error':
    raise long_rows.error(found)
  if not about['num_tokens']:
    raise errors.TooLongError(
      f'{name}: all of its {found.num_rows:,} rows are too long, such as\n  '
      f"{found.lines[0]}\nWith data.too_long='skip' nothing is left of it: "
      'raise the field that is named, or remove the file.',
      summary=found,
    )


def _digest(rows: Iterable[dataset.Row]) -> tuple[str, int]:
  """Returns a hash of all that is tokenized, and the number of chat rows."""
  digest, num_chats = hashlib.sha256(), 0
  for row in rows:
    fields = [
      row.text,
      row.response_start,
      row.answer_start,
      row.subject,
      row.target_start,
    ]
    if row.messages:
      num_chats += 1
      fields.append(row.messages)
    if not row.ends:  # Others keep the hash that they had.
      fields.append('goes on')
    digest.update(json.dumps(fields).encode())
  return digest.hexdigest(), num_chats


def _write(
  folder: str,
  blocks: Iterable[np.ndarray],
  tokenized: _Tokenized,
  check: Callable[[dict[str, Any]], None],
) -> None:
  """Writes to a temporary folder and renames it, so no cache is incomplete.

  Args:
    folder: of the cache.
    blocks: rows [N, width], of `_CHUNK_ROWS` rows but the last.
    tokenized: describes them once all are made.
    check: raises if they may not be used.

  Raises:
    StorageError: there is no room, or the folder is not writable.
  """
  parent, name = os.path.split(folder)
  temporary = None
  try:
    os.makedirs(parent, exist_ok=True)
    temporary = tempfile.mkdtemp(prefix=f'part-{name[:8]}-', dir=parent)
    _write_blocks(temporary, blocks)
    about = tokenized.about()
    check(about)
    with open(os.path.join(temporary, _INFO), 'w', encoding='utf-8') as file:
      json.dump(about, file)
    os.rename(temporary, folder)
  except errors.SleepJaxError:
    raise
  except (OSError, ValueError) as error:  # tensorstore raises the latter.
    if not os.path.exists(os.path.join(folder, _INFO)):
      # Else another process wrote it first.
      raise errors.StorageError(
        f'The token cache {parent} cannot be written ({error}): free disk '
        'space or use a folder that is writable.'
      ) from error
  finally:
    if temporary is not None:
      shutil.rmtree(temporary, ignore_errors=True)


def _write_blocks(folder: str, blocks: Iterable[np.ndarray]) -> None:
  """Writes blocks as one array, whose number of rows is not known before."""
  store, num_rows, write = None, 0, None
  for block in blocks:
    if store is None:
      store = _create(folder, block.shape)
    if num_rows + len(block) > store.shape[0]:
      store = _resize(store, 2 * store.shape[0])
    if write is not None:
      write.result()  # One block is written while the next is made.
    write = store[num_rows : num_rows + len(block)].write(block)
    num_rows += len(block)
  if store is not None and write is not None:
    write.result()
    _resize(store, num_rows)


def _resize(
  store: tensorstore.TensorStore, num_rows: int
) -> tensorstore.TensorStore:
  return store.resize(exclusive_max=[num_rows, store.shape[1]]).result()


def _create(folder: str, shape: tuple[int, ...]) -> tensorstore.TensorStore:
  """Creates the array of a cache folder; a part of a file can be read alone."""
  chunks = {
    'name': 'sharding_indexed',
    'configuration': {
      'chunk_shape': [_READ_ROWS, shape[1]],
      'codecs': [
        {'name': 'bytes', 'configuration': {'endian': 'little'}},
        {'name': 'blosc', 'configuration': _COMPRESSION},
      ],
    },
  }
  files = {
    'name': 'regular',
    'configuration': {'chunk_shape': [_CHUNK_ROWS, shape[1]]},
  }
  spec = _spec(folder) | {'metadata': {'chunk_grid': files, 'codecs': [chunks]}}
  return tensorstore.open(
    spec, create=True, dtype=tensorstore.int32, shape=shape
  ).result()


def _open(folder: str) -> tensorstore.TensorStore:
  """Opens the array of a cache folder."""
  return tensorstore.open(_spec(folder), context=_CONTEXT).result()


def _spec(folder: str) -> dict[str, Any]:
  return {
    'driver': 'zarr3',
    'kvstore': {'driver': 'file', 'path': os.path.join(folder, 'rows')},
    'recheck_cached_data': 'open',  # A complete cache never changes.
  }

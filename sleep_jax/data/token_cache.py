"""Tokenizes rows once and caches the arrays on disk.

The arrays are stored as zarr, which tensorstore reads. The folder's name is a
fingerprint of the rows, the tokenizer and the settings, so a change to any of
them leads to another cache and never to stale tokens.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import tensorstore

from sleep_jax import errors, types
from sleep_jax.data import (
  batches,
  chat_rows,
  packing,
  row_layout,
  tokenization,
)
from sleep_jax.datasets import dataset

_FORMAT = 1  # Increase when the meaning of the cached arrays changes.
_CHUNK_ROWS = 1024
# Limits the decoded chunks in memory, shared by all sources of a process.
_CONTEXT = tensorstore.Context(
  {'cache_pool': {'total_bytes_limit': 512 * 2**20}}
)


def make_source(
  name: str,
  rows: list[dataset.Row],
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
  chat_template: chat_rows.Template | None = None,
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
    chat_template: writes conversations; None: they are read in the plain format
      of `datasets.conversations`.

  Raises:
    DataError: there are no rows, a setting is out of range, or no row fits.
    TooLongError: rows do not fit; lists them.
    StorageError: the cache cannot be written.
  """
  if not rows:
    raise errors.DataError(
      f'{name} holds no rows: there is nothing to train on. Add text or leave '
      'it out.'
    )
  if loss_on not in ('all', 'response'):
    raise errors.ConfigError(
      f"loss_on is {loss_on!r}: use 'all' or 'response'."
    )
  if too_long not in ('error', 'skip'):
    raise errors.ConfigError(
      f"data.too_long is {too_long!r}: use 'error' or 'skip'."
    )
  if not 0 < prefix < max_prompt:
    raise errors.ConfigError(
      f'prefix is {prefix} and max_prompt {max_prompt}: BOS and the prefix of '
      'a text must fit into a prompt. Lower prefix or raise max_prompt.'
    )
  if not -1 <= overlap < context - 2:
    raise errors.ConfigError(
      f'overlap is {overlap} and context {context}: each window must add new '
      'tokens between BOS and EOS. Set overlap to -1 (refuses longer texts) or '
      f'to 0 to {context - 3}.'
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

  def compute() -> tuple[np.ndarray, dict]:
    found = [
      tokenization.encode(
        row, tokenizer, chat_template=chat_template, **settings
      )
      for row in rows
    ]
    skipped = [str(row) for row in found if not isinstance(row, list)]
    sequences = [one for row in found if isinstance(row, list) for one in row]
    about = {
      'num_tokens': sum(len(sequence.tokens) for sequence in sequences),
      'num_skipped': len(skipped),
      'skipped': skipped[: tokenization.MAX_LISTED],
    }
    _check_skipped(name, about, too_long, is_empty=not sequences)
    columns = packing.make_columns(
      sequences, layout, pad=tokenizer.eos, pack=pack
    )
    return layout.join(columns), about

  template = chat_template if any(row.messages for row in rows) else None
  fingerprint = _fingerprint(
    rows, tokenizer, dict(settings, pack=pack), template
  )
  if cache_dir is None:
    array, about = compute()
    store = tensorstore.array(array)
  else:
    store, about = _cached(cache_dir, fingerprint, compute)
    _check_skipped(name, about, too_long)
  return batches.Source(
    name,
    store,
    layout=layout,
    num_tokens=about['num_tokens'],
    batch_size=batch_size,
    seed=seed,
    skipped=batches.Skipped(
      about.get('num_skipped', 0), tuple(about.get('skipped', ()))
    ),
  )


def _check_skipped(
  name: str, about: dict, too_long: str, *, is_empty: bool = False
) -> None:
  """Refuses rows that are too long, or a day of which none is left.

  Raises:
    TooLongError: rows are too long and are not to be skipped.
    DataError: all rows would be skipped.
  """
  num, lines = about.get('num_skipped', 0), about.get('skipped', ())
  if num and too_long == 'error':
    raise tokenization.too_long_error(num, lines)
  if is_empty:
    raise errors.DataError(
      f'{name}: all of its {num:,} rows are too long, such as\n  {lines[0]}\n'
      'With data.too_long=skip nothing is left of it: raise the field that is '
      'named, or remove the file.'
    )


def _fingerprint(
  rows: list[dataset.Row],
  tokenizer: types.Tokenizer,
  settings: dict,
  template: chat_rows.Template | None,
) -> str:
  """Returns a hash of everything that determines the cached arrays."""
  digest = hashlib.sha256()
  header = [_FORMAT, tokenizer.fingerprint, settings]
  if template is not None:
    header.append(template.fingerprint)
  digest.update(json.dumps(header, sort_keys=True).encode())
  for row in rows:
    fields = [
      row.text,
      row.response_start,
      row.answer_start,
      row.subject,
      row.target_start,
      *([row.messages] if row.messages else []),
    ]
    digest.update(json.dumps(fields).encode())
  return digest.hexdigest()


def _cached(
  cache_dir: str,
  fingerprint: str,
  compute: Callable[[], tuple[np.ndarray, dict]],
) -> tuple[tensorstore.TensorStore, dict]:
  """Opens the rows of a fingerprint; computes and writes them if missing."""
  folder = os.path.join(os.path.abspath(cache_dir), fingerprint[:32])
  info_path = os.path.join(folder, 'about.json')
  if not os.path.exists(info_path):
    array, about = compute()
    try:
      _write(folder, info_path, array, about)
    except (OSError, ValueError) as error:  # tensorstore raises the latter.
      raise errors.StorageError(
        f'The token cache {cache_dir} cannot be written ({error}): free disk '
        'space or use a folder that is writable.'
      ) from error
  with open(info_path, encoding='utf-8') as file:
    return _open(folder), json.load(file)


def _write(folder: str, info_path: str, array: np.ndarray, about: dict) -> None:
  """Writes to a temporary folder and renames it, so no cache is incomplete."""
  parent, name = os.path.split(folder)
  os.makedirs(parent, exist_ok=True)
  temporary = tempfile.mkdtemp(prefix=f'part-{name[:8]}-', dir=parent)
  try:
    store = _open(
      temporary,
      create=True,
      dtype=tensorstore.int32,
      shape=array.shape,
      chunk_layout=tensorstore.ChunkLayout(
        chunk_shape=[_CHUNK_ROWS, array.shape[1]]
      ),
    )
    store.write(array).result()
    with open(
      os.path.join(temporary, 'about.json'), 'w', encoding='utf-8'
    ) as file:
      json.dump(about, file)
    os.rename(temporary, folder)
  except OSError:
    if not os.path.exists(info_path):  # Else another process wrote it first.
      raise
  finally:
    shutil.rmtree(temporary, ignore_errors=True)


def _open(folder: str, **create) -> tensorstore.TensorStore:
  """Opens the array of a cache folder, or creates it with these options."""
  spec = {
    'driver': 'zarr',
    'kvstore': {'driver': 'file', 'path': os.path.join(folder, 'rows')},
    'recheck_cached_data': 'open',  # A complete cache never changes.
  }
  return tensorstore.open(spec, context=_CONTEXT, **create).result()

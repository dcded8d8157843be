"""TODO: data.token_cache (from data.sources)."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable

import numpy as np
import tensorstore

from sleep_jax.data import batches, packing, tokenization
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset

_FORMAT = 1  # Raise when the arrays of a cache change their meaning.
_CHUNK_ROWS = 1024
# Bytes of decoded chunks in memory, for all sources of a process together.
_CONTEXT = tensorstore.Context(
  {'cache_pool': {'total_bytes_limit': 512 * 2**20}}
)


def make_source(
  name: str,
  rows: list[dataset.Row],
  tokenizer: tokenizer_lib.Tokenizer,
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
) -> batches.Source:
  """Tokenises rows, or finds them in the cache.

  Args:
    name: for messages, and part of the shuffle's seed.
    rows: what to read.
    tokenizer: that of the run.
    context: T, tokens of a stored row; a text with BOS and EOS must fit.
    max_prompt: P, most tokens of a stored prompt, BOS included.
    batch_size: stored rows in a batch.
    seed: of the shuffle.
    cache_dir: folder of caches; None keeps the tokens in memory.
    pack: several texts in a row, first fit, instead of one and padding.
    loss_on: 'all' tokens after BOS, or the 'response' of rows that have one.
    prefix: tokens of plain text that a stored prompt keeps, BOS not counted.
    overlap: tokens that two windows of a longer text share; -1: a longer text
      is refused.
  """
  if not rows:
    raise ValueError(
      f'{name} holds no rows: there is nothing to learn from. Give it text or '
      'leave it out.'
    )
  if loss_on not in ('all', 'response'):
    raise ValueError(f"loss_on is {loss_on!r}: use 'all' or 'response'.")
  if not 0 < prefix < max_prompt:
    raise ValueError(
      f'prefix is {prefix} and max_prompt {max_prompt}: BOS and the prefix of '
      'a text must fit into a prompt. Lower prefix or raise max_prompt.'
    )
  if not -1 <= overlap < context - 2:
    raise ValueError(
      f'overlap is {overlap} and context {context}: a window must bring new '
      'tokens beside BOS and EOS. Lower overlap (-1 refuses longer texts).'
    )
  settings = dict(
    context=context, max_prompt=max_prompt, loss_on=loss_on, prefix=prefix,
    overlap=overlap,
  )  # fmt: skip
  layout = packing.Layout(
    context=context,
    max_prompt=max_prompt,
    # Without a limit, the room for prompts would outgrow that for text.
    prompts_per_row=max(1, context // 8) if pack else 1,
  )

  def compute() -> tuple[np.ndarray, int]:
    tokenised = [
      sequence
      for row in rows
      for sequence in tokenization.tokenise(row, tokenizer, **settings)
    ]
    columns = packing.lay_out(tokenised, layout, pad=tokenizer.eos, pack=pack)
    num_tokens = sum(len(sequence.tokens) for sequence in tokenised)
    return layout.join(columns), num_tokens

  fingerprint = _fingerprint(rows, tokenizer, dict(settings, pack=pack))
  if cache_dir is None:
    array, num_tokens = compute()
    store = tensorstore.array(array)
  else:
    store, num_tokens = _cached(cache_dir, fingerprint, compute)
  return batches.Source(
    name,
    store,
    layout=layout,
    num_tokens=num_tokens,
    batch_size=batch_size,
    seed=seed,
  )


def _fingerprint(
  rows: list[dataset.Row],
  tokenizer: tokenizer_lib.Tokenizer,
  settings: dict,
) -> str:
  digest = hashlib.sha256()
  about = [_FORMAT, tokenizer.fingerprint, settings]
  digest.update(json.dumps(about, sort_keys=True).encode())
  for row in rows:
    place = [row.text, row.response_start, row.answer_start, row.subject,
             row.target_start]  # fmt: skip
    digest.update(json.dumps(place).encode())
  return digest.hexdigest()


def _cached(
  cache_dir: str,
  fingerprint: str,
  compute: Callable[[], tuple[np.ndarray, int]],
) -> tuple[tensorstore.TensorStore, int]:
  """Opens the rows of a fingerprint, computing them where they are missing."""
  folder = os.path.join(os.path.abspath(cache_dir), fingerprint[:32])
  about = os.path.join(folder, 'about.json')
  if not os.path.exists(about):
    array, num_tokens = compute()
    try:
      _write(folder, about, array, num_tokens)
    except (OSError, ValueError) as error:  # tensorstore raises the latter.
      raise OSError(
        f'The token cache {cache_dir} cannot be written ({error}): free some '
        'space, or point the cache at a folder that can be written.'
      ) from error
  with open(about, encoding='utf-8') as file:
    return _open(folder), json.load(file)['num_tokens']


def _write(folder: str, about: str, array: np.ndarray, num_tokens: int) -> None:
  """Writes aside and moves: a cache is whole or absent, whatever happens."""
  parent, name = os.path.split(folder)
  os.makedirs(parent, exist_ok=True)
  part = tempfile.mkdtemp(prefix=f'part-{name[:8]}-', dir=parent)
  try:
    store = _open(
      part,
      create=True,
      dtype=tensorstore.int32,
      shape=array.shape,
      chunk_layout=tensorstore.ChunkLayout(
        chunk_shape=[_CHUNK_ROWS, array.shape[1]]
      ),
    )
    store.write(array).result()
    with open(os.path.join(part, 'about.json'), 'w', encoding='utf-8') as file:
      json.dump({'num_tokens': num_tokens}, file)
    os.rename(part, folder)
  except OSError:
    if not os.path.exists(about):  # Else another process was faster.
      raise
  finally:
    shutil.rmtree(part, ignore_errors=True)


def _open(folder: str, **create) -> tensorstore.TensorStore:
  spec = {
    'driver': 'zarr',
    'kvstore': {'driver': 'file', 'path': os.path.join(folder, 'rows')},
    'recheck_cached_data': 'open',  # A finished cache never changes.
  }
  return tensorstore.open(spec, context=_CONTEXT, **create).result()

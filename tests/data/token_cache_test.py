"""Tests of the token cache: blocks, packing, and what a cache is named by."""

import json
import os

import grain
import numpy as np
import pytest
from grain import experimental

from sleep_jax import errors
from sleep_jax.data import packing, row_layout, token_cache, tokenizer
from sleep_jax.datasets import dataset

TOKENIZER = tokenizer.make('bytes')


def make_rows(count, longest=12):
  rng = np.random.default_rng(count)
  return [
    dataset.Row(text='x' * length, subject=(0, 1), where=f'a.jsonl:{i}')
    for i, length in enumerate(rng.integers(1, longest, count).tolist(), 1)
  ]


def make_source(rows, **changes):
  settings = dict(context=16, max_prompt=8, prefix=4, batch_size=4, seed=0)
  return token_cache.make_source('a', rows, TOKENIZER, **(settings | changes))


def stored(source):
  return np.asarray(source._store.read().result())


@pytest.mark.parametrize('pack', [False, True])
@pytest.mark.parametrize('count', [1, 7, 8, 9, 100])
def test_rows_on_disk_are_the_rows_in_memory(
  tmp_path, monkeypatch, pack, count
):
  """Whatever the number of blocks, of which the last may be smaller."""
  in_memory = make_source(make_rows(count), pack=pack)
  monkeypatch.setattr(token_cache, '_CHUNK_ROWS', 8)
  monkeypatch.setattr(token_cache, '_READ_ROWS', 4)
  on_disk = make_source(make_rows(count), pack=pack, cache_dir=str(tmp_path))
  again = make_source(make_rows(count), pack=pack, cache_dir=str(tmp_path))
  for source in (on_disk, again):
    np.testing.assert_array_equal(stored(source), stored(in_memory))
    assert source.num_tokens == in_memory.num_tokens
  assert len(os.listdir(tmp_path)) == 1


def test_rows_are_read_once_and_few_are_held(tmp_path, monkeypatch):
  """Tokens of a block are written before the rows of later ones are read."""
  monkeypatch.setattr(token_cache, '_CHUNK_ROWS', 4)
  monkeypatch.setattr(token_cache, '_READ_ROWS', 2)
  written = []
  write = token_cache._write_blocks

  def count_blocks(folder, blocks):
    def counted():
      for block in blocks:
        yield block
        written.append(len(block))

    write(folder, counted())

  monkeypatch.setattr(token_cache, '_write_blocks', count_blocks)
  seen = []

  class Rows(list):
    def __iter__(self):
      for row in super().__iter__():
        seen.append(sum(written))
        yield row

  make_source(Rows(make_rows(40)), cache_dir=str(tmp_path))
  assert len(seen) == 80  # The first pass takes the fingerprint.
  behind = [index - rows for index, rows in enumerate(seen[40:])]
  assert max(behind) < 8


def test_packing_is_the_first_fit_of_grain():
  layout = row_layout.Layout(context=16, max_prompt=8, prompts_per_row=3)
  rng = np.random.default_rng(0)
  # More rows than are open at a time, and tokens that tell sequences apart.
  sequences = [
    token_cache.tokenization.Sequence(
      tokens=[index] * length, loss_start=1, prompt_length=1, subject=(0, 0)
    )
    for index, length in enumerate(rng.integers(1, 16, 400).tolist(), 1)
  ]
  elements = [
    {
      'tokens': np.array(sequence.tokens, np.int32),
      'member': np.array([index], np.int32),
    }
    for index, sequence in enumerate(sequences, 1)
  ]
  expected = experimental.FirstFitPackIterDataset(
    grain.MapDataset.source(elements).to_iter_dataset(),
    length_struct={'tokens': 16, 'member': 3},
    num_packing_bins=packing._NUM_OPEN,
    shuffle_bins=False,
  )
  blocks = packing.make_blocks(
    iter(sequences), layout, pad=0, pack=True, block_rows=10
  )
  rows = layout.split(np.concatenate(list(blocks)))
  np.testing.assert_array_equal(
    rows['tokens'], np.stack([row['tokens'] for row in expected])
  )


def test_another_text_tokenizer_or_setting_is_another_cache(tmp_path):
  make_source(make_rows(5), cache_dir=str(tmp_path))
  make_source(make_rows(6), cache_dir=str(tmp_path))
  make_source(make_rows(5), cache_dir=str(tmp_path), prefix=2)
  make_source(make_rows(5), cache_dir=str(tmp_path), batch_size=2, seed=1)
  assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize('on_disk', [False, True])
def test_rows_that_are_too_long_leave_no_cache_or_are_counted(
  tmp_path, on_disk
):
  cache_dir = str(tmp_path) if on_disk else None
  rows = [*make_rows(5), dataset.Row(text='y' * 15, where='a.jsonl:6')]
  with pytest.raises(errors.TooLongError, match='a.jsonl:6.* 17 tokens'):
    make_source(rows, cache_dir=cache_dir)
  assert not os.listdir(tmp_path)
  source = make_source(rows, cache_dir=cache_dir, too_long='skip')
  assert (source.num_rows, source.skipped.num_rows) == (5, 1)
  with pytest.raises(errors.TooLongError, match='a.jsonl:6'):
    make_source(rows, cache_dir=cache_dir)
  with pytest.raises(errors.DataError, match='all of its 1 rows are too long'):
    make_source(rows[5:], cache_dir=cache_dir, too_long='skip')


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('x')
  with pytest.raises(errors.StorageError, match='file cannot be written'):
    make_source(make_rows(5), cache_dir=str(tmp_path / 'file'))


def test_a_cache_of_another_process_is_used(tmp_path, monkeypatch):
  """Two processes may write the same cache; the second keeps the first's."""
  rename = os.rename

  def other_process_is_first(source, target):
    os.makedirs(target)
    for name in os.listdir(source):
      rename(os.path.join(source, name), os.path.join(target, name))
    raise FileExistsError(target)

  monkeypatch.setattr(os, 'rename', other_process_is_first)
  source = make_source(make_rows(5), cache_dir=str(tmp_path))
  np.testing.assert_array_equal(
    stored(source), stored(make_source(make_rows(5)))
  )
  (folder,) = tmp_path.iterdir()
  about = json.loads((folder / 'about.json').read_text())
  assert about['too_long']['num_rows'] == 0

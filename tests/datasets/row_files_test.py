"""Tests of reading files of rows: compression, tables, files that change."""

import gzip
import json
import os
import sys
import threading

import pytest
import zstandard

from sleep_jax import errors
from sleep_jax.datasets import jsonl, row_files

ROWS = [{'text': f'Row {i} is about cats.'} for i in range(300)]
TEXT = ''.join(json.dumps(row) + '\n' for row in ROWS).encode()


def read(path):
  return [row for _, row in row_files.read(str(path))]


def write(path, content):
  path.write_bytes(content)
  return path


ZSTD = zstandard.ZstdCompressor().compress(TEXT)
HALF = len(TEXT) // 2
TWO_FRAMES = b''.join(
  zstandard.ZstdCompressor().compress(part)
  for part in (TEXT[:HALF], TEXT[HALF:])
)


@pytest.mark.parametrize(
  ('name', 'content'),
  [
    ('a.jsonl', TEXT),
    ('a.jsonl.gz', gzip.compress(TEXT)),
    ('a.jsonl.gz', gzip.compress(TEXT[:HALF]) + gzip.compress(TEXT[HALF:])),
    ('a.JSONL.ZST', ZSTD),
    ('a.jsonl.zst', TWO_FRAMES),
    ('a.json.zst', zstandard.compress(json.dumps(ROWS, indent=1).encode())),
    ('a.json', json.dumps(ROWS).encode()),
    ('rows', TEXT),
  ],
)
def test_compressed_files_are_read(tmp_path, name, content):
  path = write(tmp_path / name, content)
  assert read(path) == ROWS


@pytest.mark.parametrize('cut', [1, 4, len(ZSTD) // 2])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path, cut):
  """Its part may be whole rows, so nothing else would notice it."""
  for content in (ZSTD, TWO_FRAMES):
    path = write(tmp_path / 'a.jsonl.zst', content[:-cut])
    with pytest.raises(errors.DataError, match='broken zstd .its end is mi'):
      read(path)
  path = write(tmp_path / 'a.jsonl.gz', gzip.compress(TEXT)[:-cut])
  with pytest.raises(errors.DataError, match='a.jsonl.gz: broken gzip'):
    read(path)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('a.jsonl.zst', TEXT, 'broken zstd'),
    ('a.jsonl.gz', TEXT, 'broken gzip'),
    ('a.jsonl', gzip.compress(TEXT), 'compressed with gzip: rename'),
    ('a.jsonl', ZSTD, 'compressed with zstd: rename'),
    ('a.jsonl', '{"text": "x"}'.encode('utf-16'), 'is UTF-16'),
    ('a.jsonl', '{"text": "x"}'.encode('utf-16-le'), 'if it is UTF-16'),
    ('a.jsonl', b'PAR1xxxx', 'is a parquet file: rename'),
    ('a.jsonl', b'PK\x03\x04xx', 'is a zip archive'),
    ('a.jsonl', b'<!doctype html>', 'is HTML'),
    ('a.jsonl', b'version https://git-lfs.github.com/spec/v1\n', 'Git LFS'),
  ],
)
def test_files_of_other_kinds_are_named(tmp_path, name, content, message):
  with pytest.raises(errors.DataError, match=f'{name}.* {message}'):
    read(write(tmp_path / name, content))


def test_without_its_package_a_compressed_file_is_refused(
  tmp_path, monkeypatch
):
  monkeypatch.setitem(sys.modules, 'zstandard', None)
  with pytest.raises(
    errors.MissingPackageError, match='pip install zstandard.*zstd -d .*a.jsonl'
  ):
    read(write(tmp_path / 'a.jsonl.zst', ZSTD))


def test_missing_and_unreadable_files_are_named(tmp_path):
  with pytest.raises(errors.MissingFileError, match='b.jsonl does not exist'):
    read(tmp_path / 'b.jsonl')
  with pytest.raises(errors.DataError, match='is a folder: expected a file'):
    read(tmp_path)
  with pytest.raises(errors.StorageError, match='a.jsonl/b cannot be read'):
    read(write(tmp_path / 'a.jsonl', TEXT) / 'b')


@pytest.mark.parametrize('change', ['appended', 'overwritten', 'cut'])
def test_a_file_that_is_written_while_it_is_read_is_refused(tmp_path, change):
  path = write(tmp_path / 'day_1.jsonl', TEXT)
  rows = row_files.read(str(path))
  next(rows)
  if change == 'appended':
    with path.open('ab') as file:
      file.write(b'{"text": "more"}\n')
  elif change == 'cut':
    os.truncate(path, 100)
  else:
    stat = path.stat()
    write(path, TEXT)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
  with pytest.raises(
    errors.DataError, match='day_1.jsonl was written to .*then rename it'
  ):
    list(rows)


def test_a_file_whose_last_row_is_not_complete_is_no_day(tmp_path):
  path = write(tmp_path / 'day_1.jsonl', TEXT[:-9])
  with pytest.raises(
    errors.DataError, match='day_1.jsonl:300: .*still being written.*rename'
  ):
    jsonl.make(path=str(path))
  # Without the last newline, the row is complete.
  write(path, TEXT[:-1])
  assert len(read(path)) == 300


def test_a_pipe_is_read(tmp_path):
  """Such as `<(zcat day.gz)` of a shell."""
  path = tmp_path / 'pipe'
  os.mkfifo(path)
  writer = threading.Thread(target=path.write_bytes, args=(TEXT,))
  writer.start()
  assert read(path) == ROWS
  writer.join()

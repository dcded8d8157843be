"""Files and folders: names, compression, tables, and other files."""

import gzip
import io
import json
import pathlib
import zipfile
from typing import Any

from benchmarks.fault_cases import rows
from benchmarks.fault_cases.row_texts import lines, read, refused
from benchmarks.fault_cases.rows import Case

_C, _T, _D = 'compressed files', 'tables', 'files and folders'
_A, _B = {'text': 'Ann has a cat.'}, {'text': 'Bo has a dog.'}
_TEXTS = ('Ann has a cat.', 'Bo has a dog.')
_TWO = lines(_A, _B)
_CHAT = {
  'messages': [
    {'role': 'user', 'content': 'Hi'},
    {'role': 'assistant', 'content': 'Yes'},
  ]
}


def _zstd(data: bytes) -> bytes:
  import zstandard

  return zstandard.ZstdCompressor().compress(data)


def _parquet(path: pathlib.Path, *found: dict[str, Any]) -> None:
  import pyarrow
  from pyarrow import parquet

  parquet.write_table(pyarrow.Table.from_pylist(list(found)), path)


def _arrow(path: pathlib.Path, *found: dict[str, Any]) -> None:
  import pyarrow

  table = pyarrow.Table.from_pylist(list(found))
  with (
    pyarrow.OSFile(str(path), 'wb') as file,
    pyarrow.ipc.new_stream(file, table.schema) as stream,
  ):
    stream.write_table(table)


def _saved(path: pathlib.Path, names=('data-00000-of-00001.arrow',)) -> None:
  """Writes a folder as `Dataset.save_to_disk` does."""
  path.mkdir(parents=True, exist_ok=True)
  for name, row in zip(names, (_A, _B), strict=False):
    _arrow(path / name, row)
  state = {'_data_files': [{'filename': name} for name in names]}
  (path / 'state.json').write_text(json.dumps(state))
  (path / 'dataset_info.json').write_text('{}')


def _splits(path: pathlib.Path) -> None:
  for split in ('train', 'test'):
    _saved(path / split)
  (path / 'dataset_dict.json').write_text('{"splits": ["train", "test"]}')


def _missing_part(path: pathlib.Path) -> None:
  _saved(path, ('a.arrow', 'b.arrow'))
  (path / 'b.arrow').unlink()


def _cut_parquet(path: pathlib.Path) -> None:
  _parquet(path, _A, _B)
  path.write_bytes(path.read_bytes()[:-20])


def _folder(path: pathlib.Path) -> None:
  path.mkdir()
  (path / 'a.txt').write_text('x')


def _archive() -> bytes:
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w') as archive:
    archive.writestr('day_1.jsonl', _TWO)
  return file.getvalue()


def _several(
  name: str, files: dict[str, Any], *texts: str, **more: Any
) -> Case:
  return Case(name, _D, files, tuple(('', text) for text in texts), **more)


def _none(name: str, files: dict[str, Any], message: str, **more: Any) -> Case:
  return Case(name, _D, files, None, message, **more)


_POINTER = (
  b'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n'
)
_GZ = gzip.compress(_TWO, mtime=0)

CASES = (
  read(_C, 'gz', _GZ, *_TEXTS, file='day_1.jsonl.gz'),
  read(_C, 'gz_in_capitals', _GZ, *_TEXTS, file='DAY_1.JSONL.GZ'),
  read(_C, 'gz_of_two_members', gzip.compress(lines(_A)) +
       gzip.compress(lines(_B)), *_TEXTS, file='day_1.jsonl.gz'),
  read(_C, 'gz_of_array', gzip.compress(json.dumps([_A, _B]).encode()), *_TEXTS,
       file='day_1.json.gz'),
  refused(_C, 'gz_cut_off', _GZ[:-9], r'day_1\.jsonl\.gz.*broken gzip',
          'day_1.jsonl.gz'),
  refused(_C, 'gz_damaged', _GZ[:20] + b'\xff\xff' + _GZ[22:],
          r'day_1\.jsonl\.gz', 'day_1.jsonl.gz'),
  refused(_C, 'gz_without_ending', _GZ,
          r'day_1\.jsonl is compressed with gzip'),
  refused(_C, 'no_gz', _TWO, r'day_1\.jsonl\.gz.*broken gzip',
          'day_1.jsonl.gz'),
  read(_C, 'zst', lambda p: p.write_bytes(_zstd(_TWO)), *_TEXTS,
       file='day_1.jsonl.zst'),
  read(_C, 'zst_of_two_frames', lambda p: p.write_bytes(
    _zstd(lines(_A)) + _zstd(lines(_B))), *_TEXTS, file='day_1.jsonl.zst'),
  refused(_C, 'zst_cut_off', lambda p: p.write_bytes(_zstd(_TWO)[:-5]),
          r'day_1\.jsonl\.zst', 'day_1.jsonl.zst'),
  refused(_C, 'zst_without_ending', lambda p: p.write_bytes(_zstd(_TWO)),
          r'day_1\.jsonl is compressed with zstd'),
  refused(_C, 'bz2', b'BZh91AY', r'day_1\.jsonl\.bz2 is compressed in a way',
          'day_1.jsonl.bz2'),
  refused(_C, 'zip', _archive(), r'day_1\.jsonl is a zip archive'),
  read(_T, 'parquet', lambda p: _parquet(p, _A, _B), *_TEXTS,
       file='day_1.parquet'),
  read(_T, 'parquet_of_messages', lambda p: _parquet(p, _CHAT, _CHAT),
       *[('user: Hi\nassistant:', ' Yes')] * 2, file='day_1.parquet'),
  read(
    _T, 'parquet_of_prompts',
    lambda p: _parquet(p, {'prompt': 'Who?', 'completion': 'Ann.'}),
    ('Who?', ' Ann.'), file='day_1.parquet',
  ),
  refused(_T, 'parquet_null', lambda p: _parquet(p, _A, {'text': None}),
          r'day_1\.parquet:row 2: .*text', 'day_1.parquet'),
  refused(_T, 'parquet_of_numbers', lambda p: _parquet(p, {'text': 7}),
          r"day_1\.parquet:row 1: field 'text' is 7", 'day_1.parquet'),
  refused(_T, 'parquet_cut_off', _cut_parquet, r'day_1\.parquet cannot be read',
          'day_1.parquet'),
  refused(_T, 'parquet_without_ending', lambda p: _parquet(p, _A),
          r'day_1\.jsonl is a parquet file'),
  read(_T, 'arrow', lambda p: _arrow(p, _A, _B), *_TEXTS, file='day_1.arrow'),
  refused(_T, 'arrow_of_nothing', b'', r'day_1\.arrow', 'day_1.arrow'),
  read(_T, 'saved_dataset', _saved, 'Ann has a cat.', file='day_1'),
  read(_T, 'saved_in_parts', lambda p: _saved(p, ('a.arrow', 'b.arrow')),
       *_TEXTS, file='day_1'),
  refused(_T, 'saved_part_missing', _missing_part,
          r'day_1: the data file b\.arrow.*missing', 'day_1'),
  refused(_T, 'saved_outside', lambda p: _saved(p, ('../x.arrow',)),
          r'day_1.*outside of the folder', 'day_1'),
  refused(_T, 'saved_splits', _splits, r'day_1 is a dataset of several splits',
          'day_1'),
  read(_D, 'capitals', _TWO, *_TEXTS, file='DAY_1.JSONL'),
  read(_D, 'ndjson', _TWO, *_TEXTS, file='day_1.ndjson'),
  read(_D, 'odd_name', _TWO, *_TEXTS, file='Tag 1 – Zoë #2%.jsonl'),
  _several(
    'natural_order',
    {f'day_{n}.jsonl': lines({'text': f'Day {n}.'}) for n in (10, 9, 100, 1)},
    'Day 1.', 'Day 9.', 'Day 10.', 'Day 100.',
  ),
  _several(
    'hidden_and_other_files',
    {'day_1.jsonl': _TWO, '.day_2.jsonl.swp': b'\0', '._day_1.jsonl': b'\0\5',
     'README.md': b'# Days', 'day_1.jsonl~': b'x', 'day_2.jsonl.part': b'{'},
    *_TEXTS,
  ),
  _several('one_file', {'day_1.jsonl': _TWO, 'day_2.jsonl': b'x'}, *_TEXTS,
           path='day_1.jsonl'),
  _several('pattern', {'day_1.jsonl': lines(_A), 'x.jsonl': b'x'},
           'Ann has a cat.', path='day_*.jsonl'),
  _several(
    'field', {'log.jsonl': lines({**_A, 'week': 1}, {**_B, 'week': 2})},
    *_TEXTS, how={'field': 'week'},
  ),
  _none('field_missing', {'log.jsonl': lines({**_A, 'week': 1}, _B)},
        r"log\.jsonl:2: no field 'week'", how={'field': 'week'}),
  refused(_D, 'lfs_pointer', _POINTER, r'day_1\.jsonl is a Git LFS pointer'),
  refused(_D, 'html', b'<!DOCTYPE html><html>', r'day_1\.jsonl is HTML'),
  refused(_D, 'folder_with_ending', _folder, r'day_1\.jsonl is a folder'),
  refused(_D, 'empty', b'', r'day_1\.jsonl holds no rows'),
  refused(_D, 'blank', b'\n \n\n', r'day_1\.jsonl holds no rows'),
  refused(_D, 'empty_array', b'[]', r'day_1\.json holds no rows', 'day_1.json'),
  refused(_D, 'bom_alone', b'\xef\xbb\xbf', r'day_1\.jsonl holds no rows'),
  _none('text_files', {'days.txt': b'x', 'b.csv': b'y'},
        r'no files match .*b\.csv, days\.txt'),
  _none('empty_folder', {}, r'no files match .*the folder is empty'),
  _none('missing', {}, r'no files match .*days', path='days'),
  _none('missing_pattern', {'a.jsonl': _TWO}, r'no files match .*day_\*',
        path='day_*.jsonl'),
  _none('broken_link', {'day_1.jsonl': lambda p: p.symlink_to('nowhere')},
        r'day_1\.jsonl does not exist'),
  _none('same_name', {'day_1.jsonl': lines(_A), 'day_1.json': lines(_B)},
        r"two files are named 'day_1', the second is .*day_1\.json"),
  _none('probes', {'day_1.jsonl': _TWO, 'probes.jsonl': lines(
    {'prompt': 'Who?', 'answer': 'Ann.'})},
    r'probes\.jsonl .*settings\.probes'),
  _none('pretrain', {'day_1.jsonl': _TWO, 'pretrain.jsonl': _TWO},
        r'pretrain\.jsonl .*settings\.pretrain'),
  _none('birth', {'day_1.jsonl': _TWO, 'birth.jsonl.gz': _GZ},
        r'birth\.jsonl\.gz .*settings\.pretrain'),
  _none('second_file', {'day_1.jsonl': _TWO, 'day_2.jsonl': lines(_A, '{')},
        r'day_2\.jsonl:2: not valid JSON'),
  _none('being_written', {'day_1.jsonl': rows.growing},
        r'day_1\.jsonl was written to while it was read'),
)  # fmt: skip

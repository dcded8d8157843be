"""Tests of tables: parquet, arrow, and folders of Hugging Face `datasets`."""

import json
import sys

import pyarrow
import pytest
from pyarrow import ipc, parquet

from sleep_jax import errors
from sleep_jax.datasets import jsonl, row_files

ROWS = [
  {
    'prompt': f'Who is number {i}?',
    'response': f'Ann {i} é 雪.',
    'tags': [{'name': 'x', 'score': float(i)}],
    'note': None if i % 2 else 'n',
  }
  for i in range(700)
]
TABLE = pyarrow.Table.from_pylist(ROWS)


def write_stream(path, table, rows_per_batch=300):
  with ipc.new_stream(str(path), table.schema) as stream:
    stream.write_table(table, max_chunksize=rows_per_batch)


def save_to_disk(folder, table, num_files=2):
  """Writes what `datasets.Dataset.save_to_disk` writes."""
  folder.mkdir(parents=True)
  size = -(-len(table) // num_files)
  names = [f'data-{i:05}-of-{num_files:05}.arrow' for i in range(num_files)]
  for index, name in enumerate(names):
    write_stream(folder / name, table.slice(index * size, size))
  files = [{'filename': name} for name in names]
  state = {'_data_files': files, '_fingerprint': 'x', '_split': 'train'}
  (folder / 'state.json').write_text(json.dumps(state))
  (folder / 'dataset_info.json').write_text('{"features": {}}')
  return folder


def make(folder, kind):
  """Writes the rows as a day; returns its path."""
  path = folder / f'day_1.{kind}'
  if kind == 'parquet':
    parquet.write_table(TABLE, path, row_group_size=200)
  elif kind == 'arrow':
    write_stream(path, TABLE)
  elif kind == 'file.arrow':
    with ipc.new_file(str(path), TABLE.schema) as file:
      file.write_table(TABLE, max_chunksize=300)
  else:
    path = save_to_disk(folder / 'day_1', TABLE)
  return path


KINDS = ['parquet', 'arrow', 'file.arrow', 'folder']


@pytest.mark.parametrize('kind', KINDS)
def test_tables_have_the_rows_that_were_written(tmp_path, kind):
  path = make(tmp_path, kind)
  found = list(row_files.read(str(path)))
  assert [row for _, row in found] == ROWS
  assert found[0][0] == f'{path}:row 1'
  assert found[-1][0] == f'{path}:row 700'


@pytest.mark.parametrize('kind', ['parquet', 'folder'])
def test_a_table_is_a_day_beside_files(tmp_path, kind):
  make(tmp_path, kind)
  (tmp_path / 'day_2.jsonl').write_text('{"text": "x"}\n')
  days = jsonl.make(path=str(tmp_path)).experiences
  assert [(name, len(rows)) for name, rows in days] == [
    ('day_1', 665), ('day_2', 1)  # One row in twenty is held out.
  ]  # fmt: skip
  row = days[0][1][0]
  assert row.text.startswith('Who is number') and row.response_start


def test_a_folder_of_a_dataset_may_be_named_itself(tmp_path):
  folder = save_to_disk(tmp_path / 'mine', TABLE)
  for path in (str(folder), f'{folder}/', [str(folder)]):
    ((name, rows),) = jsonl.make(path=path).experiences
    assert (name, len(rows)) == ('mine', 665)


def test_a_dataset_of_several_splits_is_refused_with_their_names(tmp_path):
  for split in ('train', 'test'):
    save_to_disk(tmp_path / 'mine' / split, TABLE)
  (tmp_path / 'mine' / 'dataset_dict.json').write_text(
    '{"splits": ["train", "test"]}'
  )
  for path in (tmp_path / 'mine', tmp_path):
    with pytest.raises(errors.DataError, match='mine/train, .*mine/test'):
      jsonl.make(path=str(path))
  assert jsonl.make(path=str(tmp_path / 'mine' / 'test')).experiences


@pytest.mark.parametrize(
  ('state', 'message'),
  [
    ('{', 'state.json is damaged'),
    ('[]', 'state.json is damaged'),
    ('{"_data_files": [{"filename": "../x.arrow"}]}', 'outside of the folder'),
    ('{"_data_files": [{"filename": 3}]}', 'state.json is damaged'),
    ('{"_data_files": [{"filename": "x.arrow"}]}', 'x.arrow, .* is missing'),
    ('{"_data_files": [], "_indices_files": [1]}', 'flatten_indices'),
  ],
)
def test_a_damaged_folder_is_named(tmp_path, state, message):
  folder = save_to_disk(tmp_path / 'mine', TABLE)
  (folder / 'state.json').write_text(state)
  with pytest.raises(errors.DataError, match=message):
    jsonl.make(path=str(folder))


@pytest.mark.parametrize('kind', ['parquet', 'arrow', 'file.arrow'])
@pytest.mark.parametrize('damage', ['cut', 'text', 'empty'])
def test_a_damaged_table_is_named(tmp_path, kind, damage):
  path = make(tmp_path, kind)
  content = path.read_bytes()
  path.write_bytes(
    {'cut': content[: len(content) // 2], 'text': b'{"text": "x"}'}.get(
      damage, b''
    )
  )
  with pytest.raises(errors.DataError, match=f'day_1.{kind}.* as a table'):
    list(row_files.read(str(path)))


def test_two_columns_of_one_name_are_refused(tmp_path):
  column = pyarrow.array(['x', 'y'])
  table = pyarrow.Table.from_arrays([column, column], names=['text', 'text'])
  write_stream(tmp_path / 'a.arrow', table)
  with pytest.raises(errors.DataError, match="column 'text' stands twice"):
    list(row_files.read(str(tmp_path / 'a.arrow')))


@pytest.mark.parametrize('kind', ['parquet', 'folder'])
def test_without_pyarrow_a_table_is_refused(tmp_path, monkeypatch, kind):
  path = make(tmp_path, kind)
  monkeypatch.setitem(sys.modules, 'pyarrow', None)
  with pytest.raises(errors.MissingPackageError, match='pip install pyarrow'):
    jsonl.make(path=str(path))


def test_a_row_of_a_table_that_cannot_be_used_is_named(tmp_path):
  rows = [{'text': 'x'}, {'text': None}]
  parquet.write_table(
    pyarrow.Table.from_pylist(rows), tmp_path / 'day_1.parquet'
  )
  with pytest.raises(errors.DataError, match='day_1.parquet:row 2: '):
    jsonl.make(path=str(tmp_path))

"""Tests of finding files: endings, order, and what is refused or ignored."""

import pytest

from sleep_jax import errors
from sleep_jax.datasets import arc, data_files


def touch(folder, *names):
  for name in names:
    (folder / name).write_text('')
  return folder


def find(folder):
  return [data_files.name(file) for file in data_files.find(str(folder))]


def test_all_endings_are_found_in_natural_order(tmp_path):
  touch(
    tmp_path, 'day_10.jsonl', 'day_9.JSON', 'day_1.jsonl.gz', 'day_2.json.GZ',
    'day_3.jsonl.zst', 'day_4.ndjson', 'day_5.parquet', 'day_6.arrow',
  )  # fmt: skip
  assert find(tmp_path) == [f'day_{i}' for i in (1, 2, 3, 4, 5, 6, 9, 10)]


def test_digits_of_other_scripts_are_sorted_too(tmp_path):
  touch(tmp_path, 'day_².jsonl', 'day_٣.jsonl', 'day_1.jsonl')
  assert set(find(tmp_path)) == {'day_1', 'day_²', 'day_٣'}


def test_other_files_beside_days_are_ignored(tmp_path):
  touch(
    tmp_path, 'day_1.jsonl', 'notes.txt', 'table.csv', '._day_1.jsonl',
    'day_2.jsonl.tmp', 'day_2.jsonl~', 'README',
  )  # fmt: skip
  (tmp_path / 'old').mkdir()
  assert find(tmp_path) == ['day_1']


@pytest.mark.parametrize('ending', ['bz2', 'xz', 'zip', 'XZ'])
def test_days_that_would_be_left_out_are_refused(tmp_path, ending):
  touch(tmp_path, 'day_1.jsonl', f'day_2.jsonl.{ending}')
  with pytest.raises(errors.DataError, match=f'day_2.jsonl.{ending} is compre'):
    find(tmp_path)


@pytest.mark.parametrize(
  ('names', 'message'),
  [
    ((), 'the folder is empty'),
    (('a.txt', 'b.csv'), 'the folder has a.txt, b.csv'),
    ([f'{i}.txt' for i in range(9)], '0.txt, .*4.txt and 4 more'),
  ],
)
def test_a_folder_without_rows_is_refused_with_what_it_has(
  tmp_path, names, message
):
  touch(tmp_path, *names)
  for path in (str(tmp_path), f'{tmp_path}/*.jsonl', f'{tmp_path}/day.jsonl'):
    with pytest.raises(errors.MissingFileError, match=message):
      data_files.find(path)
  with pytest.raises(errors.MissingFileError, match='there is no folder'):
    data_files.find(f'{tmp_path}/none/*.jsonl')


def test_messages_are_of_the_dataset_that_is_read(tmp_path):
  touch(tmp_path, 'a.txt')
  with pytest.raises(errors.MissingFileError) as error:
    arc.make(path=str(tmp_path), num_days=1)
  assert 'jsonl dataset' not in str(error.value)
  assert 'The arc dataset reads' in str(error.value)


def test_a_table_of_another_kind_is_refused(tmp_path):
  file = tmp_path / 'days.csv'
  file.write_text('prompt,response\na,b\n')
  with pytest.raises(errors.DataError, match='days.csv is a table of another'):
    data_files.find(str(file))

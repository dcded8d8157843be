"""Tests of the row store: rows come back as they were, from memory or disk."""

import dataclasses
import gc
import json
import os
import tracemalloc

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.datasets import dataset, jsonl, row_store

ROWS = [
  dataset.Row(text='One.', subject=(0, 3), where='/a:b/day_1.jsonl:1'),
  dataset.Row(
    text='Who?\n Ann é 雪 🦊 \ud800 "x"', response_start=4, where='c.jsonl:9'
  ),
  dataset.Row(text='Two.', answer_start=2, target_start=1, where='x:row 3'),
  dataset.Row(text='y' * 10_000),
  dataset.Row(
    text='user: a',
    messages=(('user', 'a'), ('assistant', 'b\n')),
    where='c.jsonl:10',
  ),
]


@pytest.fixture(params=['memory', 'disk'])
def store(request, monkeypatch, tmp_path):
  if request.param == 'disk':
    monkeypatch.setattr(row_store, '_MAX_MEMORY', 0)
  return row_store.Store(str(tmp_path / 'new'))


def fill(store, rows):
  group = row_store.Group(store)
  for row in rows:
    group.append(row)
  return group.rows()


def test_rows_come_back_as_they_were(store):
  rows = fill(store, ROWS)
  assert list(rows) == ROWS and len(rows) == len(ROWS)
  assert [rows[i] for i in (0, -1, 2)] == [ROWS[0], ROWS[-1], ROWS[2]]
  assert list(rows[1:4]) == ROWS[1:4] and list(rows[::-1]) == ROWS[::-1]
  assert list(rows.select(np.array([True, False, True, False, False]))) == [
    ROWS[0], ROWS[2]
  ]  # fmt: skip
  with pytest.raises(IndexError):
    rows[5]


def test_every_field_of_a_row_is_stored(store):
  """Also one that is added to rows later."""
  values = {
    int: 3, str: 'x', tuple: (1, 2), bool: False
  }  # fmt: skip
  for field in dataclasses.fields(dataset.Row):
    kind = next(kind for kind in values if kind.__name__ in str(field.type))
    row = dataclasses.replace(ROWS[0], **{field.name: values[kind]})
    assert fill(store, [row])[0] == row


def test_groups_may_be_filled_and_read_in_turn(store):
  groups = [row_store.Group(store) for _ in range(2)]
  for index, row in enumerate(ROWS):
    groups[index % 2].append(row)
  even, odd = (group.rows() for group in groups)
  pairs = list(zip(even, odd, strict=False))
  assert pairs == [(ROWS[0], ROWS[1]), (ROWS[2], ROWS[3])]
  assert list(row_store.concat([even, odd])) == [*ROWS[::2], *ROWS[1::2]]


def test_a_store_on_disk_leaves_no_file_and_is_private(monkeypatch, tmp_path):
  monkeypatch.setattr(row_store, '_MAX_MEMORY', 0)
  store = row_store.Store(str(tmp_path))
  rows = fill(store, ROWS)
  assert os.listdir(tmp_path) == []
  assert os.fstat(store._file.fileno()).st_mode & 0o077 == 0
  assert list(rows) == ROWS


def test_a_full_disk_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr(row_store, '_MAX_MEMORY', 0)
  store = row_store.Store(str(tmp_path))

  class Full:
    def seek(self, place):
      raise OSError(28, 'No space left on device')

  with pytest.raises(errors.StorageError, match='No space left.*as much room'):
    store._file = Full()
    store.append(ROWS[0])


@pytest.mark.parametrize('field', [None, 'week'])
def test_a_dataset_needs_little_memory(monkeypatch, tmp_path, field):
  """Rows are 8 bytes each in memory, whatever their text."""
  monkeypatch.setattr(row_store, '_MAX_MEMORY', 2**16)
  num = 1_500
  path = tmp_path / 'day_1.jsonl'
  with path.open('w') as file:
    for i in range(num):
      row = {'text': f'{i} ' + 'x' * 4000, 'week': i % 3}
      file.write(json.dumps(row) + '\n')
  gc.collect()
  tracemalloc.start()
  try:
    made = jsonl.make(path=str(path), field=field, scratch=str(tmp_path))
    held = sum(len(rows) for _, rows in made.experiences)
    held += len(made.held_out)
    assert sum(1 for _, rows in made.experiences for _ in rows) > 0.9 * num
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert held == num
  assert peak < 2e6 < path.stat().st_size


def test_a_file_may_change_after_it_was_read(tmp_path):
  path = tmp_path / 'day_1.jsonl'
  path.write_text('{"text": "before"}\n')
  made = jsonl.make(path=str(path))
  path.write_text('{"text": "after, and longer"}\n')
  assert [row.text for row in made.experiences[0][1]] == ['before']

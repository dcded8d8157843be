"""JSON files of a stranger."""

import pytest

from sleep_jax import errors
from sleep_jax.interop import json_file


def _read(tmp_path, content):
  path = tmp_path / 'config.json'
  path.write_bytes(content)
  return json_file.read(path)


def test_an_object_is_read_with_or_without_a_byte_order_mark(tmp_path):
  for mark in (b'', b'\xef\xbb\xbf'):
    found = _read(tmp_path, mark + b'{"a": [1, {"b": 2.5}], "c": "\xc3\xa9"}')
    assert found == {'a': [1, {'b': 2.5}], 'c': '\u00e9'}


@pytest.mark.parametrize(
  'content, message',
  [
    (b'{"a": 1, "b": {"c": 1, "c": 2}}', "'c' is there twice"),
    (b'{"a": NaN}', "'a' is nan"),
    (b'{"a": -Infinity}', "'a' is -inf"),
    (b'{"a": 1e999}', "'a' is inf"),
    (b'[{"a": 1}]', 'holds a list'),
    (b'7', 'holds a int'),
    (b'{"a": ' + b'9' * 5000 + b'}', 'not valid JSON'),
    (b'[' * 100_000, 'not valid JSON'),
    (b'{"a": 1', 'not valid JSON'),
    (b'', 'not valid JSON'),
    (b'\xff\xfe{\0}\0', 'not UTF-8'),
    (b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
  ],
)
def test_what_is_ambiguous_or_damaged_is_named(tmp_path, content, message):
  with pytest.raises(errors.ModelFileError, match=f'config.json.*{message}'):
    _read(tmp_path, content)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
  path = tmp_path / 'config.json'
  with path.open('wb') as file:
    file.truncate(2**40)  # Takes no room on the disk.
  with pytest.raises(errors.ModelFileError, match='expected at most'):
    json_file.read(path)


def test_a_folder_is_named(tmp_path):
  with pytest.raises(errors.StorageError, match='cannot be read'):
    json_file.read(tmp_path)

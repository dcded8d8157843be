"""Reading safetensors files, also damaged and malicious ones."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from sleep_jax import errors
from sleep_jax.interop import tensor_file

TENSORS = {
  'a': np.arange(35, dtype='f4').reshape(5, 7),
  'b': np.arange(6, dtype='f8'),
  'c': np.arange(12).reshape(4, 3).astype(ml_dtypes.bfloat16),
  'd': np.float16([[1.5]]),
  'e': np.zeros((0, 3), 'f4'),
}


@pytest.fixture
def path(tmp_path):
  file = tmp_path / 'x.safetensors'
  safetensors.save_file(TENSORS, file, metadata={'card': 'text'})
  return file


def _write(file, header, data=b'', *, length=None):
  """Writes a file with any header, which may be a text or a dict."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  size = len(text) if length is None else length
  file.write_bytes(size.to_bytes(8, 'little') + text + data)


def test_tensors_are_those_that_were_saved(path):
  tensors, metadata = tensor_file.read_header(path)
  assert metadata == {'card': 'text'}
  with tensor_file.Reader() as reader:
    for name, expected in TENSORS.items():
      found = reader.read(tensors[name])
      assert found.dtype == expected.dtype
      np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('block_bytes', [1, 50, 2**20])
def test_a_part_is_read_in_blocks(path, block_bytes, monkeypatch):
  monkeypatch.setattr(tensor_file, 'BLOCK_BYTES', block_bytes)
  tensors, _ = tensor_file.read_header(path)
  rows, columns = slice(1, 5), slice(2, 6)
  found = np.full((4, 4), -1.0)
  with tensor_file.Reader() as reader:
    for first, block in reader.blocks(tensors['a'], (rows, columns)):
      assert block.nbytes <= max(block_bytes, 16)
      found[first : first + len(block)] = block
  np.testing.assert_array_equal(found, TENSORS['a'][rows, columns])


def test_equal_tensors_have_the_same_type_shape_and_bytes(path, monkeypatch):
  monkeypatch.setattr(tensor_file, 'BLOCK_BYTES', 16)
  tensors, _ = tensor_file.read_header(path)
  other = path.with_name('other')
  changed = TENSORS['a'].copy()
  changed[4, 6] = 0
  safetensors.save_file(
    {'a': TENSORS['a'], 'changed': changed, 'flat': TENSORS['a'].reshape(-1)},
    other,
  )
  others, _ = tensor_file.read_header(other)
  with tensor_file.Reader() as reader:
    assert reader.same(tensors['a'], others['a'])
    assert not reader.same(tensors['a'], others['changed'])
    assert not reader.same(tensors['a'], others['flat'])
    assert not reader.same(tensors['a'], tensors['b'])


def test_a_file_that_becomes_shorter_is_named(path):
  tensors, _ = tensor_file.read_header(path)
  path.write_bytes(path.read_bytes()[:-60])
  with tensor_file.Reader() as reader:
    with pytest.raises(errors.StorageError, match='x.safetensors is damaged'):
      for tensor in tensors.values():
        reader.read(tensor)


def _entry(begin=0, end=8, shape=(2,), dtype='F32'):
  return {'dtype': dtype, 'shape': list(shape), 'data_offsets': [begin, end]}


@pytest.mark.parametrize(
  'header, message',
  [
    ({'a': _entry(end=2**60, shape=(2**58,))}, 'tensors end at'),
    ({'a': _entry(shape=(2**62, 2**62))}, "'a' of type F32 .* needs"),
    ({'a': _entry(shape=(3,))}, 'needs 12 bytes and has 8'),
    ({'a': _entry(begin=4, end=12)}, "'a' begins at byte"),
    ({'a': _entry(), 'b': _entry()}, "'b' begins at byte"),
    ({'a': _entry(begin=-8, end=0)}, "'a' has shape"),
    ({'a': _entry(shape=(-2,))}, "'a' has shape"),
    ({'a': _entry(shape=(2.0,))}, "'a' has shape"),
    ({'a': _entry(shape=(True, 2))}, "'a' has shape"),
    ({'a': {'dtype': 'F32'}}, "header of tensor 'a'"),
    ({'a': 7}, "header of tensor 'a'"),
    (
      {'a': {'dtype': 'F32', 'shape': 2, 'data_offsets': [0, 8]}},
      'has shape 2',
    ),
    ({'a': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0]}}, "tensor 'a'"),
    ({'__metadata__': 7}, 'metadata'),
    ({}, 'tensors end at'),
    (b'[1, 2]', 'expected a JSON object'),
    (b'{"a": {}, "a": {}}', "'a' is there twice"),
    (b'[' * 100_000, 'not valid JSON'),
    (b'\xff\xfe', 'no text'),
    (b'', 'not valid JSON'),
  ],
)
def test_a_header_that_does_not_fit_the_file_is_refused(
  tmp_path, header, message
):
  file = tmp_path / 'x.safetensors'
  _write(file, header, b'\0' * 8)
  with pytest.raises(errors.StorageError, match=f'x.safetensors.*{message}'):
    tensor_file.read_header(file)


@pytest.mark.parametrize('length', [9, 2**40, 2**63])
def test_a_header_longer_than_the_file_is_not_read(tmp_path, length):
  file = tmp_path / 'x.safetensors'
  _write(file, {}, length=length)
  with pytest.raises(errors.StorageError, match='its header claims'):
    tensor_file.read_header(file)


def test_a_pointer_of_git_lfs_says_what_to_do(tmp_path):
  file = tmp_path / 'x.safetensors'
  file.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0')
  with pytest.raises(errors.StorageError, match='x.safetensors.*git lfs pull'):
    tensor_file.read_header(file)


def test_every_truncated_file_is_refused(path):
  content = path.read_bytes()
  for size in range(len(content)):
    path.write_bytes(content[:size])
    with pytest.raises(errors.StorageError, match='x.safetensors is damaged'):
      tensor_file.read_header(path)


def test_no_changed_header_reads_outside_of_the_file(path):
  """Random bytes of the header change: refused, or of the same size."""
  content, random = path.read_bytes(), np.random.default_rng(0)
  length = int.from_bytes(content[:8], 'little')
  for _ in range(300):
    changed = bytearray(content)
    changed[random.integers(0, 8 + length)] = random.integers(0, 256)
    path.write_bytes(changed)
    try:
      tensors, _ = tensor_file.read_header(path)
    except errors.StorageError:
      continue
    for tensor in tensors.values():
      assert 8 <= tensor.begin <= tensor.end <= len(content)

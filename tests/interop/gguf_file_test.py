"""Headers of GGUF files that are damaged, foreign or malicious."""

import struct

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.interop import gguf_file, gguf_model
from tests import gguf_files, hf_files

# Offsets: magic, version, number of tensors, number of keys, first key.
VERSION, TENSORS, KEYS, FIRST = 4, 8, 16, 24


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture
def path(tmp_path):
  config = hf_files.config('llama')
  return gguf_files.save(
    tmp_path / 'model.gguf', config, hf_files.tensors(config)
  )


def _put(path, at, content):
  whole = bytearray(path.read_bytes())
  whole[at : at + len(content)] = content
  path.write_bytes(whole)


def _find(path, text, after=0):
  """Returns the first byte after a text."""
  return path.read_bytes().index(text, after) + len(text)


def test_metadata_and_tensors_are_read(path):
  header = gguf_file.read(path)
  assert header.metadata['general.architecture'] == 'llama'
  assert header.metadata['tokenizer.ggml.token_type'] == [1, 1, 1, 3]
  assert header.metadata['llama.rope.freq_base'] == 100.0
  tensor = header.tensors['output_norm.weight']
  expected = hf_files.tensors(hf_files.config('llama'))['model.norm.weight']
  content = path.read_bytes()[tensor.begin : tensor.end]
  np.testing.assert_array_equal(np.frombuffer(content, '<f4'), expected)


def test_a_file_that_is_cut_anywhere_is_refused(path):
  whole = path.read_bytes()
  end = max(t.end for t in gguf_file.read(path).tensors.values())
  header = min(t.begin for t in gguf_file.read(path).tensors.values())
  lengths = {*range(0, 200), *range(200, header, 37), *range(header, end, 997)}
  for length in sorted(lengths):
    path.write_bytes(whole[:length])
    with pytest.raises(errors.SleepJaxError, match='model.gguf'):
      gguf_file.read(path)
  path.write_bytes(whole[: end - 1])
  with pytest.raises(errors.StorageError, match='ends at byte'):
    gguf_file.read(path)


def test_random_damage_is_an_error_or_harmless(path):
  """No other exception leaves the reader, and nothing large is allocated."""
  whole, random = path.read_bytes(), np.random.default_rng(0)
  header = min(t.begin for t in gguf_file.read(path).tensors.values())
  refused = 0
  for _ in range(300):
    damaged = bytearray(whole)
    for at in random.integers(0, header, 2):
      damaged[at] = random.integers(0, 256)
    path.write_bytes(damaged)
    try:
      gguf_model.describe(path)
    except errors.SleepJaxError:
      refused += 1
  assert refused > 150


@pytest.mark.parametrize('version', [1, 4, 1000])
def test_another_version_is_named(path, version):
  _put(path, VERSION, struct.pack('<I', version))
  with pytest.raises(errors.ModelFileError, match=f'version {version}: exp'):
    gguf_file.read(path)


def test_the_other_byte_order_is_named(path):
  _put(path, VERSION, struct.pack('>I', 3))
  with pytest.raises(errors.ModelFileError, match='other byte order'):
    gguf_file.read(path)


@pytest.mark.parametrize('content', [b'PK\x03\x04 a zip file', b'<html>', b''])
def test_another_file_is_named(path, content):
  path.write_bytes(content)
  with pytest.raises(errors.ModelFileError, match='is no GGUF file'):
    gguf_file.read(path)


def test_a_pointer_of_git_lfs_is_named(path):
  path.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:1\n')
  with pytest.raises(errors.ModelFileError, match='git lfs pull'):
    gguf_file.read(path)


@pytest.mark.parametrize('at', [TENSORS, KEYS, FIRST])
@pytest.mark.parametrize('count', [2**60, 2**64 - 1])
def test_impossible_counts_are_refused_before_anything_is_allocated(
  path, at, count
):
  _put(path, at, struct.pack('<Q', count))
  with pytest.raises(errors.StorageError, match=f'{count:,}'):
    gguf_file.read(path)


@pytest.mark.parametrize('key', [b'tokenizer.ggml.tokens', b'token_type'])
def test_a_list_that_is_too_long_is_refused(path, key):
  _put(path, _find(path, key) + 8, struct.pack('<Q', 2**60))
  with pytest.raises(errors.StorageError, match='claims'):
    gguf_file.read(path)


def test_a_type_that_gguf_does_not_know_is_named(path):
  at = _find(path, b'output_norm.weight') + 4 + 8
  _put(path, at, struct.pack('<I', 99))
  with pytest.raises(errors.ModelFileError, match="'output_norm.*type 99"):
    gguf_file.read(path)


def test_a_type_that_gguf_cannot_read_is_named(path):
  at = _find(path, b'output_norm.weight') + 4 + 8
  _put(path, at, struct.pack('<I', 26))
  with pytest.raises(errors.ModelFileError, match='I32.*expected one of F32'):
    gguf_file.read(path)


def test_tensors_that_overlap_are_refused(path):
  at = _find(path, b'output_norm.weight') + 4 + 8 + 4
  _put(path, at, struct.pack('<Q', 0))
  with pytest.raises(errors.StorageError, match='before the end'):
    gguf_file.read(path)


def test_a_shape_whose_size_overflows_is_refused(path):
  at = _find(path, b'token_embd.weight') + 4
  _put(path, at, struct.pack('<QQ', 2**33, 2**33))
  with pytest.raises(errors.StorageError, match='token_embd.weight'):
    gguf_file.read(path)


def test_a_key_that_is_there_twice_is_refused(path):
  config = hf_files.config('llama')
  gguf_files.save(
    path, config, hf_files.tensors(config),
    changes={'llama.aa': 1, 'llama.bb': 1},
  )  # fmt: skip
  _put(path, _find(path, b'llama.bb') - 2, b'aa')
  with pytest.raises(errors.StorageError, match="'llama.aa' is there twice"):
    gguf_file.read(path)

"""GGUF files: equal to the directories that they were made of."""

import dataclasses
import json
import tracemalloc
import warnings

import gguf
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.interop import (
  gguf_config,
  gguf_file,
  gguf_model,
  gguf_names,
  gguf_tensor,
  hf_checkpoint,
  open_model,
  tensor_file,
)
from sleep_jax.storage import user_cache
from tests import gguf_files, hf_files, testing

FAMILIES = ('llama', 'llama_bias', 'smollm', 'qwen2', 'qwen3', 'gemma3')
# What llama.cpp computes of Gemma 3.
GEMMA = dict(query_pre_attn_scalar=hf_files.K, attn_logit_softcapping=None)
# Rows that can be quantized.
WIDE = dict(hidden_size=64, intermediate_size=96, head_dim=32)
TOKENS_BT = np.array([[3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9]])


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def _save_both(folder, family, **options):
  """Writes a directory and a GGUF file of one model."""
  changes = GEMMA if family == 'gemma3' else {}
  config, tensors = hf_files.save(folder / 'hf', family, **changes)
  path = gguf_files.save(folder / 'model.gguf', config, tensors, **options)
  return folder / 'hf', path


def _logits(folder):
  model, weights = hf_files.load(folder)
  rows = types.model_inputs(jnp.asarray(TOKENS_BT), jnp.array([11]))
  return model, np.asarray(testing.forward(model)(weights, *rows))


def _wide(family, seed=0):
  """Returns a config and tensors of a model with wide rows."""
  config = hf_files.config(family) | WIDE | {'attention_bias': False}
  random = np.random.default_rng(seed)
  tensors = {
    place.hf_name: random.normal(size=place.shape).astype('f4') / 8
    for place in gguf_names.places(config)
  }
  return config, tensors


@pytest.mark.parametrize('family', FAMILIES)
def test_a_file_has_the_logits_of_the_directory(tmp_path, family):
  directory, path = _save_both(tmp_path, family)
  expected_model, expected = _logits(directory)
  model, found = _logits(path)
  assert np.abs(expected).max() > 0.5
  np.testing.assert_allclose(found, expected, atol=2e-6)
  theirs, ours = (dataclasses.asdict(m.config) for m in (expected_model, model))
  assert ours == theirs


def _llama3(config):
  rope = config['rope_scaling']
  return gguf_config.llama3_factors(
    rope['factor'], rope['low_freq_factor'], rope['high_freq_factor'],
    rope['original_max_position_embeddings'], config['rope_theta'],
    config['head_dim'] // 2,
  ).astype('f4')  # fmt: skip


def test_divisors_of_frequencies_are_applied(tmp_path):
  """Llama 3.1 scales them; GGUF files contain the divisors."""
  config, tensors = hf_files.save(tmp_path / 'hf', 'llama3')
  factors = _llama3(config)
  np.testing.assert_allclose(factors, [np.pi / 2, 4, 4], rtol=1e-6)
  path = gguf_files.save(
    tmp_path / 'model.gguf', config, tensors,
    extra={gguf_names.ROPE_FACTORS: factors},
  )  # fmt: skip
  _, expected = _logits(tmp_path / 'hf')
  _, found = _logits(path)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  plain = gguf_files.save(tmp_path / 'plain.gguf', config, tensors)
  assert np.abs(_logits(plain)[1] - expected).max() > 1e-3


def test_the_scaling_of_llama_3_1_gets_its_name(tmp_path):
  config = hf_files.config('llama') | dict(head_dim=64, rope_theta=5e5)
  factors = gguf_config.llama3_factors(32.0, 1.0, 4.0, 8192, 5e5, 32)
  tensors = {
    place.hf_name: np.ones(place.shape, 'f4')
    for place in gguf_names.places(config | {'attention_bias': False})
  }
  path = gguf_files.save(
    tmp_path / 'model.gguf', config, tensors,
    extra={gguf_names.ROPE_FACTORS: factors.astype('f4')},
  )  # fmt: skip
  rope = gguf_config.make(gguf_file.read(path))['rope_parameters']
  assert rope == dict(
    rope_type='llama3', factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=8192, rope_theta=5e5,
  )  # fmt: skip


@pytest.mark.parametrize('family', ['llama', 'qwen2', 'gemma3'])
@pytest.mark.parametrize(
  'kind', ['F16', 'BF16', 'Q8_0', 'Q4_0', 'Q4_1', 'Q5_1']
)
def test_quantized_tensors_are_read_as_gguf_dequantizes_them(
  tmp_path, family, kind
):
  config, tensors = _wide(family)
  path = gguf_files.save(tmp_path / 'model.gguf', config, tensors, kind=kind)
  number = gguf.GGMLQuantizationType[kind]
  found = gguf_model.tensors(path)
  assert found.keys() == tensors.keys()
  with tensor_file.Reader(4096) as reader:
    for name, value in tensors.items():
      if value.ndim > 1:
        raw = gguf.quants.quantize(value, number)
        value = gguf.quants.dequantize(raw, number)
      blocks = [rows for _, rows in reader.blocks(found[name])]
      np.testing.assert_allclose(np.concatenate(blocks), value, atol=1e-6)
      part = tuple(slice(size // 4, size // 2) for size in value.shape)
      blocks = [rows for _, rows in reader.blocks(found[name], part)]
      np.testing.assert_allclose(np.concatenate(blocks), value[part], atol=1e-6)


@pytest.mark.parametrize('kind', ['Q4_K', 'Q5_K', 'Q6_K', 'Q2_K', 'IQ4_XS'])
@pytest.mark.parametrize('head_size', [0, 8])
def test_super_blocks_are_read_in_parts(tmp_path, kind, head_size):
  """`gguf` reads these types, and cannot write them."""
  number = gguf.GGMLQuantizationType[kind]
  _, size = gguf.GGML_QUANT_SIZES[number]
  raw = np.random.default_rng(0).integers(0, 60, (16, 2 * size)).astype('u1')
  expected = gguf.quants.dequantize(raw, number)
  path = tmp_path / 'raw'
  path.write_bytes(b'123' + raw.tobytes())
  tensor = gguf_tensor.GgufTensor(
    path, 'x', 'F32', (16, 512), 3, 3 + raw.size, kind, head_size
  )
  if head_size:
    halves = expected.reshape(2, head_size // 2, 2, -1).swapaxes(1, 2)
    expected = halves.reshape(expected.shape)
  for rows in (1, 3, 5, 16):
    with tensor_file.Reader(rows * 2048) as reader:
      blocks = [block for _, block in reader.blocks(tensor)]
      np.testing.assert_array_equal(np.concatenate(blocks), expected)


@pytest.mark.parametrize('kind', ['Q4_0', 'Q4_1', 'Q8_0'])
def test_fast_dequantization_gives_the_bits_of_gguf(kind):
  number = gguf.GGMLQuantizationType[kind]
  _, size = gguf.GGML_QUANT_SIZES[number]
  raw = np.random.default_rng(0).integers(0, 256, (64, 5 * size)).astype('u1')
  with np.errstate(all='ignore'):  # Scales of any bits, also NaN.
    expected = gguf.quants.dequantize(raw, number)
    found = gguf_tensor.dequantize(raw, kind).reshape(expected.shape)
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, expected)
  assert np.isfinite(expected).mean() > 0.9


def test_a_tensor_is_read_in_small_blocks(tmp_path):
  raw = np.zeros((2048, 1088), 'u1')  # 8 MB in float32.
  path = tmp_path / 'raw'
  path.write_bytes(raw.tobytes())
  tensor = gguf_tensor.GgufTensor(
    path, 'x', 'F32', (2048, 1024), 0, raw.size, 'Q8_0', 64
  )
  del raw
  with tensor_file.Reader(2**18) as reader:
    list(reader.blocks(tensor, (slice(0, 64), slice(0, 1024))))
    tracemalloc.start()
    for _, _block in reader.blocks(tensor):
      pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
  assert peak < 2 * 2**20


def test_a_model_is_opened_and_described_once(tmp_path):
  _, path = _save_both(
    tmp_path, 'llama',
    changes={'tokenizer.chat_template': '{{ messages[0].content }}'},
  )  # fmt: skip
  loaded = open_model.open_model(str(path))
  assert loaded.tokenizer.encode('abba') == [2, 1, 0]
  assert loaded.end_tokens == (3,)
  assert loaded.tokenizer.bos == 3  # There is no BOS.
  home = loaded.base_model.folder
  assert home.parent == user_cache.folder('gguf')
  settings = json.loads((home / 'tokenizer_config.json').read_text())
  assert settings['chat_template'] == '{{ messages[0].content }}'
  times = [p.stat().st_mtime_ns for p in sorted(home.iterdir())]
  assert hf_checkpoint.read(str(path)).folder == home
  assert [p.stat().st_mtime_ns for p in sorted(home.iterdir())] == times
  path.write_bytes(path.read_bytes())  # Another time of change.
  path.touch()
  assert hf_checkpoint.read(str(path)).folder != home


def test_a_damaged_file_leaves_no_description(tmp_path):
  _, path = _save_both(tmp_path, 'llama')
  path.write_bytes(path.read_bytes()[:-200])
  with pytest.raises(errors.StorageError, match='model.gguf'):
    open_model.open_model(str(path))
  assert not user_cache.folder('gguf').exists()


def test_a_file_that_becomes_shorter_while_it_is_read_is_named(tmp_path):
  _, path = _save_both(tmp_path, 'llama')
  found = gguf_model.tensors(path)
  last = max(found.values(), key=lambda tensor: tensor.begin)
  path.write_bytes(path.read_bytes()[: last.begin + 4])
  with tensor_file.Reader() as reader:
    with pytest.raises(errors.StorageError, match=last.name):
      list(reader.blocks(last))


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
  _, path = _save_both(tmp_path, 'llama')
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
  with pytest.raises(errors.StorageError, match='set XDG_CACHE_HOME'):
    open_model.open_model(str(path))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'general.architecture': 'mamba'}, 'general.architecture'),
    ({'general.type': 'adapter'}, 'general.type'),
    ({'split.count': 3}, 'split.count'),
    ({'llama.block_count': None}, 'llama.block_count'),
    ({'llama.block_count': 2**31}, 'llama.block_count'),
    ({'llama.block_count': 4}, "'blk.3.attn_norm.weight' is missing"),
    ({'llama.block_count': 2}, "'blk.2.attn_k.weight' .* no place"),
    ({'llama.embedding_length': 12}, 'has shape'),
    ({'llama.attention.key_length': 7}, 'rope.dimension_count|value_length'),
    ({'llama.attention.scale': 0.5}, 'llama.attention.scale'),
    ({'llama.expert_count': 4}, 'llama.expert_count'),
    ({'llama.rope.scaling.type': 'longrope'}, 'rope.scaling.type'),
    ({'llama.attention.head_count_kv': [2, 2, 1]}, 'head_count_kv'),
    ({'llama.context_length': 'many'}, 'llama.context_length'),
    ({'llama.rope.freq_base': -1.0}, 'rope.freq_base|rope_theta'),
    ({'tokenizer.ggml.model': None}, 'tokenizer.ggml.model'),
    ({'tokenizer.ggml.tokens': None}, 'tokenizer.ggml.tokens'),
  ],
)
def test_metadata_that_is_not_supported_is_named(tmp_path, changes, message):
  _, path = _save_both(tmp_path, 'llama', changes=changes)
  with pytest.raises(errors.ModelFileError, match=message) as caught:
    open_model.open_model(str(path))
  assert str(path) in str(caught.value)


@pytest.mark.parametrize('family', ['llama', 'gemma3'])
def test_values_of_other_types_are_errors_or_harmless(tmp_path, family):
  _, path = _save_both(tmp_path, family)
  header = gguf_file.read(path)
  keys = [
    *header.metadata, 'split.count', 'general.type', 'tokenizer.chat_template',
    'tokenizer.ggml.add_bos_token', f'{family}.rope.scaling.type',
    f'{family}.rope.scaling.factor', 'tokenizer.ggml.eot_token_id',
  ]  # fmt: skip
  refused = 0
  for key in keys:
    for value in (
      'x',
      '',
      -1,
      0,
      2**40,
      0.5,
      float('nan'),
      True,
      [],
      [1],
      ['x'],
    ):
      metadata = {**header.metadata, key: value}
      changed = dataclasses.replace(header, metadata=metadata)
      try:
        gguf_model._files(changed)
      except errors.ModelFileError as error:
        assert str(path) in str(error)
        refused += 1
  assert refused > 5 * len(keys)


def test_a_tensor_that_has_no_place_is_named(tmp_path):
  _, path = _save_both(
    tmp_path, 'qwen2', extra={'blk.0.attn_q.scale': np.ones(4, 'f4')}
  )
  with pytest.raises(errors.ModelFileError, match='blk.0.attn_q.scale'):
    open_model.open_model(str(path))


def test_more_tokens_than_rows_are_refused(tmp_path):
  words = gguf_files.WORDS | dict(
    tokens=[*gguf_files.WORDS['tokens'], *map(str, range(hf_files.V))],
    token_type=[1, 1, 1, 3, *[1] * hf_files.V],
  )
  _, path = _save_both(tmp_path, 'llama', words=words)
  with pytest.raises(errors.ModelFileError, match='41 tokens'):
    open_model.open_model(str(path))


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.MissingFileError, match=r'none\.gguf'):
    open_model.open_model(str(tmp_path / 'none.gguf'))


def test_a_directory_of_that_name_is_a_directory(tmp_path):
  home = tmp_path / 'model.gguf'
  hf_files.save(home, 'llama')
  assert not gguf_model.is_file(home)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    hf_files.load(home)


def test_the_package_is_asked_for(tmp_path, monkeypatch):
  _, path = _save_both(tmp_path, 'llama')
  monkeypatch.setitem(__import__('sys').modules, 'gguf', None)
  gguf_tensor.library.cache_clear()
  with pytest.raises(errors.MissingPackageError, match='pip install gguf'):
    open_model.open_model(str(path))

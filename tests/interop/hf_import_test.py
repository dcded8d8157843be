"""Import of Hugging Face checkpoints, compared with a NumPy implementation."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from sleep_jax import types
from sleep_jax.interop import hf_import, hf_names, tensor_file
from sleep_jax.model import streaming
from tests import hf_files, testing

V, D, F, L, K = (getattr(hf_files, name) for name in 'VDFLK')


def _batch(rows=3, width=11):
  random = np.random.default_rng(7)
  tokens = random.integers(0, V, (rows, width)).astype('i4')
  return tokens, np.array([width, 5, 8][:rows])


def _logits(model, weights, tokens, length):
  rows = types.model_inputs(jnp.asarray(tokens), jnp.asarray(length))
  return np.asarray(testing.forward(model)(weights, *rows))


def _rope_frequencies(rope, scaling):
  """Returns the radians per position of each pair of a head."""
  frequencies = rope['rope_theta'] ** (-np.arange(0, K, 2) / K)
  if scaling and 'low_freq_factor' in scaling:
    context = scaling['original_max_position_embeddings']
    for i, frequency in enumerate(frequencies):
      wavelength = 2 * np.pi / frequency
      if wavelength > context / scaling['low_freq_factor']:
        frequencies[i] = frequency / scaling['factor']
      elif wavelength > context / scaling['high_freq_factor']:
        low, high = scaling['low_freq_factor'], scaling['high_freq_factor']
        smooth = (context / wavelength - low) / (high - low)
        frequencies[i] *= (1 - smooth) / scaling['factor'] + smooth
    return frequencies
  return frequencies / (scaling or {}).get('factor', 1.0)


def _local(config):
  """Returns for each layer whether its attention is local."""
  window = config.get('sliding_window')
  if 'layer_types' in config:
    return [kind == 'sliding_attention' for kind in config['layer_types']]
  if config['model_type'] == 'mistral':
    return [window is not None] * L
  on = config.get('use_sliding_window', False)
  return [on and layer >= config['max_window_layers'] for layer in range(L)]


def _reference_logits(config, tensors, tokens):
  """Computes the logits of one row in NumPy and float64, as in the papers."""
  t = {name: x.astype('f8') for name, x in tensors.items()}
  heads, kv = config['num_attention_heads'], config['num_key_value_heads']
  gemma = config['model_type'] == 'gemma3_text'
  rope = config.get('rope_parameters') or config
  size = (config['query_pre_attn_scalar'] if gemma else K) ** 0.5

  def capped(x):
    cap = config.get('final_logit_softcapping')
    return cap * np.tanh(x / cap) if cap else x

  def norm(x, name):
    mean = np.sqrt((x**2).mean(-1, keepdims=True) + config['rms_norm_eps'])
    return x / mean * (t[name] + gemma)

  def act(x):
    if not gemma:
      return x / (1 + np.exp(-x))
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(inner))

  h = t['model.embed_tokens.weight'][tokens] * (D**0.5 if gemma else 1)
  for layer in range(L):
    at = f'model.layers.{layer}.'
    is_global = not _local(config)[layer]
    if gemma:
      layer_rope = rope['full_attention' if is_global else 'sliding_attention']
      frequencies = _rope_frequencies(layer_rope, layer_rope)
    else:
      scaling = config.get('rope_parameters') or config.get('rope_scaling')
      frequencies = _rope_frequencies(rope, scaling)

    def rotate(x, frequencies=frequencies):  # [H, T, K]
      angle = np.arange(x.shape[1])[:, None] * frequencies[None]
      cos, sin = np.cos(angle), np.sin(angle)
      a, b = x[..., : K // 2], x[..., K // 2 :]
      return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = norm(h, f'{at}input_layernorm.weight')

    def split(name, count, x=x, at=at):
      y = x @ t[f'{at}self_attn.{name}_proj.weight'].T
      y = y + t.get(f'{at}self_attn.{name}_proj.bias', 0.0)
      y = y.reshape(len(x), count, K).transpose(1, 0, 2)
      if f'{at}self_attn.{name}_norm.weight' in t:
        y = norm(y, f'{at}self_attn.{name}_norm.weight')
      return y

    q, k, v = split('q', heads), split('k', kv), split('v', kv)
    k, v = (np.repeat(y, heads // kv, 0) for y in (rotate(k), v))
    # As in transformers, attn_logit_softcapping has no effect in Gemma 3.
    score = rotate(q) @ k.transpose(0, 2, 1) / size
    mask = np.tril(np.ones(score.shape[1:], bool))
    if not is_global:
      mask &= ~np.tril(mask, -config['sliding_window'])
    score = np.where(mask, score, -np.inf)
    attention = np.exp(score - score.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    y = (attention @ v).transpose(1, 0, 2).reshape(len(x), -1)
    y = y @ t[f'{at}self_attn.o_proj.weight'].T
    y = y + t.get(f'{at}self_attn.o_proj.bias', 0.0)
    after = f'{at}post_attention_layernorm.weight'
    h = h + (norm(y, after) if gemma else y)
    before = f'{at}pre_feedforward_layernorm.weight' if gemma else after
    x = norm(h, before)
    gate, up = (x @ t[f'{at}mlp.{n}_proj.weight'].T for n in ('gate', 'up'))
    y = act(gate) * up @ t[f'{at}mlp.down_proj.weight'].T
    if gemma:
      y = norm(y, f'{at}post_feedforward_layernorm.weight')
    h = h + y
  head = t.get('lm_head.weight', t['model.embed_tokens.weight'])
  return capped(norm(h, 'model.norm.weight') @ head.T)


@pytest.mark.parametrize('family', hf_files.FAMILIES)
def test_the_logits_are_those_of_the_reference(tmp_path, family):
  """Rows differ in length; the model has untrained levels and experts."""
  config, tensors = hf_files.save(tmp_path, family)
  model, weights = hf_files.load(tmp_path)
  assert model.config.num_levels == 2 and not weights.active_NE.any()
  tokens, length = _batch()
  found = _logits(model, weights, tokens, length)
  for row, size in enumerate(length):
    expected = _reference_logits(config, tensors, tokens[row, :size])
    np.testing.assert_allclose(found[row, :size], expected, atol=1e-4)


@pytest.mark.parametrize('family', ['mistral_local', 'qwen2_local', 'gemma3'])
def test_decoding_with_local_attention_agrees_with_the_forward_pass(
  tmp_path, family
):
  """Prompts differ in length, and tokens are decoded with a cache."""
  hf_files.save(tmp_path, family)
  model, weights = hf_files.load(tmp_path)
  tokens, _ = _batch()
  prompts = [
    row[:size].tolist() for row, size in zip(tokens, (6, 2, 4), strict=True)
  ]
  rows = list(
    streaming.stream(
      model, weights, prompts, jax.random.key(0), max_new=8, end_tokens=[],
      temperature=0.0,
    )
  )  # fmt: skip
  generated = [list(row) for row in zip(*rows, strict=True)]
  whole = np.zeros((3, 6 + 8), 'i4')
  length = [len(prompt) + 8 for prompt in prompts]
  for row, size, prompt, new in zip(
    whole, length, prompts, generated, strict=True
  ):
    row[:size] = prompt + new
  best = _logits(model, weights, whole, length).argmax(-1)
  for row, size, new in zip(best, length, generated, strict=True):
    assert row[size - 9 : size - 1].tolist() == new


@pytest.mark.parametrize('arrangement', ['independent', 'depth'])
def test_untrained_levels_do_not_change_the_logits(tmp_path, arrangement):
  hf_files.save(tmp_path, 'qwen3')
  tokens, length = _batch()
  plain = _logits(*hf_files.load(tmp_path), tokens, length)
  model, weights = hf_files.load(tmp_path, arrangement=arrangement)
  assert model.config.arrangement == arrangement
  np.testing.assert_allclose(
    _logits(model, weights, tokens, length), plain, atol=1e-5
  )


@pytest.mark.parametrize('mesh', [(2, 2, 2), (1, 8, 1), (1, 2, 2)])
def test_several_files_and_devices_give_the_same_weights(
  tmp_path, mesh, monkeypatch
):
  hf_files.save(tmp_path / 'one', 'qwen2', vocab_size=V)
  hf_files.save(tmp_path / 'many', 'qwen2', files=4, vocab_size=V)
  _, whole = hf_files.load(tmp_path / 'one')
  _, parts = hf_files.load(tmp_path / 'many', mesh=mesh)
  assert testing.same(jax.device_get(whole), jax.device_get(parts))
  kernel = parts.params['blocks/levels/2/base/mlp/up']
  data, fsdp, tensor = mesh
  assert kernel.addressable_shards[0].data.size * fsdp * tensor == kernel.size
  # Small blocks give the same weights as well.
  monkeypatch.setattr(tensor_file, 'BLOCK_BYTES', 200)
  _, sliced = hf_files.load(tmp_path / 'many', mesh=mesh)
  assert testing.same(jax.device_get(whole), jax.device_get(sliced))
  # Assembled on the device too, as on a GPU.
  monkeypatch.setattr(hf_import, '_is_cpu', lambda device: False)
  _, sliced = hf_files.load(tmp_path / 'many', mesh=mesh)
  assert testing.same(jax.device_get(whole), jax.device_get(sliced))


def test_the_dtype_applies_to_the_base_model_only(tmp_path):
  _, tensors = hf_files.save(tmp_path, 'llama', dtype=ml_dtypes.bfloat16)
  model, bfloat16 = hf_files.load(tmp_path, dtype='bfloat16')
  # Trained arrays stay in float32.
  imported = dict(hf_names.tensor_sources(model))
  for path, leaf in bfloat16.params.items():
    assert leaf.dtype == ('bfloat16' if path in imported else 'float32'), path
  _, float32 = hf_files.load(tmp_path, dtype='float32')
  embed = tensors['model.embed_tokens.weight']
  np.testing.assert_array_equal(float32.params['embed'], embed.astype('f4'))
  np.testing.assert_array_equal(bfloat16.params['embed'], embed)


def _damage(folder, what):
  """Damages a checkpoint; returns a pattern for the expected message."""
  config = json.loads((folder / 'config.json').read_text())
  weights_file = folder / 'model.safetensors'
  change = lambda **fields: (folder / 'config.json').write_text(
    json.dumps(config | fields)
  )
  tensors = safetensors.load_file(weights_file)
  save = lambda: safetensors.save_file(tensors, weights_file)
  if what == 'no config':
    (folder / 'config.json').unlink()
    return 'config.json does not exist'
  if what == 'invalid JSON':
    (folder / 'config.json').write_text('{')
    return 'config.json is not valid JSON'
  if what == 'unknown architecture':
    change(model_type='mamba')
    return "model_type is 'mamba': expected one of"
  if what == 'unknown activation':
    change(hidden_act='relu')
    return "hidden_act is 'relu'"
  if what == 'unknown rope type':
    change(rope_scaling={'rope_type': 'mrope', 'factor': 2.0})
    return "rope_type is 'mrope'"
  if what == 'incomplete rope fields':
    change(rope_scaling={'rope_type': 'llama3', 'factor': 2.0})
    return 'fields are missing: low_freq_factor, high_freq_factor, '
  if what == 'unknown layer type':
    change(layer_types=['chunked_attention'] * L)
    return "layer_types is .'chunked_attention'"
  if what == 'no window':
    change(model_type='qwen3', layer_types=['sliding_attention'] * L)
    return 'sliding_window is off'
  if what == 'unsupported logit cap':
    change(final_logit_softcapping=30.0)
    return 'final_logit_softcapping is 30.0'
  if what == 'quantized':
    change(quantization_config={'bits': 4})
    return 'quantization_config'
  if what == 'invalid width':
    change(hidden_size='wide')
    return "hidden_size is 'wide'"
  if what == 'no weights':
    weights_file.unlink()
    return 'has neither model.safetensors nor'
  if what == 'only pickled weights':
    weights_file.unlink()
    (folder / 'pytorch_model.bin').write_bytes(b'no')
    return 'only pickled weights .pytorch_model.bin'
  if what == 'truncated file':
    weights_file.write_bytes(weights_file.read_bytes()[:-100])
    return 'model.safetensors is damaged or truncated'
  if what == 'missing tensor':
    del tensors['model.layers.1.mlp.up_proj.weight']
    save()
    return "no file contains tensor 'model.layers.1.mlp.up_proj.weight'"
  if what == 'wrong shape':
    name = 'model.layers.2.mlp.up_proj.weight'
    tensors[name] = tensors[name][:-1]
    save()
    return rf"up_proj.weight' has shape \({F - 1}, {D}\).*\({F}, {D}\)"
  if what == 'integer tensor':
    tensors['model.norm.weight'] = np.ones(D, 'i4')
    save()
    return "'model.norm.weight' has type I32"
  raise AssertionError(what)


@pytest.mark.parametrize(
  'what',
  [
    'no config', 'invalid JSON', 'unknown architecture', 'unknown activation',
    'unknown rope type', 'incomplete rope fields', 'unknown layer type',
    'no window', 'unsupported logit cap', 'quantized', 'invalid width',
    'no weights', 'only pickled weights', 'truncated file', 'missing tensor',
    'wrong shape', 'integer tensor',
  ],
)  # fmt: skip
def test_the_error_for_a_damaged_checkpoint_names_the_problem(tmp_path, what):
  hf_files.save(tmp_path, 'llama')
  message = _damage(tmp_path, what)
  with pytest.raises((ValueError, OSError), match=message):
    hf_files.load(tmp_path)


def test_the_error_for_a_missing_shard_names_it(tmp_path):
  hf_files.save(tmp_path, 'llama', files=3)
  (tmp_path / 'model-00002-of-00003.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='00002-of-00003.*index.json'):
    hf_files.load(tmp_path)

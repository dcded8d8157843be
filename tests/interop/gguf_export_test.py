"""GGUF files that are written here: read back, they are the same model."""

import dataclasses
import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers

from sleep_jax import errors, types
from sleep_jax.data import chat_template
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import (
  dense_mlp,
  gguf_export,
  gguf_file,
  gguf_model,
  hf_checkpoint,
  hf_tokenizer,
  open_model,
  tensor_file,
)
from tests import hf_files, testing
from tests.interop import gguf_tokenizer_test as words

TOKENS_BT = np.array([[3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9]])
GEMMA = dict(query_pre_attn_scalar=hf_files.K, attn_logit_softcapping=None)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def _base(folder, family, **changes):
  """Writes a directory with a tokenizer; returns the opened model."""
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat', 'a dog ran'])
  changes |= GEMMA if family == 'gemma3' else {}
  hf_files.save(folder, family, vocab_size=300, eos_token_id=end, **changes)
  return open_model.open_model(str(folder))


def _export(loaded, path, kind='f16', model=None, weights=None):
  gguf_export.save(
    model or loaded.model, weights or loaded.weights, str(path),
    base_model=loaded.base_model, tokenizer=loaded.tokenizer, kind=kind,
  )  # fmt: skip


def _logits(model, weights):
  rows = types.model_inputs(jnp.asarray(TOKENS_BT), jnp.array([11]))
  return np.asarray(testing.forward(model)(weights, *rows))


def _tensors(path):
  with tensor_file.Reader() as reader:
    return {
      name: np.concatenate([x for _, x in reader.blocks(tensor)])
      for name, tensor in gguf_model.tensors(path).items()
    }


@pytest.mark.parametrize(
  'family',
  ['llama3', 'llama_bias', 'smollm', 'qwen2', 'qwen3', 'gemma3'],
)
def test_an_f16_file_is_the_same_model(tmp_path, family):
  loaded = _base(tmp_path / 'hf', family)
  path = tmp_path / 'out.gguf'
  _export(loaded, path)
  again = open_model.open_model(str(path))
  assert again.end_tokens == loaded.end_tokens
  for text in ('a cat ran', 'é\n 12', ''):
    assert again.tokenizer.encode(text) == loaded.tokenizer.encode(text)
  expected = {
    name: value if value.ndim == 1 else value.astype('f2').astype('f4')
    for name, value in dense_mlp.named_tensors(
      loaded.model, loaded.weights, np.dtype('f4')
    )
  }
  found = _tensors(path)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_allclose(found[name], value, atol=2e-7)
  ours, theirs = (_logits(m.model, m.weights) for m in (again, loaded))
  np.testing.assert_allclose(ours, theirs, atol=1e-2)
  assert not list(tmp_path.glob('.*.part'))


def test_q8_0_is_what_gguf_quantizes(tmp_path):
  """Rows of 24 numbers cannot be quantized and are f16."""
  loaded = _base(tmp_path / 'hf', 'llama')
  base = tmp_path / 'out.gguf'
  _export(loaded, base, kind='q8_0')
  kinds = {t.kind for t in gguf_file.read(base).tensors.values()}
  assert kinds == {'F16', 'F32'}
  value = np.random.default_rng(0).normal(size=(4, 64)).astype('f4')
  writer = gguf.GGUFWriter(tmp_path / 'x.gguf', 'llama')
  gguf_export._add_tensor(writer, 'x', value, 'Q8_0')
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  tensor = gguf_file.read(tmp_path / 'x.gguf').tensors['x']
  assert tensor.kind == 'Q8_0'
  raw = gguf.quants.quantize(value, gguf.GGMLQuantizationType.Q8_0)
  with tensor_file.Reader() as reader:
    (found,) = (block for _, block in reader.blocks(tensor))
  np.testing.assert_array_equal(
    found, gguf.quants.dequantize(raw, gguf.GGMLQuantizationType.Q8_0)
  )


def test_levels_and_experts_become_hidden_units(tmp_path):
  loaded = _base(tmp_path / 'hf', 'smollm')
  model, weights = hf_files.load(tmp_path / 'hf', arrangement='independent')
  random = np.random.default_rng(0)
  params = {
    path: value + 0.1 * random.normal(size=value.shape).astype('f4')
    if path.startswith('blocks/levels/1/') and 'norm' not in path
    else value
    for path, value in jax.device_get(weights.params).items()
  }
  weights = dataclasses.replace(weights, params=params)
  path = tmp_path / 'out.gguf'
  _export(loaded, path, model=model, weights=weights)
  again = open_model.open_model(str(path))
  size = dense_mlp.num_hidden_units(model, weights)
  assert size > hf_files.F and again.base_model.hidden == size
  expected = _logits(model, weights)
  assert np.abs(expected - _logits(loaded.model, loaded.weights)).max() > 0.05
  found = _logits(again.model, again.weights)
  np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize('pre', ['gpt-2', 'smollm', 'llama-bpe', 'qwen2'])
def test_a_byte_level_tokenizer_is_the_same(tmp_path, pre):
  made = words._byte_level(pre)
  loaded = _with_tokenizer(tmp_path, made, '<|end|>')
  path = tmp_path / 'out.gguf'
  _export(loaded, path)
  again = open_model.open_model(str(path)).tokenizer
  for text in words._strings(100):
    assert again.encode(text) == loaded.tokenizer.encode(text), repr(text)
    ids = again.raw().encode(text).ids
    assert ids == made.encode(text).ids
    assert again.decode(ids) == made.decode(ids)


@pytest.mark.parametrize('prefix', [True, False])
def test_a_sentence_piece_tokenizer_is_the_same(tmp_path, prefix):
  made, _ = words._build(
    words._sentence_piece_words() | dict(add_space_prefix=prefix)
  )
  loaded = _with_tokenizer(tmp_path, made, '</s>', bos_token='<s>')
  path = tmp_path / 'out.gguf'
  _export(loaded, path)
  again = open_model.open_model(str(path)).tokenizer
  assert (again.bos, again.eos) == (1, 2)
  random = np.random.default_rng(1)
  for size in range(1, 60):
    text = ''.join(random.choice(list('abcabcabc é'), size))
    assert again.raw().encode(text).ids == made.encode(text).ids
    assert again.encode(text) == loaded.tokenizer.encode(text)


def _with_tokenizer(tmp_path, made, eos, **fields):
  """Returns a model with a tokenizer."""
  home = tmp_path / 'hf'
  hf_files.save(
    home, 'smollm', vocab_size=made.get_vocab_size() + 3,
    eos_token_id=made.token_to_id(eos),
  )  # fmt: skip
  made.save(str(home / 'tokenizer.json'))
  (home / 'tokenizer_config.json').write_text(json.dumps(fields))
  return open_model.open_model(str(home))


def test_the_chat_template_is_kept(tmp_path):
  folder = tmp_path / 'hf'
  _base(folder, 'llama')
  template = '{% for m in messages %}{{ m.content }}{% endfor %}'
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': template})
  )
  _export(open_model.open_model(str(folder)), tmp_path / 'out.gguf')
  metadata = gguf_file.read(tmp_path / 'out.gguf').metadata
  assert metadata['tokenizer.chat_template'] == template


@pytest.mark.parametrize(
  'family, changes, message',
  [
    ('mistral', {}, "model_type 'mistral'"),
    ('qwen2_local', {}, 'model.local'),
    ('gemma3', dict(query_pre_attn_scalar=10), 'model.query_scale'),
    ('llama', dict(hidden_act='gelu_new'), 'model.act'),
    (
      'llama',
      dict(rope_scaling=dict(rope_type='dynamic', factor=2.0)),
      'model.rope_scaling',
    ),
  ],
)
def test_what_gguf_cannot_express_is_refused(
  tmp_path, family, changes, message
):
  loaded = _base(tmp_path / 'hf', family)
  config = loaded.base_model.config | changes
  (tmp_path / 'hf/config.json').write_text(json.dumps(config))
  loaded = open_model.open_model(str(tmp_path / 'hf'))
  with pytest.raises(errors.UsageError, match=message):
    _export(loaded, tmp_path / 'out.gguf')
  assert not list(tmp_path.glob('out.gguf*'))


def test_all_reasons_are_given_at_once(tmp_path):
  loaded = _base(tmp_path / 'hf', 'mistral')
  model, weights = hf_files.load(tmp_path / 'hf')
  weights = testing.activate(weights, 2, 0)
  with pytest.raises(errors.UsageError) as refused:
    _export(loaded, tmp_path / 'out.gguf', model=model, weights=weights)
  message = str(refused.value)
  assert message.startswith("No exact GGUF export: model.router is 'sigmoid'")
  assert "model_type 'mistral' is not written as GGUF" in message


def test_another_pre_tokenizer_is_refused(tmp_path):
  made = words._byte_level('gpt-2')
  made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=True
  )
  loaded = _with_tokenizer(tmp_path, made, '<|end|>')
  with pytest.raises(errors.UsageError, match='pre-tokenizer'):
    _export(loaded, tmp_path / 'out.gguf')


def _changed(made, change):
  """Returns a tokenizer whose tokenizer.json was changed."""
  content = json.loads(made.to_str())
  change(content)
  return tokenizers.Tokenizer.from_str(json.dumps(content))


@pytest.mark.parametrize(
  'pre, change',
  [
    ('llama-bpe', lambda c: c['model'].update(
      ignore_merges=False, merges=c['model']['merges'][:-1])),
    ('gpt-2', lambda c: c['added_tokens'][0].update(lstrip=True)),
  ],
)  # fmt: skip
def test_a_tokenizer_that_a_file_would_change_is_refused(tmp_path, pre, change):
  made = _changed(words._byte_level(pre), change)
  loaded = _with_tokenizer(tmp_path, made, '<|end|>')
  with pytest.raises(errors.UsageError, match='and a GGUF file would into'):
    _export(loaded, tmp_path / 'out.gguf')
  assert [path.name for path in tmp_path.iterdir()] == ['hf']


def test_more_ends_than_gguf_has_names_for_are_refused(tmp_path):
  made = words._byte_level('gpt-2')
  made.add_special_tokens(['<e1>', '<e2>', '<e3>'])
  loaded = _with_tokenizer(tmp_path, made, '<|end|>')
  ids = [made.token_to_id(t) for t in ('<|end|>', '<e1>', '<e2>', '<e3>')]
  file = tmp_path / 'hf/generation_config.json'
  file.write_text(json.dumps({'eos_token_id': ids}))
  with pytest.raises(errors.UsageError, match="'<e3>' is a further one"):
    _export(loaded, tmp_path / 'out.gguf')


def test_a_template_knows_the_same_tokens_in_the_file(tmp_path):
  """Its EOS is that of tokenizer_config.json, and there is no BOS."""
  made = words._byte_level('gpt-2')
  made.add_special_tokens(['<|im_end|>'])
  template = (
    '{{ bos_token }}{% for m in messages %}{{ m.content }}{{ eos_token }}'
    '{% endfor %}'
  )
  loaded = _with_tokenizer(
    tmp_path, made, '<|end|>', eos_token='<|im_end|>', chat_template=template
  )
  with pytest.raises(errors.UsageError, match='one token for both'):
    _export(loaded, tmp_path / 'out.gguf')
  ids = [made.token_to_id(text) for text in ('<|end|>', '<|im_end|>')]
  file = tmp_path / 'hf/generation_config.json'
  file.write_text(json.dumps({'eos_token_id': ids}))
  _export(loaded, tmp_path / 'out.gguf')
  again = open_model.open_model(str(tmp_path / 'out.gguf'))
  messages = [{'role': 'user', 'content': 'hi'}]
  texts = [
    chat_template.ChatTemplate(str(x.base_model.folder), None).render(messages)
    for x in (loaded, again)
  ]
  assert texts[0].text == texts[1].text == 'hi<|im_end|>'


def test_a_template_that_only_has_a_name_does_not_keep_a_model(tmp_path):
  folder = tmp_path / 'hf'
  loaded = _base(folder, 'llama')
  (folder / 'additional_chat_templates').mkdir()
  (folder / 'additional_chat_templates/tool_use.jinja').write_text('{{ 1 }}')
  (tmp_path / 'out.gguf.part').write_text('of somebody else')
  _export(loaded, tmp_path / 'out.gguf')
  assert 'tokenizer.chat_template' not in (
    gguf_file.read(tmp_path / 'out.gguf').metadata
  )
  assert (tmp_path / 'out.gguf.part').read_text() == 'of somebody else'


def test_an_existing_file_and_a_model_without_base_are_refused(tmp_path):
  loaded = _base(tmp_path / 'hf', 'llama')
  (tmp_path / 'old.gguf').write_text('')
  with pytest.raises(errors.ExistsError, match=r'old\.gguf'):
    _export(loaded, tmp_path / 'old.gguf')
  with pytest.raises(errors.UsageError, match='pretrained here'):
    gguf_export.save(
      loaded.model, loaded.weights, str(tmp_path / 'new.gguf'),
      base_model=None, tokenizer=tokenizer_lib.Bytes(),
    )  # fmt: skip


def test_a_number_that_f16_cannot_hold_is_named(tmp_path):
  loaded = _base(tmp_path / 'hf', 'llama')
  params = jax.device_get(loaded.weights.params)
  params['embed'] = params['embed'] * 1e6
  with pytest.raises(errors.UsageError, match='token_embd.weight'):
    _export(
      loaded, tmp_path / 'out.gguf',
      weights=dataclasses.replace(loaded.weights, params=params),
    )  # fmt: skip
  assert not list(tmp_path.glob('out.gguf*'))


def test_llama_cpp_has_the_same_logits(tmp_path):
  """Optional: building llama-cpp-python takes a C++ compiler."""
  llama_cpp = pytest.importorskip('llama_cpp')
  loaded = _base(tmp_path / 'hf', 'smollm')
  path = tmp_path / 'out.gguf'
  _export(loaded, path)
  theirs = llama_cpp.Llama(str(path), logits_all=True, verbose=False)
  theirs.eval(TOKENS_BT[0].tolist())
  again = open_model.open_model(str(path))
  found = _logits(again.model, again.weights)[0]
  np.testing.assert_allclose(
    np.array(theirs.scores[: len(found)]), found, atol=5e-2
  )


def test_the_base_is_read_from_its_directory(tmp_path):
  """A GGUF file can be the base of what is exported."""
  loaded = _base(tmp_path / 'hf', 'gemma3')
  _export(loaded, tmp_path / 'one.gguf')
  again = open_model.open_model(str(tmp_path / 'one.gguf'))
  _export(again, tmp_path / 'two.gguf')
  one, two = (_tensors(tmp_path / f'{name}.gguf') for name in ('one', 'two'))
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, atol=2e-7)
  base = hf_checkpoint.read(str(tmp_path / 'two.gguf'), weights=False)
  assert hf_tokenizer.load(base).eos == loaded.tokenizer.eos

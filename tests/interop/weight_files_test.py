"""Which files of a model directory are read, and under which names."""

import json
import warnings

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

from sleep_jax import errors
from sleep_jax.interop import hf_checkpoint, hf_export, weight_files
from tests import hf_files, testing

INDEX, SINGLE = weight_files.INDEX_FILE, weight_files.WEIGHTS_FILE
EMBEDDING, HEAD = weight_files.EMBEDDING, weight_files.HEAD


def _load(folder):
  """Returns the weights and the warnings of a directory."""
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    _, weights = hf_files.load(folder)
  texts = [
    str(w.message)
    for w in caught
    if issubclass(w.category, errors.ModelFileWarning)
  ]
  return jax.device_get(weights), texts


def _expected(tmp_path, family='llama', **options):
  """Returns the weights of an unchanged directory."""
  hf_files.save(tmp_path / 'plain', family, **options)
  weights, texts = _load(tmp_path / 'plain')
  assert not texts
  return weights


def _save_index(folder, **changes):
  index = json.loads((folder / INDEX).read_text())
  index['weight_map'] |= changes
  (folder / INDEX).write_text(json.dumps(index))


def test_a_single_file_is_read_before_an_old_index(tmp_path):
  """As in transformers, also where a file of the index is missing."""
  home = tmp_path / 'model'
  hf_files.save(home, 'llama', files=3, seed=1)
  hf_files.save(home, 'llama')
  for _ in range(2):
    weights, texts = _load(home)
    assert testing.same(weights, _expected(tmp_path))
    assert len(texts) == 1 and f'{SINGLE} is read' in texts[0]
    (home / 'model-00002-of-00003.safetensors').unlink(missing_ok=True)


def test_an_incomplete_single_file_is_named(tmp_path):
  _, tensors = hf_files.save(tmp_path, 'llama', files=2)
  name = 'model.layers.1.mlp.up_proj.weight'
  del tensors[name]
  safetensors.save_file(tensors, tmp_path / SINGLE)
  with pytest.raises(
    errors.ModelFileError, match=f'{name}.*{SINGLE} is incomplete'
  ):
    hf_files.load(tmp_path)


def test_files_of_other_formats_are_not_read(tmp_path):
  home = tmp_path / 'model'
  hf_files.save(home, 'llama')
  safetensors.save_file(
    {'x': np.ones(2, 'f4')}, home / 'consolidated.safetensors'
  )
  (home / 'pytorch_model.bin').write_bytes(b'no')
  (home / 'original').mkdir()
  weights, texts = _load(home)
  assert testing.same(weights, _expected(tmp_path)) and not texts


def test_files_that_the_index_does_not_list_are_named(tmp_path):
  home = tmp_path / 'model'
  hf_files.save(home, 'llama', files=2)
  left = 'model-00003-of-00003.safetensors'
  safetensors.save_file({HEAD: np.ones((2, 2), 'f4')}, home / left)
  weights, texts = _load(home)
  assert testing.same(weights, _expected(tmp_path))
  assert len(texts) == 1 and f'does not list {left}' in texts[0]


def test_a_tensor_is_read_from_the_file_that_contains_it(tmp_path):
  home = tmp_path / 'model'
  hf_files.save(home, 'llama', files=2)
  last = 'model-00002-of-00002.safetensors'
  _save_index(home, **{name: last for name in (HEAD, EMBEDDING, 'model.other')})
  weights, texts = _load(home)
  assert testing.same(weights, _expected(tmp_path))
  assert len(texts) == 1 and 'no file contains model.other' in texts[0]


def test_a_listed_tensor_that_is_missing_is_named_with_its_file(tmp_path):
  hf_files.save(tmp_path, 'llama', files=2)
  path = tmp_path / 'model-00002-of-00002.safetensors'
  tensors = safetensors.load_file(path)
  name = sorted(tensors)[0]
  del tensors[name]
  safetensors.save_file(tensors, path)
  with pytest.raises(
    errors.ModelFileError, match=f'{name}.*lists it in {path.name}'
  ):
    hf_files.load(tmp_path)


def test_a_tensor_in_two_files_must_be_the_same(tmp_path):
  home = tmp_path / 'model'
  hf_files.save(home, 'llama', files=3)
  one, two = (home / f'model-0000{n}-of-00003.safetensors' for n in (1, 3))
  tensors, others = safetensors.load_file(one), safetensors.load_file(two)
  name = sorted(tensors)[0]
  safetensors.save_file(others | {name: tensors[name]}, two)
  weights, texts = _load(home)
  assert testing.same(weights, _expected(tmp_path)) and not texts
  safetensors.save_file(others | {name: tensors[name] + 1}, two)
  with pytest.raises(errors.ModelFileError, match=f'{name}.*{one.name}'):
    hf_files.load(home)


@pytest.mark.parametrize(
  'file', ['../x.safetensors', '/x.safetensors', 'a/../../x', '', 7, None]
)
def test_an_index_that_leaves_the_directory_is_refused(tmp_path, file):
  hf_files.save(tmp_path / 'model', 'llama', files=2)
  _save_index(tmp_path / 'model', other=file)
  with pytest.raises(errors.ModelFileError, match="file of tensor 'other' is"):
    hf_files.load(tmp_path / 'model')


@pytest.mark.parametrize('text', ['{}', '[]', '{"weight_map": {}}', '{"weight'])
def test_an_index_without_files_is_refused(tmp_path, text):
  hf_files.save(tmp_path, 'llama', files=2)
  (tmp_path / INDEX).write_text(text)
  with pytest.raises(errors.ModelFileError, match=INDEX):
    hf_files.load(tmp_path)


@pytest.mark.parametrize(
  'name, message',
  [
    ('model-00001-of-00002.safetensors', f'download {INDEX}'),
    ('consolidated.safetensors', 'tensors have other names'),
    ('model.gguf', 'only model.gguf'),
    ('model.bin', 'AutoModelForCausalLM'),
  ],
)
def test_a_directory_with_other_weights_only_says_what_to_do(
  tmp_path, name, message
):
  hf_files.save(tmp_path, 'llama')
  (tmp_path / SINGLE).rename(tmp_path / name)
  with pytest.raises(errors.MissingFileError, match=message):
    hf_files.load(tmp_path)


@pytest.mark.parametrize('family', ['llama', 'qwen2', 'gemma3'])
@pytest.mark.parametrize(
  'rename',
  [
    lambda name: name.removeprefix('model.'),
    lambda name: f'model.{name}',
    lambda name: name.removeprefix('model.') if '.1.' in name else name,
    lambda name: f'language_model.{name}',
    lambda name: name.replace('model.', 'model.language_model.', 1),
  ],
)
def test_names_with_other_prefixes_are_the_same_tensors(
  tmp_path, family, rename
):
  _, tensors = hf_files.save(tmp_path / 'model', family)
  safetensors.save_file(
    {rename(name): x for name, x in tensors.items()},
    tmp_path / 'model' / SINGLE,
  )
  weights, _ = _load(tmp_path / 'model')
  hf_files.save(tmp_path / 'plain', family)
  assert testing.same(weights, _load(tmp_path / 'plain')[0])


def test_one_tensor_under_two_names_must_be_the_same(tmp_path):
  _, tensors = hf_files.save(tmp_path, 'llama')
  norm = tensors['model.norm.weight']
  safetensors.save_file(tensors | {'norm.weight': norm + 1}, tmp_path / SINGLE)
  with pytest.raises(errors.ModelFileError, match='twice with different'):
    hf_files.load(tmp_path)


def test_tensors_that_are_not_used_are_named(tmp_path):
  home = tmp_path / 'model'
  _, tensors = hf_files.save(home, 'llama')
  extra = {
    'lm_head.bias': np.ones(hf_files.V, 'f4'),
    'model.layers.3.mlp.up_proj.weight': np.ones((2, 2), 'f4'),
    'model.layers.3.mlp.down_proj.weight': np.ones((2, 2), 'f4'),
    'vision_tower.layers.0.weight': np.ones((2, 2), 'f4'),
    'vision_tower.layers.1.weight': np.ones((2, 2), 'i4'),
  }
  for layer in range(2):
    name = f'model.layers.{layer}.self_attn.'
    extra[f'{name}q_proj.bias'] = np.ones(24, 'f4')
    extra[f'{name}rotary_emb.inv_freq'] = np.ones(3, 'f4')
  safetensors.save_file(tensors | extra, home / SINGLE)
  weights, texts = _load(home)
  assert testing.same(weights, _expected(tmp_path)) and len(texts) == 1
  assert texts[0].endswith(
    'not read: lm_head.bias, model.layers.*.self_attn.q_proj.bias (2), '
    'model.layers.3.* (2), vision_tower.* (2).'
  )


@pytest.mark.parametrize(
  'name, message',
  [
    ('base_model.model.model.norm.weight', 'adapter.*merge_and_unload'),
    ('model.layers.0.mlp.up_proj.lora_A.weight', 'adapter.*merge_and_unload'),
    ('model.layers.0.mlp.up_proj.qweight', 'quantized'),
    ('model.layers.0.mlp.up_proj.weight_scale', 'quantized'),
  ],
)
def test_tensors_that_change_others_are_refused(tmp_path, name, message):
  _, tensors = hf_files.save(tmp_path, 'llama')
  tensors[name] = np.ones((2, 2), 'f4')
  safetensors.save_file(tensors, tmp_path / SINGLE)
  with pytest.raises(errors.ModelFileError, match=f'{name}.*{message}'):
    hf_files.load(tmp_path)


@pytest.mark.parametrize('config', [True, False])
def test_an_adapter_is_refused_with_what_to_do(tmp_path, config):
  hf_files.save(tmp_path, 'llama')
  (tmp_path / 'adapter_config.json').write_text(
    '{"base_model_name_or_path": "maker/base"}'
  )
  if not config:
    (tmp_path / 'config.json').unlink()
  with pytest.raises(
    errors.ModelFileError, match="adapter.*'maker/base'.*merge_and_unload"
  ):
    hf_checkpoint.read(str(tmp_path))


def _save_tied(folder, *, embedding=True, head=None, files=1):
  """Writes a model whose config ties the head, with the given tensors."""
  _, tensors = hf_files.save(folder, 'smollm', files=files)
  rows = tensors[EMBEDDING]
  changed = {name: x for name, x in tensors.items() if name != EMBEDDING}
  if embedding:
    changed[EMBEDDING] = rows
  if head is not None:
    changed[HEAD] = rows[::-1].copy() if head == 'other' else rows
  safetensors.save_file(changed, folder / SINGLE)
  return rows


@pytest.mark.parametrize('embedding, head', [(True, 'same'), (False, 'same')])
def test_an_equal_head_is_tied(tmp_path, embedding, head):
  rows = _save_tied(tmp_path, embedding=embedding, head=head)
  weights, texts = _load(tmp_path)
  assert not texts and 'head' not in weights.params
  np.testing.assert_array_equal(weights.params['embed'], rows)


def test_a_head_of_its_own_is_kept_although_the_config_ties_it(tmp_path):
  """It is also in the config that is exported."""
  rows = _save_tied(tmp_path / 'model', head='other')
  weights, texts = _load(tmp_path / 'model')
  np.testing.assert_array_equal(weights.params['embed'], rows)
  np.testing.assert_array_equal(weights.params['head'], rows[::-1].T)
  assert len(texts) == 1 and 'tie_word_embeddings is true, but' in texts[0]
  base = hf_checkpoint.read(str(tmp_path / 'model'))
  model, weights = hf_files.load(tmp_path / 'model')
  hf_export.save(model, weights, str(tmp_path / 'out'), base_model=base)
  config = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert config['tie_word_embeddings'] is False
  exported = safetensors.load_file(tmp_path / 'out' / SINGLE)
  np.testing.assert_array_equal(exported[HEAD], rows[::-1])


def test_a_missing_head_names_the_field(tmp_path):
  _, tensors = hf_files.save(tmp_path, 'llama')
  del tensors[HEAD]
  safetensors.save_file(tensors, tmp_path / SINGLE)
  with pytest.raises(
    errors.ModelFileError, match='lm_head.weight.*tie_word_embeddings is false'
  ):
    hf_files.load(tmp_path)


@pytest.mark.parametrize('embedding', [True, False])
@pytest.mark.parametrize('head', [None, 'same', 'other'])
def test_ties_are_those_of_transformers(tmp_path, embedding, head):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  if not embedding and head is None:
    pytest.skip('transformers fills both with random numbers')
  _save_tied(tmp_path, embedding=embedding, head=head)
  peer = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, dtype=torch.float32
  )
  params = _load(tmp_path)[0].params
  found = params.get('head', params['embed'].T)
  expected = peer.get_output_embeddings().weight.detach().numpy()
  np.testing.assert_array_equal(found, expected.T)
  expected = peer.get_input_embeddings().weight.detach().numpy()
  np.testing.assert_array_equal(params['embed'], expected)

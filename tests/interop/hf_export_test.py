"""Dense export as a Hugging Face checkpoint."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors as safetensors_lib
from safetensors import numpy as safetensors

from sleep_jax import errors, types
from sleep_jax.interop import (
  dense_mlp,
  hf_checkpoint,
  hf_export,
  hf_import,
  tensor_file,
)
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from tests import hf_files, testing

HIDDEN, RANK = testing.levels((1, 1))[0]['hidden'], testing.RANK


def _trained(**changes):
  """Returns a model with random weights and two active experts."""
  model = testing.tiny(
    **dict(arrangement='independent', router='always') | changes
  )
  return model, testing.activate(testing.weights(model), 2, 1, 3)


def _logits(model, weights):
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  return np.asarray(testing.forward(model)(weights, *rows))[
    np.asarray(batch.segments_BT) > 0
  ]


def _load(folder):
  base_model = hf_checkpoint.read(str(folder))
  settings = base_model.settings | {'arrangement': 'independent'}
  levels = testing.levels((1, 'experience'))
  made = config_lib.make(
    settings, (levels[0], levels[1] | dict(hidden=base_model.hidden)),
    vocab_size=base_model.vocab_size,
  )  # fmt: skip
  model = transformer.Transformer(made)
  place = testing.placement(data=1, fsdp=1, tensor=1)
  return model, hf_import.load(base_model, model, place, key=jax.random.key(0))


SHAPES = [
  dict(),
  dict(attention='xla', unroll=2, looped=True, remat='full'),
  dict(gated_experts=True),
  dict(qk_norm=False, tied=False),
  dict(qk_norm=False, qkv_bias=True),
  dict(qk_norm=False, rope_scaling=(4.0, 1.0, 4.0, 16.0)),
  dict(qk_norm=False, qkv_bias=True, out_bias=True),
  dict(window=2, local=(True, False), rope_scaling=(4.0,)),
  dict(qk_norm=False, window=2, local=(True, True)),
  dict(qk_norm=False, qkv_bias=True, window=2, local=(False, True)),
]


@pytest.mark.parametrize('changes', SHAPES)
def test_an_exported_model_has_the_same_logits(tmp_path, changes):
  model, weights = _trained(**changes)
  hf_export.save(model, weights, str(tmp_path / 'out'))
  exported, loaded = _load(tmp_path / 'out')
  assert exported.config.levels[1].hidden == 2 * HIDDEN + 2 * RANK
  np.testing.assert_allclose(
    _logits(exported, loaded), _logits(model, weights), atol=1e-4
  )


def test_in_depth_each_layer_is_exported_with_the_mlp_of_its_level(tmp_path):
  model = testing.tiny(arrangement='depth', layer_levels=(2, 1))
  weights = testing.weights(model)
  hf_export.save(model, weights, str(tmp_path / 'out'))
  exported, loaded = _load(tmp_path / 'out')
  down = 'blocks/levels/1/base/mlp/down'
  loaded = loaded.with_params({down: loaded.params[down] * 0})
  np.testing.assert_allclose(
    _logits(exported, loaded), _logits(model, weights), atol=1e-4
  )


@pytest.mark.parametrize('changes', SHAPES)
def test_an_export_has_the_same_logits_in_transformers(tmp_path, changes):
  torch = pytest.importorskip('torch')
  transformers = pytest.importorskip('transformers')
  model, weights = _trained(**changes)
  hf_export.save(model, weights, str(tmp_path / 'out'))
  peer = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path / 'out', dtype=torch.float32, attn_implementation='eager'
  )
  tokens = np.asarray(testing.batch().tokens_BT[:1, :4])
  with torch.no_grad():
    expected = peer(torch.tensor(tokens)).logits[0].numpy()
  rows = types.model_inputs(jnp.asarray(tokens), jnp.array([4]))
  np.testing.assert_allclose(
    model.forward(weights, *rows)[0], expected, atol=1e-4
  )


def test_exporting_a_loaded_export_gives_the_same_bytes(tmp_path):
  model, weights = _trained()
  hf_export.save(model, weights, str(tmp_path / 'one'), shard_bytes=4000)
  base_model = hf_checkpoint.read(str(tmp_path / 'one'))
  exported, loaded = _load(tmp_path / 'one')
  hf_export.save(
    exported,
    loaded,
    str(tmp_path / 'two'),
    base_model=base_model,
    shard_bytes=4000,
  )
  names = sorted(path.name for path in (tmp_path / 'one').iterdir())
  assert len(names) > 3 and not any('part-' in name for name in names)
  for name in names:
    one, two = ((tmp_path / f / name).read_bytes() for f in ('one', 'two'))
    assert one == two, name


@pytest.mark.parametrize(
  'family, options',
  [
    *((family, {}) for family in hf_files.FAMILIES),
    ('llama', dict(files=3, shard_bytes=4000)),
    ('qwen2', dict(vocab_size=311, tie_word_embeddings=False)),
    ('gemma3', dict(shard_bytes=9000, dtype='bfloat16')),
    ('mistral_local', dict(num_key_value_heads=4, dtype='bfloat16')),
  ],
)
def test_an_unchanged_base_model_is_exported_unchanged(
  tmp_path, family, options
):
  """Tensors and files are the same, and a second export is identical."""
  options = dict(vocab_size=300) | options
  output = dict(
    dtype=options.setdefault('dtype', 'float32'),
    shard_bytes=options.pop('shard_bytes', 2**30),
  )
  folders = [tmp_path / name for name in ('original', 'first', 'second')]
  config, tensors = hf_files.save(folders[0], family, **options)
  hf_files.save_tokenizer(folders[0], ['Ada sings.'])
  for name in ('tokenizer_config.json', 'generation_config.json'):
    (folders[0] / name).write_text('{ "eos_token_id":299}')
  for source, target in itertools.pairwise(folders):
    model, weights = hf_files.load(source, dtype=output['dtype'])
    base_model = hf_checkpoint.read(str(source))
    hf_export.save(model, weights, str(target), base_model=base_model, **output)
  original, first, second = (
    {path.name: path.read_bytes() for path in folder.iterdir()}
    for folder in folders
  )
  assert first == second
  for name in original:
    if 'token' in name or 'generation' in name:
      assert original[name] == first[name]
  written = json.loads(first['config.json'])
  assert {name: written[name] for name in config} == config
  exported: dict[str, np.ndarray] = {}
  for path in folders[1].glob('*.safetensors'):
    exported |= safetensors.load_file(path)
  assert exported.keys() == tensors.keys()
  for name, tensor in tensors.items():
    assert exported[name].dtype == tensor.dtype
    np.testing.assert_array_equal(exported[name], tensor)


def test_untrained_levels_and_inactive_experts_are_not_exported(tmp_path):
  model, weights = _trained()
  params = {
    path: jnp.zeros_like(leaf) if '/1/base/mlp/down' in path else leaf
    for path, leaf in weights.params.items()
  }
  weights = weights.replace(
    params=params, active_NE=jnp.zeros_like(weights.active_NE)
  )
  hf_export.save(model, weights, str(tmp_path / 'out'), dtype='bfloat16')
  config = json.loads((tmp_path / 'out' / 'config.json').read_text())
  assert config['intermediate_size'] == HIDDEN
  assert config['dtype'] == 'bfloat16'
  assert config['architectures'] == ['Qwen3ForCausalLM']


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(router='sigmoid'), "model.router is 'sigmoid'"),
    (dict(arrangement='sequential'), "model.arrangement is 'sequential'"),
    (
      dict(arrangement='depth', layer_levels=(2, 1)),
      "model.arrangement is 'depth'",
    ),
    (dict(logit_cap=5.0), 'model.logit_cap is 5.0'),
    (dict(act='gelu'), "model.act is 'gelu'"),
    (dict(qkv_bias=True), 'model.qkv_bias is True'),
    (dict(qk_norm=False, window=2, local=(True, False)), 'model.local is'),
  ],
)
def test_a_model_without_an_exact_dense_export_is_refused(
  tmp_path, changes, message
):
  model, weights = _trained(**changes)
  with pytest.raises(ValueError, match=f'No exact dense export: {message}'):
    hf_export.save(model, weights, str(tmp_path / 'out'))
  assert not list(tmp_path.iterdir())


def test_all_reasons_are_given_at_once(tmp_path):
  """A user who has to start again wants to know all fields to change."""
  model, weights = _trained(
    router='sigmoid', arrangement='sequential', top_k=1, logit_cap=5.0
  )
  with pytest.raises(errors.UsageError) as refused:
    hf_export.save(model, weights, str(tmp_path / 'out'))
  reasons = str(refused.value).removeprefix('No exact dense export: ')
  found = [reason.split(',')[0] for reason in reasons.split('; ')]
  assert found == [
    "model.router is 'sigmoid'", 'model.top_k is 1',
    "model.arrangement is 'sequential'",
    "model.logit_cap is 5.0",
  ]  # fmt: skip


def _without_level_1(weights):
  down = 'blocks/levels/1/base/mlp/down'
  return weights.with_params({down: weights.params[down] * 0})


@pytest.mark.parametrize('norms', [dict(), dict(qk_norm=False)])
def test_a_chain_whose_faster_level_is_empty_is_exact(tmp_path, norms):
  """So it is on the morning after a night."""
  model, weights = _trained(arrangement='sequential', **norms)
  with pytest.raises(errors.UsageError, match='and level 1 adds to what'):
    hf_export.save(model, weights, str(tmp_path / 'out'))
  weights = _without_level_1(weights)
  hf_export.save(model, weights, str(tmp_path / 'out'))
  exported, loaded = _load(tmp_path / 'out')
  assert exported.config.levels[1].hidden == HIDDEN + 2 * RANK
  np.testing.assert_allclose(
    _logits(exported, loaded), _logits(model, weights), atol=1e-4
  )
  # An expert of the faster level makes it a chain again.
  fast = testing.tiny((1, 1), (1, 'experience'), arrangement='sequential')
  made = testing.activate(testing.weights(fast), 2, 0)
  for number in (1, 2):
    down = f'blocks/levels/{number}/base/mlp/down'
    made = made.with_params({down: made.params[down] * 0})
  (_, reason) = dense_mlp.reasons_not_dense(fast, made)
  assert 'level 2 adds' in reason


def test_experts_that_compete_for_places_are_no_hidden_units(tmp_path):
  model, weights = _trained(top_k=1)
  with pytest.raises(errors.UsageError, match='model.top_k is 1'):
    hf_export.save(model, weights, str(tmp_path / 'out'))
  one = testing.activate(weights.replace(active_NE=weights.active_NE * 0), 2, 1)
  hf_export.save(model, one, str(tmp_path / 'out'))
  exported, loaded = _load(tmp_path / 'out')
  np.testing.assert_allclose(
    _logits(exported, loaded), _logits(model, one), atol=1e-4
  )


def test_a_folder_that_is_not_empty_is_not_changed(tmp_path):
  (tmp_path / 'file').write_text('content')
  with pytest.raises(FileExistsError, match='is not empty'):
    hf_export.save(*_trained(), str(tmp_path))
  assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize(
  'found, older',
  [
    (
      dict(rope_type='default', rope_theta=500.0),
      dict(rope_theta=500.0, rope_scaling=None),
    ),
    (
      dict(rope_type='linear', factor=8.0, rope_theta=1e6),
      dict(rope_theta=1e6, rope_scaling=dict(rope_type='linear', factor=8.0)),
    ),
    (
      {
        'full_attention': dict(rope_type='default', rope_theta=1e6),
        'sliding_attention': dict(rope_type='default', rope_theta=1e4),
      },
      dict(rope_theta=1e6, rope_scaling=None, rope_local_base_freq=1e4),
    ),
    (None, {}),
  ],
)
def test_rotary_positions_are_also_written_for_older_programs(found, older):
  assert hf_export.older_rope_fields({'rope_parameters': found}) == older


def test_templates_are_copied_and_files_with_a_similar_name_stay(tmp_path):
  source, other = tmp_path / 'source', tmp_path / 'out.part'
  hf_files.save(source, 'llama', vocab_size=300)
  named = source / 'additional_chat_templates/tool_use.jinja'
  named.parent.mkdir()
  named.write_text('{{ tools }}')
  other.mkdir()
  (other / 'mine').touch()
  model, weights = hf_files.load(source)
  base_model = hf_checkpoint.read(str(source))
  target = tmp_path / 'out'
  hf_export.save(model, weights, str(target), base_model=base_model)
  copied = target / named.relative_to(source)
  assert copied.read_text() == named.read_text()
  assert (other / 'mine').exists()


def test_an_export_that_fails_leaves_nothing(tmp_path, monkeypatch):
  def fail(*args, **options):
    raise safetensors_lib.SafetensorError('No space left on device')

  monkeypatch.setattr(tensor_file.safetensors_numpy, 'save_file', fail)
  with pytest.raises(errors.StorageError, match='No space left on device'):
    hf_export.save(*_trained(), str(tmp_path / 'new/out'))
  assert not list((tmp_path / 'new').iterdir())

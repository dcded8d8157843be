"""Experts saved to a file and attached to their base model again."""

import dataclasses
import functools
import json
import pathlib
import tempfile

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from sleep_jax import errors
from sleep_jax.interop import expert_card, expert_file, tensor_file
from sleep_jax.model import transformer
from tests import testing

PERIODS = (1, 'experience')


def _without_wake_updates(model, weights):
  """Returns the weights with zero output of the faster levels."""
  params = {
    path: jnp.zeros_like(leaf)
    if path.endswith('base/mlp/down')
    and int(path.split('/')[2]) < model.config.num_levels
    else leaf
    for path, leaf in weights.params.items()
  }
  return weights.replace(params=params)


def _model_with_experts(**changes):
  model = testing.tiny(PERIODS, (2, 'experience'), **changes)
  weights = testing.activate(
    _without_wake_updates(model, testing.weights(model)), 2, 1, 3
  )
  return model, testing.activate(weights, 3, 2)


def _base_only(model, weights):
  """Returns the base model with one level and without experts."""
  c = model.config
  base = testing.tiny(arrangement=c.arrangement)
  base = transformer.Transformer(
    base.config.__class__(**{**vars(c), 'levels': (c.levels[-1],)})
  )
  slowest = f'blocks/levels/{c.num_levels}/'
  params = {
    path.replace(slowest, 'blocks/levels/1/'): leaf
    for path, leaf in weights.params.items()
    if '/experts/' not in path
    and (not path.startswith('blocks/levels/') or path.startswith(slowest)
         or path in ('blocks/levels/norm/scale',
                     'blocks/levels/post_norm/scale'))
  }  # fmt: skip
  return base, weights.replace(
    params=params, active_NE=jnp.zeros((1, testing.SLOTS))
  )


def _logits(model, weights):
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  return np.asarray(model.forward(weights, *rows))


@pytest.mark.parametrize('arrangement', ['sequential', 'independent'])
@pytest.mark.parametrize(
  'changes',
  [
    dict(router='sigmoid'), dict(router='always'), dict(router='softmax'),
    dict(gated_experts=True),
    dict(post_norms=True), dict(pre_norms=False, post_norms=True),
  ],
)  # fmt: skip
def test_attached_experts_restore_the_outputs(tmp_path, arrangement, changes):
  model, weights = _model_with_experts(arrangement=arrangement, **changes)
  path = str(tmp_path / 'nights.safetensors')
  history = [{'night': 1, 'level': 2, 'slot': 1, 'event': 'activated'}]
  expert_file.save(model, weights, path, expert_history=history)
  assert expert_card.read(path)[0]['ledger'] == history
  restored, attached = expert_file.attach(*_base_only(model, weights), path)
  assert expert_file.active_slots(attached) == {2: [0, 1], 3: [0]}
  assert restored.config.max_slots == 2  # No unused slots.
  np.testing.assert_allclose(
    _logits(restored, attached), _logits(model, weights), atol=1e-5
  )


def test_experts_of_independent_levels_fit_a_base_model_with_one_level(
  tmp_path,
):
  """A pretrained model is loaded as one level, whose norm is its own."""
  model, weights = _model_with_experts(arrangement='independent')
  path = str(tmp_path / 'nights.safetensors')
  expert_file.save(model, weights, path, expert_history=[])
  base, base_weights = _base_only(model, weights)
  params = dict(base_weights.params)
  params['blocks/levels/1/base/norm/scale'] = params.pop(
    'blocks/levels/norm/scale'
  )
  base = transformer.Transformer(
    dataclasses.replace(base.config, arrangement='sequential')
  )
  restored, attached = expert_file.attach(
    base, base_weights.replace(params=params), path
  )
  np.testing.assert_allclose(
    _logits(restored, attached), _logits(model, weights), atol=1e-5
  )


@pytest.mark.parametrize(
  'path',
  ['blocks/attention/query', 'blocks/attention/out',
   'blocks/levels/1/base/mlp/down', 'embed'],
)  # fmt: skip
def test_a_base_with_one_other_matrix_is_refused(tmp_path, path):
  """As of a fine-tuned sibling, whose norms are often the same."""
  model, weights = _model_with_experts()
  file = str(tmp_path / 'nights.safetensors')
  expert_file.save(model, weights, file, expert_history=[])
  base, own = _base_only(model, weights)
  other = own.replace(params=own.params | {path: own.params[path] * 1.5})
  with pytest.raises(errors.ModelFileError, match='another base model'):
    expert_file.attach(base, other, file)


def test_a_base_may_be_opened_in_another_type(tmp_path):
  model, weights = _model_with_experts()
  file = str(tmp_path / 'nights.safetensors')
  expert_file.save(model, weights, file, expert_history=[])
  base, own = _base_only(model, weights)
  rounded = {path: x.astype(jnp.bfloat16) for path, x in own.params.items()}
  expert_file.attach(base, own.replace(params=rounded), file)


def test_files_that_cannot_be_written_or_read_are_refused(tmp_path):
  model, weights = _model_with_experts()
  path = tmp_path / 'nights.safetensors'
  inactive = weights.replace(active_NE=jnp.zeros_like(weights.active_NE))
  with pytest.raises(ValueError, match='No expert is active'):
    expert_file.save(model, inactive, str(path))
  awake = testing.activate(testing.weights(model), 2, 1)
  with pytest.raises(ValueError, match='are not consolidated'):
    expert_file.save(model, awake, str(path))
  rows = [
    {'night': night, 'level': level, 'slot': slot, 'event': 'rewritten'}
    for night, level, slot in ((1, 2, 0), (3, model.config.num_levels, None))
  ]
  with pytest.raises(ValueError, match=r'Nights \[3\] were consolidated into'):
    expert_file.save(model, weights, str(path), expert_history=rows)
  assert not list(tmp_path.iterdir())
  expert_file.save(model, weights, str(path))
  with pytest.raises(FileExistsError, match='already exists'):
    expert_file.save(model, weights, str(path))
  other = testing.weights(model, seed=5)
  with pytest.raises(ValueError, match='belongs to another base model'):
    expert_file.attach(*_base_only(model, other), str(path))
  with pytest.raises(ValueError, match='already has active experts'):
    expert_file.attach(model, weights, str(path))
  broken = tmp_path / 'broken.safetensors'
  broken.write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match='is not an expert file'):
    expert_card.read(str(broken))
  with pytest.raises(FileNotFoundError, match='does not exist'):
    expert_card.read(str(tmp_path / 'none'))


def _rewrite(path, change_card=None, change_tensors=None):
  """Changes the card or the tensors of an expert file."""
  _, metadata = tensor_file.read_header(path)
  card, tensors = json.loads(metadata['card']), safetensors.load_file(path)
  if change_card:
    card |= change_card
  if change_tensors:
    change_tensors(tensors)
  safetensors.save_file(tensors, path, metadata={'card': json.dumps(card)})


@functools.cache
def _example():
  """Returns an expert file as bytes, its base model and the weights."""
  model, weights = _model_with_experts()
  history = [{'night': 1, 'level': 2, 'slot': 1, 'event': '<script>x</script>'}]
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'nights.safetensors')
    expert_file.save(model, weights, str(path), expert_history=history)
    return path.read_bytes(), *_base_only(model, weights)


def _saved(tmp_path):
  """Writes an expert file; returns its path, base model and weights."""
  content, model, weights = _example()
  path = tmp_path / 'nights.safetensors'
  path.write_bytes(content)
  return path, model, weights


@pytest.mark.parametrize(
  'field, value',
  [
    ('levels', 10**9), ('levels', 0), ('levels', '3'), ('levels', None),
    ('experts', []), ('experts', {}), ('experts', {'9': [0]}),
    ('experts', {'2': [-1]}), ('experts', {'2': [1, 1]}),
    ('experts', {'../2': [1]}), ('experts', {'2': 'all'}),
    ('ranks', {'2': 0, '3': 1}), ('ranks', {'2': 10**9}), ('ranks', 3),
    ('arrangement', 'depth'), ('arrangement', ['sequential']),
    ('router', 'eval'), ('top_k', -1), ('top_k', 1.5), ('base', 7),
  ],
)  # fmt: skip
def test_a_card_that_contradicts_itself_is_refused(tmp_path, field, value):
  path, model, weights = _saved(tmp_path)
  _rewrite(path, {field: value})
  with pytest.raises(
    errors.ModelFileError, match=f'nights.safetensors: field {field!r}'
  ):
    expert_file.attach(model, weights, str(path))


def test_a_file_of_an_earlier_version_is_read_if_its_router_still_exists(
  tmp_path,
):
  path, model, weights = _saved(tmp_path)
  _, attached = expert_file.attach(model, weights, str(path))
  _rewrite(path, {'router_spread': 1.0})
  _, again = expert_file.attach(model, weights, str(path))
  assert testing.same(again, attached)
  _rewrite(path, {'router': 'centroid'})
  with pytest.raises(errors.ModelFileError, match="'centroid', which was remo"):
    expert_file.attach(model, weights, str(path))


def _set(name, value):
  return lambda tensors: tensors.__setitem__(name, value)


@pytest.mark.parametrize(
  'card, tensors, message',
  [
    (None, lambda t: t.pop('2/1/A'), "tensor '2/1/A' is missing"),
    (None, _set('9/9/A', np.ones(2, 'f4')), "'9/9/A' is there, but"),
    (None, _set('2/1/A', np.ones((1, 2, 3), 'f4')), "'2/1/A' has shape"),
    (None, _set('2/1/bias', np.ones(2, 'i4')), "'2/1/bias' has shape"),
    (None, lambda t: t['2/1/B'].fill(np.nan), "'2/1/B' has numbers that are"),
    ({'ranks': {'2': 10**9, '3': 10**9}}, None, "tensor '2/1/A' has shape"),
    ({'experts': {'2': [1], '3': [2]}}, None, "'2/3/A' is there, but"),
  ],
)  # fmt: skip
def test_arrays_that_do_not_fit_the_base_model_are_refused(
  tmp_path, card, tensors, message
):
  path, model, weights = _saved(tmp_path)
  _rewrite(path, card, tensors)
  with pytest.raises(errors.ModelFileError, match=message):
    expert_file.attach(model, weights, str(path))


@pytest.mark.parametrize('card', ['7', '{', '[' * 10**5, '{"format": NaN}'])
def test_a_card_that_is_no_object_is_refused(tmp_path, card):
  path = tmp_path / 'nights.safetensors'
  safetensors.save_file(
    {'a': np.ones(1, 'f4')}, path, metadata={'card': card}
  )  # fmt: skip
  with pytest.raises(errors.ModelFileError, match='is not an expert file'):
    expert_card.read(str(path))


def test_markup_in_a_card_is_only_text(tmp_path):
  path, model, weights = _saved(tmp_path)
  expert_file.attach(model, weights, str(path))
  history = expert_card.read(str(path))[0]['ledger']
  assert history[0]['event'] == '<script>x</script>'

"""Experts saved to a file and attached to their base model again."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.interop import expert_file
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
    dict(post_norms=True), dict(pre_norms=False, post_norms=True),
  ],
)  # fmt: skip
def test_attached_experts_restore_the_outputs(tmp_path, arrangement, changes):
  model, weights = _model_with_experts(arrangement=arrangement, **changes)
  path = str(tmp_path / 'nights.safetensors')
  history = [{'night': 1, 'level': 2, 'slot': 1, 'event': 'activated'}]
  expert_file.save(model, weights, path, expert_history=history)
  assert expert_file.read_card(path)['ledger'] == history
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


def test_files_that_cannot_be_written_or_read_are_refused(tmp_path):
  model, weights = _model_with_experts()
  path = tmp_path / 'nights.safetensors'
  inactive = weights.replace(active_NE=jnp.zeros_like(weights.active_NE))
  with pytest.raises(ValueError, match='No expert is active'):
    expert_file.save(model, inactive, str(path))
  awake = testing.activate(testing.weights(model), 2, 1)
  with pytest.raises(ValueError, match='are not consolidated'):
    expert_file.save(model, awake, str(path))
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
    expert_file.read_card(str(broken))
  with pytest.raises(FileNotFoundError, match='does not exist'):
    expert_file.read_card(str(tmp_path / 'none'))

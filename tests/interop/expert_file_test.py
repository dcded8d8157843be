"""Experts alone, put beside their base again, are the model."""

import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.interop import expert_file
from sleep_jax.model import transformer
from tests import testing

PERIODS = (1, 'experience')


def _still(model, weights):
  """Faster levels that have learned nothing awake."""
  still = {
    path: jnp.zeros_like(leaf)
    if path.endswith('base/mlp/down')
    and int(path.split('/')[2]) < model.config.num_levels
    else leaf
    for path, leaf in weights.params.items()
  }
  return weights.replace(params=still)


def _grown(**changes):
  model = testing.tiny(PERIODS, (2, 'experience'), **changes)
  weights = testing.activate(_still(model, testing.weights(model)), 2, 1, 3)
  return model, testing.activate(weights, 3, 2)


def _bare(model, weights):
  """The base as a checkpoint of others would be: one level, no bank."""
  c = model.config
  alone = testing.tiny(arrangement=c.arrangement)
  alone = transformer.Transformer(
    alone.config.__class__(**{**vars(c), 'levels': (c.levels[-1],)})
  )
  last = f'blocks/levels/{c.num_levels}/'
  params = {
    path.replace(last, 'blocks/levels/1/'): leaf
    for path, leaf in weights.params.items()
    if '/experts/' not in path
    and (not path.startswith('blocks/levels/') or path.startswith(last)
         or path == 'blocks/levels/norm/scale')
  }  # fmt: skip
  return alone, weights.replace(
    params=params, active_NE=jnp.zeros((1, testing.SLOTS))
  )


def _logits(model, weights):
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  return np.asarray(model.forward(weights, *rows))


@pytest.mark.parametrize('arrangement', ['sequential', 'independent'])
@pytest.mark.parametrize('router', ['sigmoid', 'always', 'softmax'])
def test_beside_their_base_they_answer_as_they_did(
  tmp_path, arrangement, router
):
  model, weights = _grown(arrangement=arrangement, router=router)
  path = str(tmp_path / 'nights.safetensors')
  ledger = [{'night': 1, 'level': 2, 'slot': 1, 'event': 'activated'}]
  expert_file.save(model, weights, path, expert_history=ledger)
  assert expert_file.read_card(path)['ledger'] == ledger
  again, held = expert_file.attach(*_bare(model, weights), path)
  assert expert_file.active_slots(held) == {2: [0, 1], 3: [0]}
  assert again.config.max_slots == 2  # Just room for them.
  np.testing.assert_allclose(
    _logits(again, held), _logits(model, weights), atol=1e-5
  )


def test_what_cannot_be_written_or_read_is_said(tmp_path):
  model, weights = _grown()
  path = tmp_path / 'nights.safetensors'
  nobody = weights.replace(active_NE=jnp.zeros_like(weights.active_NE))
  with pytest.raises(ValueError, match='No expert is active'):
    expert_file.save(model, nobody, str(path))
  awake = testing.activate(testing.weights(model), 2, 1)
  with pytest.raises(ValueError, match='are not consolidated'):
    expert_file.save(model, awake, str(path))
  assert not list(tmp_path.iterdir())
  expert_file.save(model, weights, str(path))
  with pytest.raises(FileExistsError, match='already exists'):
    expert_file.save(model, weights, str(path))
  other = testing.weights(model, seed=5)
  with pytest.raises(ValueError, match='belongs to another base model'):
    expert_file.attach(*_bare(model, other), str(path))
  with pytest.raises(ValueError, match='already has active experts'):
    expert_file.attach(model, weights, str(path))
  broken = tmp_path / 'broken.safetensors'
  broken.write_bytes(path.read_bytes()[:100])
  with pytest.raises(ValueError, match='is not an expert file'):
    expert_file.read_card(str(broken))
  with pytest.raises(FileNotFoundError, match='does not exist'):
    expert_file.read_card(str(tmp_path / 'none'))

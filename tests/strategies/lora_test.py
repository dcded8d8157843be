"""The baseline that trains one low-rank adapter over all days."""

import json

import jax
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.config import checks
from sleep_jax.model import lora
from sleep_jax.storage import checkpoint_reading
from tests import testing, tiny_study

RANK = 2


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  """A tiny study with an initial model of a few steps."""
  config = tiny_study.config((1, 'experience'))
  config.lora.update(rank=RANK, optimizer=dict(learning_rate=1e-2))
  made = tiny_study.TinyStudy(config)
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('run')


@pytest.fixture(scope='module')
def trained(study, folder):
  """The weights after all days, on the host."""
  state, _ = study.run('lora', folder)
  return jax.device_get(state.weights)


def _rows(study):
  batch = study.stream.experiences[0].batch(0)
  return batch.tokens_BT, batch.segments_BT, batch.positions_BT


def test_the_model_it_starts_as_has_the_outputs_of_the_initial_model(study):
  initial = study.initial_model
  state = study.programs('lora').begin(initial, jax.random.key(0))
  found = study.model.forward(state.weights, *_rows(study))
  expected = study.model.forward(initial.weights, *_rows(study))
  np.testing.assert_array_equal(found, expected)


def test_only_the_adapter_is_trained(study, trained):
  assert testing.same(trained.params, study.initial_model.weights.params)
  assert all(np.any(low['b']) for low in trained.adapter.values())
  state = study.programs('lora').abstract(study.initial_model)
  trainable = {path for path in state.weights.trainable if 'adapter/' in path}
  assert set(state.sums['lora']) == trainable
  # The optimizer has two moments of each, and its counts.
  moments = [x for x in jax.tree.leaves(state.opt) if x.ndim]
  assert len(moments) == 2 * len(trainable)


def test_its_products_have_the_rank_of_the_config(study, trained):
  targets = {path.rsplit('/', 1)[1] for path in trained.adapter}
  assert targets == set(study.config.lora.targets)
  for low in trained.adapter.values():
    assert low['a'].shape[-1] == low['b'].shape[-2] == RANK
    for product in low['a'] @ low['b']:
      assert np.linalg.matrix_rank(product, tol=1e-5) == RANK


def test_levels_that_were_added_to_the_model_have_no_adapter(study, trained):
  slowest = len(study.levels)
  levels = {p.split('/')[2] for p in trained.adapter if '/levels/' in p}
  assert levels == {str(slowest)}


def test_merged_weights_have_the_outputs_of_the_adapter(study, trained):
  merged = lora.merged(trained)
  assert merged.adapter is None
  found = study.model.forward(merged, *_rows(study))
  expected = study.model.forward(trained, *_rows(study))
  np.testing.assert_allclose(found, expected, atol=1e-4)
  before = study.model.forward(study.initial_model.weights, *_rows(study))
  assert float(np.abs(found - before).max()) > 1e-2


def test_the_adapter_is_read_from_a_checkpoint(study, trained, folder):
  study.run('lora', folder)  # Waits until it is written.
  saved, _ = checkpoint_reading.latest_weights(str(folder / 'checkpoints'))
  assert testing.same(jax.device_get(saved['adapter']), trained.adapter)


def test_an_interrupted_run_ends_with_the_same_adapter(
  study, trained, tmp_path
):
  study.run('lora', tmp_path, until=6)
  state, _ = study.run('lora', tmp_path)
  assert testing.same(jax.device_get(state.weights), trained)


def test_an_unknown_matrix_is_refused(study):
  config = tiny_study.config((1, 'experience'))
  config.lora.targets = ('query', 'gat')
  with pytest.raises(errors.ConfigError, match=r'config\.lora\.targets.*gat'):
    tiny_study.TinyStudy(config).programs('lora')


def test_a_config_without_the_strategy_needs_no_section():
  config = json.loads(tiny_study.config().to_json_best_effort())
  del config['lora']
  checks.check(config)
  config['lora'] = {'rank': 0, 'targets': ['query'], 'optimizer': {}}
  with pytest.raises(errors.ConfigError, match='lora.optimizer.learning_rate'):
    checks.check(config)

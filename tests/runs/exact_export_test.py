"""A pretrained model learns a day and sleeps; its export has its logits."""

import jax.numpy as jnp
import numpy as np
import pytest

import sleep_jax
from configs import jsonl
from sleep_jax import errors, types
from sleep_jax.interop import open_model
from tests import hf_files, testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

ROWS = ['a cat sat', {'prompt': 'who ran', 'response': 'a dog ran'}]
TOKENS_BT = np.array([[3, 14, 15, 9, 26, 5, 35, 8, 9, 7, 9]])


@pytest.fixture
def base_model(tmp_path, monkeypatch):
  """Returns the folder of a tiny checkpoint with its tokenizer."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat', 'a dog ran'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  return folder


def _learner(base_model, folder, **model):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=24, max_prompt=12)
  c.model.update(model)
  c.wake.optimizers = (dict(learning_rate=0.1),)
  c.expert_optimizer.learning_rate = 0.1
  return sleep_jax.load(str(base_model), str(folder), config=c, verbose=False)


def _logits(loaded):
  rows = types.model_inputs(jnp.asarray(TOKENS_BT), jnp.array([11]))
  return np.asarray(testing.forward(loaded.model)(loaded.weights, *rows))


def _export(learner, path, format='hf'):
  learner.export(str(path), format)
  return _logits(open_model.open_model(str(path)))


def test_independent_levels_and_open_gates_are_exported_exactly(
  base_model, tmp_path
):
  learner = _learner(
    base_model, tmp_path / 'work', arrangement='independent', router='always'
  )
  before = _logits(learner.loaded)
  learner.wake(ROWS)
  evening = _logits(learner.loaded)
  assert np.abs(evening - before).max() > 0.1
  found = _export(learner, tmp_path / 'evening')
  np.testing.assert_allclose(found, evening, atol=1e-4)
  (night,) = learner.sleep()
  assert night['accepted']
  morning = _logits(learner.loaded)
  assert np.abs(morning - before).max() > 0.1
  assert np.abs(morning - evening).max() > 0.1
  found = _export(learner, tmp_path / 'hf')
  np.testing.assert_allclose(found, morning, atol=1e-4)
  found = _export(learner, tmp_path / 'out.gguf', 'gguf-f16')
  np.testing.assert_allclose(found, morning, atol=1e-2)


def test_a_chain_is_exported_exactly_after_its_night_only(base_model, tmp_path):
  learner = _learner(base_model, tmp_path / 'work', router='always')
  learner.wake(ROWS)
  with pytest.raises(errors.UsageError, match='and level 1 adds to what'):
    learner.export(str(tmp_path / 'evening'))
  learner.sleep()
  found = _export(learner, tmp_path / 'hf')
  np.testing.assert_allclose(found, _logits(learner.loaded), atol=1e-4)

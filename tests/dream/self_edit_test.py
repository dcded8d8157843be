"""Tests of self-edits: rewarded texts and documents are merged into weights."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.dream import self_edit
from sleep_jax.model import lora
from tests import testing, tiny_study

TARGETS = ('query', 'down')


@functools.cache
def _tiny_study(practice=1):
  c = tiny_study.config()
  c.data.settings.update(readings=8, practice=practice)
  c.data.context = 34
  # An untrained model does not end its texts.
  c.dream.whole = False
  c.self_edit.update(steps=12, batch=8, learning_rate=3e-2)
  return tiny_study.TinyStudy(c)


@functools.cache
def _edited():
  """Returns a state, the state after an edit, and the dream records."""
  study = _tiny_study()
  programs = study.programs('seal')
  state = programs.begin(None, jax.random.key(0))
  before = jax.device_get(state)
  after, records = programs.edit(state, study.stream.tasks['1'])
  return before, jax.device_get(after), jax.device_get(records)


def test_merging_an_adapter_gives_the_same_outputs_as_attaching_it():
  model = testing.tiny()
  weights = testing.weights(model)
  begin = lora.init(jax.random.key(1), weights.params, rank=2, targets=TARGETS)
  adapter = jax.tree.map(lambda x: x + 0.1, begin)
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  with_, without = (
    testing.forward(model)(make(weights, adapter, scale=0.5), *rows)
    for make in (lora.attach, lora.merge)
  )
  np.testing.assert_allclose(with_, without, atol=1e-4)
  plain = testing.forward(model)(weights, *rows)
  assert np.abs(plain - without).max() > 1e-2


def test_an_edit_changes_only_matrices_and_the_step():
  before, after, _ = _edited()
  assert int(after.step) == int(before.step) + 1
  reset = after.replace(weights=before.weights, step=before.step)
  assert testing.same(reset, before)
  changed = testing.changed(before.weights.params, after.weights.params)
  targets = _tiny_study().config.self_edit.targets
  assert changed and {path.split('/')[-1] for path in changed} <= set(targets)
  np.testing.assert_array_equal(
    before.weights.active_NE, after.weights.active_NE
  )


def test_training_rows_are_rewarded_texts_and_whole_documents():
  texts = types.Rollout(
    tokens_BT=jnp.array([[1, 5, 6, 2], [1, 7, 0, 0]]),
    prompt_length_B=jnp.array([2, 1]),
    length_B=jnp.array([4, 2]),
  )
  documents = types.Texts(jnp.array([[1, 8, 9, 9, 9, 3]]), jnp.array([5]))
  rows, weight_R = self_edit.training_rows(
    texts, jnp.array([1.0, 0.0]), documents
  )
  np.testing.assert_array_equal(weight_R, [1, 0, 1])
  np.testing.assert_array_equal(rows.prompt_length_B, [2, 1, 1])
  np.testing.assert_array_equal(rows.length_B, [4, 2, 5])
  np.testing.assert_array_equal(
    rows.tokens_BT, [[1, 5, 6, 2, 0, 0], [1, 7, 0, 0, 0, 0], [1, 8, 9, 9, 9, 3]]
  )


def test_an_edit_makes_the_documents_more_likely():
  before, after, _ = _edited()
  study = _tiny_study()
  documents = study.stream.tasks['1'].prompts.context
  valid_BT = (
    np.arange(documents.tokens_BT.shape[1]) < documents.length_B[:, None]
  )

  def nats(weights):
    segments = np.where(valid_BT, 1, -1)
    place = np.where(valid_BT, np.arange(valid_BT.shape[1])[None], 0)
    forward = testing.forward(study.model)
    logits = forward(weights, documents.tokens_BT, segments, place)
    log_probs = jax.nn.log_softmax(logits, -1)[:, :-1]
    target = jnp.take_along_axis(
      log_probs, jnp.asarray(documents.tokens_BT)[:, 1:, None], 2
    )
    return float(
      jnp.sum(target[..., 0] * valid_BT[:, 1:]) / valid_BT[:, 1:].sum()
    )

  assert nats(after.weights) > nats(before.weights) + 0.05


def test_a_run_of_edits_writes_dreams_and_resumes(tmp_path):
  study = _tiny_study()
  state, record = study.run(
    'seal', tmp_path / 'whole', evaluator=_NoEvaluator()
  )
  assert [n['phase'] for n in record['nights']] == ['edit', 'edit']
  text = (tmp_path / 'whole' / 'dreams.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  assert {row['night'] for row in rows} == {1, 2}
  stops = iter([True])  # Stops after the first edit.
  with pytest.raises(Exception, match='stopped at event 1'):
    study.run(
      'seal',
      tmp_path / 'cut',
      evaluator=_NoEvaluator(),
      stop=lambda: next(stops),
    )
  other_state, other_record = study.run(
    'seal', tmp_path / 'cut', evaluator=_NoEvaluator()
  )
  assert testing.same(state, other_state)
  assert tiny_study.without_times(record) == tiny_study.without_times(
    other_record
  )
  assert text == (tmp_path / 'cut' / 'dreams.jsonl').read_text()


def test_a_dataset_without_tasks_is_refused():
  with pytest.raises(ValueError, match='nothing to dream about'):
    _tiny_study(practice=0).programs('seal')


class _NoEvaluator:
  """An evaluator that computes nothing."""

  sizes = {}

  def evaluate(self, weights, experience):
    del weights, experience
    return {}

  def second_scores(self, weights):
    del weights

  def expert_gates(self, weights):
    del weights

"""Self-edits: all weights take in what helped, for good, and nothing else."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.dream import self_edit
from sleep_jax.model import lora
from tests import testing, town

TARGETS = ('query', 'down')


@functools.cache
def _town(practice=1):
  c = town.config()
  c.data.settings.update(readings=8, practice=practice)
  c.data.context = 34
  # A newborn that knows nothing ends no text.
  c.dream.whole = False
  c.self_edit.update(steps=12, batch=8, learning_rate=3e-2)
  return town.Town(c)


@functools.cache
def _edited():
  """A state, what an edit makes of it, and what was dreamt."""
  here = _town()
  programs = here.programs('seal')
  state = programs.begin(None, jax.random.key(0))
  before = jax.device_get(state)
  after, found = programs.edit(state, here.stream.tasks['1'])
  return before, jax.device_get(after), jax.device_get(found)


def test_merged_matrices_compute_what_an_adapter_beside_them_does():
  model = testing.tiny()
  weights = testing.weights(model)
  begin = lora.init(jax.random.key(1), weights.params, rank=2, targets=TARGETS)
  adapter = jax.tree.map(lambda x: x + 0.1, begin)
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  with_, without = (
    model.forward(make(weights, adapter, scale=0.5), *rows)
    for make in (lora.attach, lora.merge)
  )
  np.testing.assert_allclose(with_, without, atol=1e-4)
  assert np.abs(model.forward(weights, *rows) - without).max() > 1e-2


def test_an_edit_moves_matrices_and_the_step_and_nothing_else():
  before, after, _ = _edited()
  assert int(after.step) == int(before.step) + 1
  still = after.replace(weights=before.weights, step=before.step)
  assert testing.same(still, before)
  moved = testing.changed(before.weights.params, after.weights.params)
  targets = _town().config.self_edit.targets
  assert moved and {path.split('/')[-1] for path in moved} <= set(targets)
  np.testing.assert_array_equal(
    before.weights.active_NE, after.weights.active_NE
  )


def test_lessons_are_rewarded_texts_and_whole_documents():
  texts = types.Rollout(
    tokens_BT=jnp.array([[1, 5, 6, 2], [1, 7, 0, 0]]),
    prompt_length_B=jnp.array([2, 1]), length_B=jnp.array([4, 2]),
  )  # fmt: skip
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


def test_the_document_is_learned():
  before, after, _ = _edited()
  here = _town()
  read = here.stream.tasks['1'].prompts.context
  valid_BT = np.arange(read.tokens_BT.shape[1]) < read.length_B[:, None]

  def nats(weights):
    segments = np.where(valid_BT, 1, -1)
    place = np.where(valid_BT, np.arange(valid_BT.shape[1])[None], 0)
    logits = here.model.forward(weights, read.tokens_BT, segments, place)
    likely = jax.nn.log_softmax(logits, -1)[:, :-1]
    said = jnp.take_along_axis(
      likely, jnp.asarray(read.tokens_BT)[:, 1:, None], 2
    )
    return float(
      jnp.sum(said[..., 0] * valid_BT[:, 1:]) / valid_BT[:, 1:].sum()
    )

  assert nats(after.weights) > nats(before.weights) + 0.05


def test_a_life_of_edits_has_a_journal_and_resumes(tmp_path):
  here = _town()
  state, record = here.live('seal', tmp_path / 'whole', judge=_Deaf())
  assert [n['phase'] for n in record['nights']] == ['edit', 'edit']
  text = (tmp_path / 'whole' / 'dreams.jsonl').read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  assert {row['night'] for row in rows} == {1, 2}
  chances = iter([True])  # To stop, after the first edit.
  with pytest.raises(Exception, match='stopped at event 1'):
    here.live(
      'seal', tmp_path / 'cut', judge=_Deaf(), stop=lambda: next(chances)
    )
  again, found = here.live('seal', tmp_path / 'cut', judge=_Deaf())
  assert testing.same(state, again)
  assert town.timeless(record) == town.timeless(found)
  assert text == (tmp_path / 'cut' / 'dreams.jsonl').read_text()


def test_a_world_without_tasks_cannot_be_edited_about():
  with pytest.raises(ValueError, match='nothing to dream about'):
    _town(practice=0).programs('seal')


class _Deaf:
  """In place of an examiner: asks nothing."""

  def evaluate(self, weights, experience):
    del weights, experience
    return {}

  def second_scores(self, weights):
    del weights

  def expert_gates(self, weights):
    del weights

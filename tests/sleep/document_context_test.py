"""A document that only the teacher reads is distilled into weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.sleep import document_context
from tests import testing

TEACHERS = (
  dict(teacher='anchor', prompts='old', sequences=4, draws=8),
  dict(teacher='context', prompts='day', sequences=8, draws=8),
)


def _texts(*rows, width=5):
  tokens = np.zeros((len(rows), width), 'i4')
  for index, row in enumerate(rows):
    tokens[index, : len(row)] = row
  return types.Texts(
    jnp.asarray(tokens), jnp.asarray([len(row) for row in rows], jnp.int32)
  )


def _rollout(*rows, prompt, width=6, texts=None):
  tokens = np.zeros((len(rows), width), 'i4')
  for index, row in enumerate(rows):
    tokens[index, : len(row)] = row
  return types.Rollout(
    jnp.asarray(tokens), jnp.asarray(prompt, jnp.int32),
    jnp.asarray([len(row) for row in rows], jnp.int32), texts,
  )  # fmt: skip


def _prompts(*rows, width=5, texts=None):
  """Prompts that begin as the rows do, for `remove_from_rollout`."""
  tokens = _texts(*rows, width=width)
  no_subject_B2 = jnp.zeros((len(rows), 2), jnp.int32)
  return types.Prompts(tokens.tokens_BT, tokens.length_B, no_subject_B2, texts)


def _rows(rollout):
  return [
    (row[:stop].tolist(), int(prompt))
    for row, stop, prompt in zip(
      np.asarray(rollout.tokens_BT), rollout.length_B, rollout.prompt_length_B,
      strict=True,
    )
  ]  # fmt: skip


def test_prepending_a_document_and_removing_it_are_inverse():
  texts = _texts([1, 20, 21], [1], [1, 22, 23, 24, 25])
  rollout = _rollout([1, 5, 9, 2], [1, 6, 2], [1, 7, 8, 9, 10, 2],
                   prompt=[2, 1, 3], texts=texts)  # fmt: skip
  whole = document_context.prepend_to_rollout(rollout)
  assert _rows(whole) == [
    ([1, 20, 21, 5, 9, 2], 4), ([1, 6, 2], 1),
    ([1, 22, 23, 24, 25, 7, 8, 9, 10, 2], 7),
  ]  # fmt: skip
  prompts = _prompts([1, 5], [1], [1, 7, 8], texts=texts)
  back = document_context.remove_from_rollout(whole, prompts, width=6)
  assert _rows(back) == _rows(rollout)
  assert testing.same(back.context, texts)


def test_without_a_document_nothing_changes():
  rollout = _rollout([1, 5, 2], prompt=[2])
  assert document_context.prepend_to_rollout(rollout) is rollout
  prompts = _prompts([1, 5])
  same = document_context.remove_from_rollout(rollout, prompts, width=6)
  assert same is rollout


def test_a_document_may_stand_for_more_than_bos():
  texts = _texts([1, 20, 21, 22], [1, 23], [1, 24, 25])
  texts = texts.replace(replaces_B=jnp.array([3, 1, 4]))
  own = [1, 5, 6, 9, 30], [1, 6, 31, 2], [1, 7, 8, 9, 32, 33, 2]
  rollout = _rollout(*own, prompt=[4, 2, 4], width=8, texts=texts)
  whole = document_context.prepend_to_rollout(rollout)
  assert _rows(whole) == [
    ([1, 20, 21, 22, 9, 30], 5), ([1, 23, 6, 31, 2], 3),
    ([1, 24, 25, 32, 33, 2], 3),
  ]  # fmt: skip
  prompts = _prompts([1, 5, 6, 9], [1, 6], [1, 7, 8, 9], texts=texts)
  with_document = document_context.prepend_to_prompts(prompts)
  assert with_document.length_B.tolist() == [5, 3, 3]
  assert with_document.tokens_BP[0, :5].tolist() == [1, 20, 21, 22, 9]
  back = document_context.remove_from_rollout(whole, prompts, width=8)
  assert _rows(back) == _rows(rollout)
  assert testing.same(back.context, texts)
  found = document_context.empty(2, like=texts)
  assert found.tokens_BT.shape == (2, 5)
  assert found.replaces_B.tolist() == found.length_B.tolist() == [1, 1]


@functools.cache
def _day():
  """Returns states before and after two wake steps that update nothing."""
  c = testing.config(
    (1, 'infinite'), teachers=TEACHERS, on_policy=0.5, on_policy_after=0.0,
    num_updates=40, updates_per_round=20, priority=0.0,
  )  # fmt: skip
  fast, slow = c.levels
  c.levels = (
    fast | dict(context_sleep_period='experience', slots=2, rank=4), slow,
  )  # fmt: skip
  c.wake.optimizers = (dict(learning_rate=0.0),)
  c.consolidate.update(max_length=8, prompt_width=4, max_new=4)
  c.expert_optimizer = dict(learning_rate=3e-2)
  programs, state = testing.make_run(
    c, testing.placement(data=1, fsdp=1, tensor=1)
  )
  awake = state
  for step in range(2):
    awake, _ = programs.wake(awake, testing.batch(step), ())
  return programs, state, awake


def _copy(state):
  return jax.tree.map(jnp.copy, state)


def test_the_day_stores_whole_rows_as_documents():
  _, _, awake = _day()
  age_group = awake.replay['day/0']
  batch = testing.batch(0)
  length = int((batch.segments_BT[0] > 0).sum()) - 1
  kept = [
    np.asarray(tokens_T[:num]).tolist()
    for tokens_T, num in zip(
      age_group.documents.tokens_BT, age_group.documents.length_B, strict=True
    )
  ]
  assert batch.tokens_BT[0, :length].tolist() in kept
  assert awake.replay['past'].documents is None


def test_what_is_written_and_read_before_it_is_counted():
  """The teacher writes after a document, and reads it before the student's."""
  programs, _, awake = _day()
  asleep = programs.fall_asleep(_copy(awake), 0)
  asleep, metrics = programs.seed(asleep, 0)
  night = jax.device_get(asleep.night)
  # There is room for the sequences of later rounds, which are empty.
  by_teachers, by_student = night.pools.values(), night.rollouts.values()
  total = lambda numbers: int(sum(x.sum() for x in numbers))
  written = lambda rows: total(x.length_B - x.prompt_length_B for x in rows)
  prompts = lambda rows: total(x.prompt_length_B for x in rows)
  # BOS of a prompt is left out after a document.
  documents = lambda rows: total(
    x.context.length_B - 1 for x in rows if x.context
  )
  assert documents(by_teachers) > 0 < documents(by_student)
  assert int(metrics['written']) == written(by_teachers) + written(by_student)
  first = prompts(by_teachers) + documents(by_teachers)
  again = total(x.length_B for x in by_student) + documents(by_student)
  assert int(metrics['forward']) == first + prompts(by_student) + again


def test_the_teacher_reads_the_document_and_the_student_does_not():
  programs, _, awake = _day()
  night = programs._nights[0]
  asleep = programs.fall_asleep(_copy(awake), 0)
  before = {path: np.asarray(x) for path, x in awake.weights.params.items()}
  divergences = []
  for _ in range(2):
    asleep, metrics = programs.seed(asleep, 0)
    divergences.append(np.asarray(metrics['context_day']))
  assert divergences[0][0] > 0.05  # The document changes predictions.
  assert divergences[1][-5:].mean() < divergences[0][:5].mean()
  pool = asleep.night.pools['context_day']
  documents = {
    tuple(row[:size].tolist())
    for row, size in zip(
      np.asarray(awake.replay['day/0'].documents.tokens_BT),
      np.asarray(awake.replay['day/0'].documents.length_B), strict=True,
    )
  }  # fmt: skip
  for row, size in zip(
    np.asarray(pool.context.tokens_BT), np.asarray(pool.context.length_B),
    strict=True,
  ):  # fmt: skip
    assert tuple(row[:size].tolist()) in documents
  woken = programs.wake_up(asleep, 0, accept=True, guard=0.0)
  changed = testing.changed(before, woken.weights.params)
  assert changed == {p for p in before if 'levels/1/experts' in p}
  assert np.asarray(woken.weights.active_NE)[0].tolist()[:2] == [1, 0]
  assert np.asarray(woken.woke_N).tolist() == [2, 0]
  assert int(woken.replay['day/0'].count) == 0
  assert night.sender == 0 and night.receiver == 1


def test_teacher_states_are_those_of_the_model_on_the_joined_text():
  programs, _, awake = _day()
  night = programs._nights[0]
  texts = _texts([1, 20, 21], [1, 9, 8, 7])
  rollout = _rollout([1, 5, 9, 2], [1, 6, 11, 2], prompt=[2, 2], texts=texts)
  joined = _rollout([1, 20, 21, 5, 9, 2], [1, 9, 8, 7, 6, 11, 2],
                    prompt=[4, 5], width=8)  # fmt: skip
  states = jax.jit(night.states)
  with_document = states(
    awake.weights, document_context.prepend_to_rollout(rollout)
  )
  np.testing.assert_allclose(
    with_document[:, :2], states(awake.weights, joined)[:, :2], atol=1e-5
  )
  without = states(awake.weights, rollout.replace(context=None))
  assert float(jnp.abs(with_document - without)[:, :2].max()) > 1e-2


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(pack=True), 'data.pack'),
    (dict(store='none'), 'replay.store'),
  ],
)
def test_configs_that_cannot_store_documents_are_refused(change, message):
  c = testing.config(teachers=TEACHERS)
  c.data.pack = change.get('pack', False)
  c.replay.store = change.get('store', 'prompts')
  with pytest.raises(ValueError, match=message):
    testing.make_run(c, testing.placement(data=1, fsdp=1, tensor=1))


def test_a_context_teacher_on_old_prompts_is_refused():
  wrong = (dict(teacher='context', prompts='old', sequences=4, draws=8),)
  c = testing.config(teachers=wrong)
  with pytest.raises(ValueError, match="'context' on 'old'"):
    testing.make_run(c, testing.placement(data=1, fsdp=1, tensor=1))

"""Tests of answers that are stored beside prompts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.replay import answers, buffer
from sleep_jax.replay import prompts as prompts_lib
from tests import testing

_insert = jax.jit(buffer.insert, static_argnames='once')


def _texts(*rows, width=3):
  padded = [[*row, *[0] * (width - len(row))] for row in rows]
  return types.Texts(
    jnp.asarray(padded, jnp.int32),
    jnp.asarray([len(row) for row in rows], jnp.int32),
  )


def _rows(texts):
  return [
    tokens[:length].tolist()
    for tokens, length in zip(
      np.asarray(texts.tokens_BT), np.asarray(texts.length_B), strict=True
    )
  ]


def test_an_answer_is_what_follows_a_prompt_in_its_text():
  batch = testing.batch()
  length_B = np.asarray((batch.segments_BT > 0).sum(1))
  found = _rows(answers.of_batch(batch, 4))
  tokens_BT = np.asarray(batch.tokens_BT)
  assert found == [
    tokens_BT[row, 3 : min(length, 7)].tolist()
    for row, length in enumerate(length_B)
  ]
  assert {len(row) for row in found} >= {2, 4}  # Short, and cut.


def test_texts_of_packed_rows_have_answers_of_their_own():
  batch = types.Batch(
    tokens_BT=jnp.array([[1, 5, 6, 2, 1, 7, 8, 9], [1, 4, 2, 0, 0, 0, 0, 0]]),
    segments_BT=jnp.array(
      [[1, 1, 1, 1, 2, 2, 2, 2], [1, 1, 1, -1, -1, -1, -1, -1]]
    ),
    positions_BT=jnp.zeros((2, 8), jnp.int32),
    loss_BT=jnp.ones((2, 8)),
    prompts=testing.prompts([[1, 5], [1, 7], [1, 4], []]),
  )
  found = _rows(answers.of_batch(batch, 5))
  assert found == [[6, 2], [8, 9], [2], []]


def test_known_answers_replace_what_was_written():
  rollout = types.Rollout(
    jnp.array([[1, 5, 11, 12, 13, 14], [1, 6, 7, 21, 22, 23]] * 2),
    jnp.array([2, 3, 2, 3]), jnp.array([5, 6, 6, 4]),
  )  # fmt: skip
  known = _texts([31, 32, 33], [41], [], [51, 52, 53])
  found = answers.replace_known(rollout, known, max_new=2)
  rows = _rows(types.Texts(found.tokens_BT, found.length_B))
  assert rows == [
    [1, 5, 31, 32], [1, 6, 7, 41], [1, 5, 11, 12, 13, 14], [1, 6, 7, 51, 52]
  ]  # fmt: skip
  assert found.is_stored_B.tolist() == [True, True, False, True]
  # The last one does not fit into its row.
  wide = answers.replace_known(rollout, known, max_new=9)
  assert wide.length_B.tolist() == [5, 4, 6, 6]


def _group(capacity=8, **more):
  return buffer.allocate(
    {'day/1': capacity}, width=testing.PROMPT, answer_width=3, **more
  )['day/1']


def _store(group, rows, found, **more):
  prompts = testing.prompts(rows).replace(answers=found)
  return _insert(group, prompts, jnp.int32(1), jax.random.key(0), **more)


def test_a_prompt_is_stored_again_with_another_answer_only():
  group = _store(_group(), [[1, 5], [1, 6]], _texts([7, 2], [8, 2]), once=True)
  group = _store(group, [[1, 5], [1, 6]], _texts([7, 2], [9, 2]), once=True)
  assert int(group.count) == 3
  assert _rows(group.answers)[:3] == [[7, 2], [8, 2], [9, 2]]
  # Prompts without answers, such as those of dreams, are stored as such.
  group = _store(group, [[1, 9], [1, 5]], None, once=True)
  assert _rows(group.answers)[3:5] == [[], []]
  plain = buffer.allocate({'day/1': 8}, width=testing.PROMPT)['day/1']
  assert _store(plain, [[1, 5]], _texts([7, 2])).answers is None


def _draw(group, **shares):
  none = ('bos_share', 'splice_share', 'cut_share', 'template_share')
  return prompts_lib.draw(
    {'day/1': group}, testing.templates(([1, 20], [21])), jax.random.key(3),
    num=60, width=8, bos=testing.BOS, age_groups=('day/1',),
    since=jnp.int32(0), until=jnp.int32(1), pretrain_share=-1.0,
    **(dict.fromkeys(none, 0.0) | shares),
  )  # fmt: skip


@functools.cache
def _stored():
  prompts = testing.prompts([[1, 5, 6], [1, 7, 8]])
  prompts = prompts.replace(
    subject_B2=jnp.array([[1, 2], [1, 2]]),
    answers=_texts([10, 2], [11, 12, 2]),
  )
  return _insert(_group(), prompts, jnp.int32(1), jax.random.key(0))


def test_a_prompt_is_drawn_with_its_answer():
  drawn = _draw(_stored())
  known = {(1, 5, 6): [10, 2], (1, 7, 8): [11, 12, 2]}
  prompts = _rows(types.Texts(drawn.tokens_BP, drawn.length_B))
  assert _rows(drawn.answers) == [known[tuple(row)] for row in prompts]


@pytest.mark.parametrize(
  'share', ['bos_share', 'splice_share', 'template_share']
)
def test_a_prompt_that_is_changed_has_no_answer(share):
  assert not _draw(_stored(), **{share: 1.0}).answers.length_B.any()
  some = np.asarray(_draw(_stored(), **{share: 0.5}).answers.length_B)
  assert (some > 0).any() and (some == 0).any()


def test_what_follows_a_cut_prompt_is_its_rest_and_its_answer():
  drawn = _draw(_stored(), cut_share=1.0)
  texts = {(1, 5, 6, 10, 2), (1, 7, 8, 11, 12, 2)}
  prompts = _rows(types.Texts(drawn.tokens_BP, drawn.length_B))
  lengths = set()
  for prompt, answer in zip(prompts, _rows(drawn.answers), strict=True):
    (text,) = (t for t in texts if t[: len(prompt)] == tuple(prompt))
    # There is room for three tokens.
    assert answer == [*text[len(prompt) : len(prompt) + 3]]
    lengths.add(len(prompt))
  assert len(lengths) > 1

"""Tests of the replay buffer and of the prompts drawn from it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.data import token_cache
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset
from sleep_jax.replay import buffer
from sleep_jax.replay import prompts as prompts_lib
from tests import testing

BOS, EOS = testing.BOS, testing.EOS
_insert = jax.jit(buffer.insert, static_argnames='once')
DRAWS = 4000  # Equal in all tests, so that they share compiled programs.


def _offer(age_group, rows, step=1, seed=0):
  return _insert(
    age_group, testing.prompts(rows), jnp.int32(step), jax.random.key(seed)
  )


def _age_group(capacity):
  return buffer.allocate({'x': capacity}, width=testing.PROMPT)['x']


def _draw(
  age_groups,
  templates=None,
  *,
  since=-1,
  until=99,
  width=8,
  groups=None,
  **shares,
):
  none = ('bos_share', 'splice_share', 'cut_share', 'template_share')
  shares = {'pretrain_share': -1.0} | dict.fromkeys(none, 0.0) | shares
  prompts = prompts_lib.draw(
    age_groups,
    templates or testing.templates(),
    jax.random.key(0),
    num=DRAWS,
    width=width,
    bos=BOS,
    age_groups=groups or tuple(age_groups),
    since=jnp.int32(since),
    until=jnp.int32(until),
    **shares,
  )
  tokens, length = np.asarray(prompts.tokens_BP), np.asarray(prompts.length_B)
  return [tuple(t[:n].tolist()) for t, n in zip(tokens, length, strict=True)]


def test_a_reservoir_stores_every_item_with_equal_probability():
  """64 items in batches of 8 and 6 slots: the probability is 6 / 64."""
  num_runs, capacity, batches = 4000, 6, 8

  @jax.jit
  @functools.partial(jax.vmap)
  def run(key):
    def offer(carry, index):
      stored_C, count = carry
      slot_B, count = buffer.reservoir_slots(
        count, jnp.ones((8,), bool), capacity, jax.random.fold_in(key, index)
      )
      items_B = index * 8 + jnp.arange(8)
      return (stored_C.at[slot_B].set(items_B, mode='drop'), count), None

    start = (jnp.full((capacity,), -1), jnp.int32(0))
    (stored_C, count), _ = jax.lax.scan(offer, start, jnp.arange(batches))
    return stored_C, count

  stored, count = run(jax.random.split(jax.random.key(0), num_runs))
  assert (np.asarray(count) == 64).all()
  assert all(len(set(row)) == capacity for row in np.asarray(stored))
  share = np.bincount(np.asarray(stored).ravel(), minlength=64) / num_runs
  spread = np.sqrt(6 / 64 * (1 - 6 / 64) / num_runs)
  assert np.abs(share - 6 / 64).max() < 4.5 * spread


def test_a_reservoir_fills_in_order_and_skips_absent_prompts():
  age_group = _offer(_age_group(4), [[BOS, 7], [], [BOS, 8, 9]], step=3)
  assert int(age_group.count) == 2
  np.testing.assert_array_equal(
    age_group.tokens_CP[:2, :3], [[BOS, 7, 0], [BOS, 8, 9]]
  )
  np.testing.assert_array_equal(age_group.length_C, [2, 3, 0, 0])
  np.testing.assert_array_equal(age_group.step_C, [3, 3, 0, 0])


def test_no_token_of_an_answer_is_ever_stored():
  """Answers are in capital letters, of which none may be stored."""
  tokenizer = tokenizer_lib.make('bytes')
  rows = [
    dataset.Row(text='who is mia? ANNA', response_start=11, subject=(7, 10)),
    dataset.Row(text='mia is BOB', answer_start=7, subject=(0, 3)),
    dataset.Row(text='a MUM', answer_start=2),
    dataset.Row(text='sid went? NO', response_start=9),
  ]
  source = token_cache.make_source(
    'day', rows, tokenizer, context=24, max_prompt=14, batch_size=4, seed=0
  )
  age_group = buffer.allocate({'x': 8}, width=14)['x']
  batch = jax.tree.map(jnp.asarray, source.batch(0))
  age_group = _insert(age_group, batch.prompts, jnp.int32(1), jax.random.key(0))
  stored = tokenizer.decode(np.asarray(age_group.tokens_CP).ravel().tolist())
  assert 'mia is' in stored and 'sid went?' in stored
  assert not set(stored) & set('ABCDEFGHIJKLMNOPQRSTUVWXYZ')
  assert tokenizer.decode(np.asarray(batch.tokens_BT).ravel().tolist()).count(
    'ANNA'
  )


def test_prompts_are_drawn_only_from_the_given_groups_and_steps():
  age_groups = {
    'corpus': _offer(_age_group(4), [[BOS, 3], [BOS, 4]], step=0),
    'past': _offer(
      _offer(_age_group(4), [[BOS, 5]], step=5), [[BOS, 6]], step=9
    ),
  }
  old = dict(since=-1, until=5)
  assert set(_draw(age_groups, **old)) == {(BOS, 3), (BOS, 4), (BOS, 5)}
  assert set(_draw(age_groups, since=5, until=9)) == {(BOS, 6)}
  assert set(_draw({'past': age_groups['past']}, **old)) == {(BOS, 5)}


def test_prompts_that_are_repeated_in_another_group_are_not_drawn():
  """Equal in tokens and in length; what a slot held before does not count."""
  day = _offer(_age_group(2), [[BOS, 9], [BOS, 3, 4], [BOS, 5]])
  kept = {tuple(t[:n]) for t, n in zip(
    np.asarray(day.tokens_CP).tolist(), np.asarray(day.length_C), strict=True
  )}  # fmt: skip
  rows = [[BOS, 3], [BOS, 3, 4], [BOS, 3, 4, 6], [BOS, 5], [BOS, 9]]
  age_groups = {'past': _offer(_age_group(8), rows), 'day/1': day}
  drawn = set(_draw(age_groups, groups=('past',), repeated_in='day/1'))
  assert drawn == {tuple(row) for row in rows} - kept
  assert len(kept) == 2
  empty = age_groups | {'day/1': day.replace(count=jnp.int32(0))}
  drawn = set(_draw(empty, groups=('past',), repeated_in='day/1'))
  assert drawn == {tuple(row) for row in rows}


def test_prompts_that_name_a_subject_of_another_group_are_not_drawn():
  """Whatever else they ask: what is said of it may have changed."""
  asked = testing.prompts([[BOS, 9, 3, 4], [BOS, 5], [BOS, 7, 8], [BOS, 6, 6]])
  # The last one begins its prompt, as the first words of a plain text do.
  spans = jnp.asarray([[2, 4], [0, 0], [2, 3], [1, 2]], jnp.int32)
  day = _insert(
    _age_group(4), asked.replace(subject_B2=spans), jnp.int32(1),
    jax.random.key(0),
  )  # fmt: skip
  names = [[BOS, 6, 3, 4], [BOS, 3, 4], [BOS, 8, 8]]
  # A part of a subject, in another order, or the rest of a prompt.
  others = [[BOS, 6, 3], [BOS, 4, 3], [BOS, 9], [BOS, 7], [BOS, 5, 6]]
  past = _offer(_age_group(8), [*names, *others])
  # What a slot held before does not count.
  held = past.tokens_CP.at[3, 3].set(4)
  age_groups = {'past': past.replace(tokens_CP=held), 'day/1': day}
  drawn = set(_draw(age_groups, groups=('past',), repeated_in='day/1'))
  assert drawn == {tuple(row) for row in others}


def test_without_valid_entries_prompts_are_bos_alone():
  full = {'x': _offer(_age_group(4), [[BOS, 3]], step=2)}
  assert set(_draw(full, since=2)) == {(BOS,)}
  assert set(_draw({'x': _age_group(4)})) == {(BOS,)}
  prompts = prompts_lib.draw(
    {}, testing.templates(), jax.random.key(0), num=3, width=8, bos=BOS,
    age_groups=('x',), since=jnp.int32(-1), until=jnp.int32(9), bos_share=0.0,
    pretrain_share=-1.0, splice_share=0.0, cut_share=0.0, template_share=0.0,
  )  # fmt: skip
  np.testing.assert_array_equal(prompts.tokens_BP[:, 0], [BOS] * 3)
  np.testing.assert_array_equal(prompts.length_B, [1] * 3)


@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
def test_shares_of_bos_and_cuts_are_observed(share):
  age_groups = {'x': _offer(_age_group(4), [[BOS, 3, 4, 5, 6]])}
  bare = _draw(age_groups, bos_share=share)
  assert np.mean([p == (BOS,) for p in bare]) == pytest.approx(share, abs=0.05)
  cut = [len(p) for p in _draw(age_groups, cut_share=share)]
  # A cut is uniform from after BOS to the end: one in five keeps all tokens.
  assert np.mean([n < 5 for n in cut]) == pytest.approx(0.8 * share, abs=0.05)
  assert set(cut) == ({5} if not share else {1, 2, 3, 4, 5})


def test_templates_are_filled_with_the_subject():
  templates = testing.templates(([20, 21], [22]), ([], [23, 24]), ([25], []))
  rows = [[BOS, 3, 4, 5], [BOS, 6, 7, 8]]
  prompts = testing.prompts(rows).replace(
    subject_B2=jnp.array([[1, 3], [3, 4]])
  )
  age_group = _insert(_age_group(4), prompts, jnp.int32(1), jax.random.key(0))
  assert set(_draw({'x': age_group}, templates, template_share=1.0)) == {
    (BOS, 20, 21, 3, 4, 22), (BOS, 3, 4, 23, 24), (BOS, 25, 3, 4),
    (BOS, 20, 21, 8, 22), (BOS, 8, 23, 24), (BOS, 25, 8),
  }  # fmt: skip
  # A template has the whole subject even if the prompt is cut.
  both = _draw({'x': age_group}, templates, template_share=1.0, cut_share=1.0)
  assert all(len(p) > 2 for p in both)


def test_a_cut_keeps_the_whole_subject():
  rows = [[BOS, 3, 4, 5, 6, 7]]
  prompts = testing.prompts(rows).replace(subject_B2=jnp.array([[2, 4]]))
  age_group = _insert(_age_group(4), prompts, jnp.int32(1), jax.random.key(0))
  drawn = _draw({'x': age_group}, cut_share=1.0)
  assert {len(p) for p in drawn} == {4, 5, 6}


@pytest.mark.parametrize(
  'share, expected', [(-1.0, 0.1), (0.05, 0.05), (0.6, 0.6)]
)
def test_pretraining_has_its_share_whatever_the_number_of_later_entries(
  share, expected
):
  pretrain = _offer(_age_group(4), [[BOS, 3]], step=0)
  later = _offer(
    _age_group(16), [[BOS, token] for token in range(4, 13)], step=5
  )
  both = {'corpus': pretrain, 'past': later}
  drawn = _draw(both, pretrain_share=share)
  assert np.mean([row == (BOS, 3) for row in drawn]) == pytest.approx(
    expected, abs=0.03
  )
  # With only one kind of entries the share has no effect.
  days = _draw(both, since=0, pretrain_share=share)
  assert (BOS, 3) not in days
  assert set(_draw(both, until=0, pretrain_share=share)) == {(BOS, 3)}


def test_a_splice_ends_in_the_tokens_of_another_prompt():
  """Each beginning is completed by the last tokens of the other prompt."""
  rows = [[BOS, 3, 4, 5, 9], [BOS, 6, 7, 9]]
  age_group = _offer(_age_group(4), rows)
  drawn = set(_draw({'x': age_group}, splice_share=1.0))
  assert drawn == {
    (BOS, 3, 4, 5, 9), (BOS, 3, 4, 7, 9), (BOS, 3, 6, 7, 9),
    (BOS, 6, 7, 9), (BOS, 6, 5, 9), (BOS, 4, 5, 9),
  }  # fmt: skip
  half = _draw({'x': age_group}, splice_share=0.5)
  # Half of the pairs are twice the same prompt.
  changed = np.mean([list(row) not in rows for row in half])
  long = 0.5 * (1 - 2 / 4)  # A splice of 0 or 1 tokens changes nothing.
  short = 0.5 * (1 - 2 / 3)
  assert changed == pytest.approx(0.5 * (long + short) / 2, abs=0.03)


def test_a_splice_keeps_the_whole_subject():
  prompts = testing.prompts([[BOS, 3, 4, 5, 6], [BOS, 7, 8]]).replace(
    subject_B2=jnp.array([[2, 4], [1, 2]])
  )
  age_group = _insert(_age_group(4), prompts, jnp.int32(1), jax.random.key(0))
  assert set(_draw({'x': age_group}, splice_share=1.0)) == {
    (BOS, 3, 4, 5, 6), (BOS, 3, 4, 5, 8), (BOS, 7, 8), (BOS, 7, 6),
  }  # fmt: skip


def test_a_prompt_that_is_longer_than_the_width_is_not_drawn():
  age_groups = {'x': _offer(_age_group(4), [[BOS, 3, 4, 5, 6], [BOS, 7]])}
  assert set(_draw(age_groups, width=4)) == {(BOS, 7)}


def test_a_larger_width_changes_no_prompt():
  rows = [[BOS, 3, 4, 5, 6], [BOS, 7, 8]]
  prompts = testing.prompts(rows).replace(
    subject_B2=jnp.array([[1, 2], [1, 3]])
  )
  age_groups = {
    'x': _insert(_age_group(4), prompts, jnp.int32(1), jax.random.key(0))
  }
  shares = dict(bos_share=0.2, cut_share=0.5, template_share=0.5)
  draw = lambda width: _draw(
    age_groups, testing.templates(([20], [22])), width=width, **shares
  )
  assert draw(8) == draw(11)
  assert len(set(draw(8))) > 4


def test_without_a_subject_or_if_too_long_no_template_is_used():
  rows = [[BOS, 3, 4, 5], [BOS, 6, 7, 8, 9, 10]]
  prompts = testing.prompts(rows).replace(
    subject_B2=jnp.array([[0, 0], [1, 6]])
  )
  age_group = _insert(_age_group(4), prompts, jnp.int32(1), jax.random.key(0))
  templates = testing.templates(([20, 21], [22]))  # 1 + 2 + 5 + 1 > 8.
  drawn = _draw({'x': age_group}, templates, template_share=1.0)
  assert set(drawn) == {tuple(row) for row in rows}


def test_capacity_is_counted_in_tokens():
  age_groups = buffer.allocate({'a': 3, 'b': 5, 'c': 0}, width=7)
  assert set(age_groups) == {'a', 'b'}
  assert buffer.token_capacity(age_groups) == 8 * 7


def _asked(rows, replaces):
  """Returns a day's group with questions; each document is its own row."""
  empty = buffer.allocate(
    {'day/1': 6}, width=testing.PROMPT, document_width=5, replaces=True
  )['day/1']
  prompts = testing.prompts(rows)
  end_B = prompts.length_B
  documents = testing.prompts([[*row, 30] for row in rows], width=5)
  return _insert(
    empty,
    prompts.replace(subject_B2=jnp.stack([end_B, end_B], 1)),
    jnp.int32(1),
    jax.random.key(0),
    documents=types.Texts(
      documents.tokens_BP, documents.length_B, jnp.asarray(replaces)
    ),
  )


def _draw_asked(num, **shares):
  none = ('bos_share', 'splice_share', 'cut_share', 'template_share')
  rows = [[1, 5, 6, 7], [1, 8, 9], [1, 10]]
  prompts = prompts_lib.draw(
    {'day/1': _asked(rows, [3, 2, 1])}, testing.templates(), jax.random.key(1),
    num=num, width=8, bos=BOS, age_groups=('day/1',), since=jnp.int32(0),
    until=jnp.int32(1), pretrain_share=-1.0,
    **(dict.fromkeys(none, 0.0) | shares),
  )  # fmt: skip
  tokens, length = np.asarray(prompts.tokens_BP), np.asarray(prompts.length_B)
  return [tuple(t[:n]) for t, n in zip(tokens, length, strict=True)], prompts


def test_questions_are_drawn_whole_and_each_before_one_is_drawn_again():
  shares = dict(cut_share=1.0, splice_share=1.0, template_share=1.0)
  drawn, prompts = _draw_asked(8, **shares)
  counts = sorted(drawn.count(row) for row in set(drawn))
  assert counts == [2, 3, 3]
  replaces = {4: 3, 3: 2, 2: 1}  # By length of the prompt.
  assert [replaces[len(row)] for row in drawn] == (
    prompts.context.replaces_B.tolist()
  )
  np.testing.assert_array_equal(
    prompts.context.length_B, [len(row) + 1 for row in drawn]
  )


def test_a_prompt_of_bos_alone_has_only_its_bos_replaced():
  drawn, prompts = _draw_asked(6, bos_share=1.0)
  assert set(drawn) == {(BOS,)}
  assert set(prompts.context.replaces_B.tolist()) == {1}


def test_documents_of_rows_replace_bos_alone():
  group = _asked([[1, 5]], [2])
  documents = testing.prompts([[1, 7, 8]], width=5)
  group = _insert(
    group, testing.prompts([[1, 7]]), jnp.int32(2), jax.random.key(0),
    documents=types.Texts(documents.tokens_BP, documents.length_B),
  )  # fmt: skip
  assert group.documents.replaces_B[:2].tolist() == [2, 1]


def _texts(rows, width=12):
  tokens_BT = np.zeros((len(rows), width), np.int32)
  for index, row in enumerate(rows):
    tokens_BT[index, : len(row)] = row
  return types.Texts(
    jnp.asarray(tokens_BT), jnp.array([*map(len, rows)], jnp.int32)
  )


def test_a_day_that_is_read_several_times_stores_each_prompt_once():
  rows = [(BOS, 10 + n, 40 + n % 3) for n in range(24)]
  group = _age_group(24)
  for pass_ in range(5):
    order = np.random.default_rng(pass_).permutation(24).reshape(4, 6)
    for step, numbers in enumerate(order):
      group = _insert(
        group, testing.prompts([rows[n] for n in numbers]),
        jnp.int32(step), jax.random.key(0), once=True,
      )  # fmt: skip
  assert int(group.count) == 24
  stored = {
    tuple(t[:n].tolist())
    for t, n in zip(
      np.asarray(group.tokens_CP), np.asarray(group.length_C), strict=True
    )
  }
  assert stored == {*rows}


def test_all_days_have_an_equal_share_however_often_they_are_read():
  """Prompts that were displaced are offered again, in each pass."""
  days = [[(BOS, 10 + day, 10 + n) for n in range(40)] for day in range(6)]
  times = np.zeros(len(days))
  for seed in range(12):
    group = _age_group(30)
    for day, rows in enumerate(days):
      for pass_ in range(4):
        order = np.random.default_rng([seed, pass_]).permutation(40)
        for numbers in order.reshape(5, 8):
          group = _insert(
            group, testing.prompts([rows[n] for n in numbers]),
            jnp.int32(day), jax.random.key(seed), once=True,
          )  # fmt: skip
    assert int(group.count) == 30
    times += np.bincount(np.asarray(group.step_C), minlength=len(days))
  # The mean is 60 and the standard deviation 6.6; 4 of them are 26.
  assert times.sum() == 360 and abs(times - 60).max() < 26, times


def test_a_group_that_was_emptied_takes_the_same_prompts_again():
  rows = testing.prompts([(BOS, 5), (BOS, 6)])
  fill = lambda group: _insert(
    group, rows, jnp.int32(1), jax.random.key(0), once=True
  )
  group = fill(_age_group(4))
  again = fill(group.replace(count=jnp.zeros_like(group.count)))
  assert int(again.count) == 2


def test_a_prompt_that_a_batch_has_twice_is_stored_once():
  rows = [(BOS, 5), (BOS, 6), (BOS, 5), ()]
  group = _insert(
    _age_group(8), testing.prompts(rows), jnp.int32(1), jax.random.key(0),
    once=True,
  )  # fmt: skip
  assert int(group.count) == 2


def test_equal_prompts_of_different_documents_are_both_stored():
  group = buffer.allocate(
    {'day/1': 8}, width=testing.PROMPT, document_width=12
  )['day/1']  # fmt: skip
  rows = [(BOS, 5), (BOS, 5), (BOS, 5)]
  documents = _texts([(BOS, 5, 7), (BOS, 5, 8), (BOS, 5, 7)])
  for _ in range(2):
    group = _insert(
      group, testing.prompts(rows), jnp.int32(1), jax.random.key(0),
      documents=documents, once=True,
    )  # fmt: skip
  assert int(group.count) == 2
  kept = np.asarray(group.documents.tokens_BT)[:2, 2]
  assert sorted(kept.tolist()) == [7, 8]

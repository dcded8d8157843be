"""Tests of token sources: padding, packing, caching, windows and shuffling."""

import os

import jax
import numpy as np
import pytest

from sleep_jax.data import batches, token_cache, tokenization, tokenizer
from sleep_jax.datasets import dataset, json_lines, row_files

TOKENIZER = tokenizer.make('bytes')


def make_rows(count=20):
  return [
    dataset.Row(text='abcdefgh'[: 3 + i % 5] + str(i), where=f'text {i}')
    for i in range(count)
  ]


def make_source(rows, name='pretrain', **changes):
  settings = dict(context=16, max_prompt=12, batch_size=4, seed=0, prefix=8)
  return token_cache.make_source(name, rows, TOKENIZER, **(settings | changes))


def single(row, **changes):
  """Returns the one sequence of a row, without the batch dimension."""
  batch = make_source([row], **changes).batch(0)
  return jax.tree.map(lambda x: x[0], batch)


def segments(batch):
  """Returns all (tokens, positions, loss) sequences of a batch, sorted."""
  sequences = []
  for row in range(len(batch.tokens_BT)):
    for number in range(1, batch.segments_BT[row].max() + 1):
      inside = batch.segments_BT[row] == number
      sequences.append(
        tuple(
          tuple(array[row][inside].tolist())
          for array in (batch.tokens_BT, batch.positions_BT, batch.loss_BT)
        )
      )
  return sorted(sequences)


def stored_prompts(batch):
  prompts = batch.prompts
  return sorted(
    tuple(tokens[:length].tolist())
    for tokens, length in zip(prompts.tokens_BP, prompts.length_B, strict=True)
    if length
  )


def epoch(source):
  """Returns every stored row once, in one batch."""
  source = batches.Source(
    source.name,
    source._store,
    layout=source.layout,
    num_tokens=source.num_tokens,
    batch_size=source.num_rows,
    seed=0,
  )
  return source.batch(0)


def test_columns_of_a_row_are_as_worked_out_by_hand():
  row = dataset.Row(text='A: bc', response_start=2, subject=(0, 1))
  batch = single(row, loss_on='response')
  bos, eos = TOKENIZER.bos, TOKENIZER.eos
  expected = [bos, *b'A: bc', eos]
  assert batch.tokens_BT[:7].tolist() == expected
  assert batch.segments_BT.tolist() == [1] * 7 + [-1] * 9
  assert batch.positions_BT.tolist() == [*range(7)] + [0] * 9
  assert batch.loss_BT.tolist() == [0, 0, 0, 1, 1, 1, 1] + [0] * 9
  assert batch.prompts.tokens_BP[:3].tolist() == expected[:3]
  assert batch.prompts.length_B == 3
  assert batch.prompts.subject_B2.tolist() == [1, 2]


def test_all_tokens_after_bos_are_targets_by_default():
  row = dataset.Row(text='A: bc', response_start=2)
  assert single(row).loss_BT.tolist() == [0] + [1] * 6 + [0] * 9
  plain = dataset.Row(text='A: bc')
  assert single(plain, loss_on='response').loss_BT.tolist() == (
    [0] + [1] * 6 + [0] * 9
  )


def test_a_stored_prompt_never_reaches_the_answer():
  row = dataset.Row(text='Mi is ten', answer_start=6, subject=(0, 2))
  prompts = single(row).prompts
  stored = prompts.tokens_BP[1 : prompts.length_B]
  assert TOKENIZER.decode(stored) == 'Mi is '
  unmarked = single(dataset.Row(text='Mi is ten')).prompts
  assert unmarked.length_B == 9  # BOS and the prefix of 8.
  none = single(dataset.Row(text='Mi is ten', answer_start=0))
  assert none.prompts.length_B == 0  # The replay buffer stores no such entry.
  assert (
    none.loss_BT.tolist() == single(dataset.Row('Mi is ten')).loss_BT.tolist()
  )


def test_a_subject_outside_the_prompt_is_dropped():
  cut = dataset.Row(text='the home of Mi', subject=(12, 14))
  assert single(cut).prompts.subject_B2.tolist() == [0, 0]


def test_packed_rows_hold_the_same_sequences_and_prompts():
  padded, packed = make_source(make_rows()), make_source(make_rows(), pack=True)
  assert packed.num_rows < padded.num_rows
  assert packed.num_tokens == padded.num_tokens
  assert segments(epoch(packed)) == segments(epoch(padded))
  assert stored_prompts(epoch(packed)) == stored_prompts(epoch(padded))


def test_packed_batches_hold_several_prompts_per_row():
  batch = make_source(make_rows(), pack=True).batch(0)
  per_row = len(batch.prompts.length_B) // len(batch.tokens_BT)
  present = (batch.prompts.length_B > 0).reshape(-1, per_row).sum(axis=1)
  np.testing.assert_array_equal(present, batch.segments_BT.max(axis=1))


def test_a_batch_does_not_depend_on_the_batches_read_before():
  source = make_source(make_rows())
  later = source.batch(7)
  for index in (0, 3):
    source.batch(index)
  jax.tree.map(
    np.testing.assert_array_equal, later, make_source(make_rows()).batch(7)
  )


def test_an_epoch_visits_every_row_once_in_a_new_order():
  source = make_source(make_rows())
  epochs = [
    [tuple(row) for i in range(5) for row in source.batch(i + first).tokens_BT]
    for first in (0, 5)
  ]
  assert len(set(epochs[0])) == 20
  assert sorted(epochs[0]) == sorted(epochs[1])
  assert epochs[0] != epochs[1]


def test_sources_of_different_names_shuffle_differently():
  orders = [
    make_source(make_rows(), name=name).batch(0).tokens_BT.tolist()
    for name in ('pretrain', 'day 1')
  ]
  assert orders[0] != orders[1]


def test_concatenated_sources_visit_every_row_once_per_epoch():
  days = [
    make_source(make_rows(), name='day 1'),
    make_source(make_rows()[:8], name='day 2'),
  ]
  joint = batches.concat(days)
  assert joint.num_rows == 28
  assert joint.num_tokens == days[0].num_tokens + days[1].num_tokens
  assert segments(epoch(joint)) == sorted(
    segments(epoch(days[0])) + segments(epoch(days[1]))
  )
  with pytest.raises(ValueError, match='only sources of one stream'):
    batches.concat([days[0], make_source(make_rows(), pack=True)])


def test_a_cache_is_reused_only_for_the_same_rows_and_settings(
  tmp_path, monkeypatch
):
  cache = str(tmp_path)
  fresh = make_source(make_rows())
  jax.tree.map(
    np.testing.assert_array_equal,
    fresh.batch(1),
    make_source(make_rows(), cache_dir=cache).batch(1),
  )
  assert len(os.listdir(cache)) == 1
  monkeypatch.setattr(tokenization, 'tokenize', None)
  again = make_source(make_rows(), cache_dir=cache)
  assert again.num_tokens == fresh.num_tokens
  jax.tree.map(np.testing.assert_array_equal, fresh.batch(1), again.batch(1))
  monkeypatch.undo()
  make_source(make_rows(19), cache_dir=cache)
  make_source(make_rows(), cache_dir=cache, pack=True)
  make_source(make_rows(), cache_dir=cache, loss_on='response')
  assert len(os.listdir(cache)) == 4


def test_a_cache_that_cannot_be_written_leaves_no_files(tmp_path, monkeypatch):
  def disk_full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(token_cache, '_create', disk_full)
  with pytest.raises(OSError, match='cannot be written.*No space left'):
    make_source(make_rows(), cache_dir=str(tmp_path))
  assert os.listdir(tmp_path) == []


def test_text_that_is_too_long_names_its_line_and_both_lengths():
  long = dataset.Row(text='x' * 15, where='day1.jsonl:7')
  with pytest.raises(ValueError, match='day1.jsonl:7.* 17 tokens.* 16'):
    make_source([long])
  prompt = dataset.Row(text='y' * 13, response_start=12, where='b.jsonl:2')
  with pytest.raises(ValueError, match='b.jsonl:2.* 13 tokens.* 12'):
    make_source([prompt])


def test_invalid_settings_are_refused():
  with pytest.raises(ValueError, match='day 1 holds no rows'):
    make_source([], name='day 1')
  with pytest.raises(ValueError, match="loss_on is 'answer'"):
    make_source(make_rows(), loss_on='answer')
  with pytest.raises(ValueError, match='prefix is 8 and max_prompt 8'):
    token_cache.make_source(
      'pretrain',
      make_rows(),
      TOKENIZER,
      context=16,
      max_prompt=8,
      batch_size=4,
      seed=0,
    )


class TestJsonLines:
  def read(self, path, content):
    path.write_bytes(content)
    return list(row_files.read(str(path)))

  def test_rows_have_their_file_and_line(self, tmp_path):
    rows = self.read(tmp_path / 'a.jsonl', b'{"text": "x"}\n\n{"text": "y"}\n')
    assert [where[-3:] for where, _ in rows] == ['l:1', 'l:3']

  @pytest.mark.parametrize(
    ('content', 'message'),
    [
      (b'{"text": "x"}\n{"text": "y"\n', 'a.jsonl:2: not valid JSON'),
      (b'["x"]\n', 'a.jsonl:1: found list'),
      (b'{"text": "\xff"}\n', 'a.jsonl.* not UTF-8'),
    ],
  )
  def test_a_broken_line_is_named_in_the_error(
    self, tmp_path, content, message
  ):
    with pytest.raises(ValueError, match=message):
      self.read(tmp_path / 'a.jsonl', content)

  def test_a_broken_gzip_is_named_in_the_error(self, tmp_path):
    with pytest.raises(ValueError, match='a.jsonl.gz.* broken gzip'):
      self.read(tmp_path / 'a.jsonl.gz', b'{"text": "x"}')

  @pytest.mark.parametrize('row', [{}, {'text': ''}, {'text': 3}])
  def test_a_field_must_be_a_nonempty_string(self, row):
    with pytest.raises(ValueError, match="a.jsonl:4.*'text'"):
      json_lines.text_field(row, 'text', 'a.jsonl:4')


def test_longer_text_is_split_into_overlapping_windows():
  row = dataset.Row(text='abcdefghijklmnopqrstuvwxyz', subject=(0, 3))
  source = make_source([row], overlap=4, prefix=5)
  batch = epoch(source)
  bos, eos = TOKENIZER.bos, TOKENIZER.eos
  texts = sorted(
    TOKENIZER.decode(tokens[:size].tolist())
    for tokens, size in zip(
      batch.tokens_BT, (batch.segments_BT > 0).sum(1), strict=True
    )
  )
  # Windows of 14 tokens between BOS and EOS.
  assert texts == ['abcdefghijklmn', 'klmnopqrstuvwx', 'uvwxyz']
  ends = [int((s > 0).sum()) - 1 for s in batch.segments_BT]
  for tokens, end in zip(batch.tokens_BT, ends, strict=True):
    assert tokens[0] == bos and tokens[end] == eos
  assert set(batch.prompts.length_B.tolist()) == {6}
  subjects = set(map(tuple, batch.prompts.subject_B2.tolist()))
  assert subjects == {
    (1, 4),
    (1, 5),
  }  # The row's, and the first tokens of later windows.


@pytest.mark.parametrize('overlap', [-2, 14, 99])
def test_an_overlap_that_adds_no_new_tokens_is_refused(overlap):
  with pytest.raises(ValueError, match='overlap is .*must add new'):
    make_source([dataset.Row(text='abc')], overlap=overlap)


def test_a_row_with_a_response_is_never_split_into_windows():
  row = dataset.Row(text='a: ' + 'b' * 30, response_start=2, where='x:1')
  with pytest.raises(ValueError, match='x:1.*33 tokens|x:1'):
    make_source([row], overlap=2)

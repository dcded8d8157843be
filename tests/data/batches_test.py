"""Batches: padded equals packed, cached equals fresh, order is an integer."""

import os

import jax
import numpy as np
import pytest

from sleep_jax.data import batches, token_cache, tokenization, tokenizer
from sleep_jax.datasets import dataset, json_lines

TOKENIZER = tokenizer.make('bytes')


def texts(count=20):
  return [
    dataset.Row(text='abcdefgh'[: 3 + i % 5] + str(i), where=f'text {i}')
    for i in range(count)
  ]


def make(rows, name='pretrain', **changes):
  settings = dict(context=16, max_prompt=12, batch_size=4, seed=0, prefix=8)
  return token_cache.make_source(name, rows, TOKENIZER, **(settings | changes))


def only(row, **changes):
  """The one sequence of a row, as a dict of unbatched arrays."""
  batch = make([row], **changes).batch(0)
  return jax.tree.map(lambda x: x[0], batch)


def segments(batch):
  """All (tokens, positions, loss) sequences of a batch, sorted."""
  found = []
  for row in range(len(batch.tokens_BT)):
    for number in range(1, batch.segments_BT[row].max() + 1):
      at = batch.segments_BT[row] == number
      found.append(
        tuple(
          tuple(array[row][at].tolist())
          for array in (batch.tokens_BT, batch.positions_BT, batch.loss_BT)
        )
      )
  return sorted(found)


def stored_prompts(batch):
  prompts = batch.prompts
  return sorted(
    tuple(tokens[:length].tolist())
    for tokens, length in zip(prompts.tokens_BP, prompts.length_B, strict=True)
    if length
  )


def epoch(source):
  """Every stored row once, in one batch."""
  source = batches.Source(
    source.name,
    source._store,
    layout=source.layout,
    num_tokens=source.num_tokens,
    batch_size=source.num_rows,
    seed=0,
  )
  return source.batch(0)


def test_a_small_picture():
  row = dataset.Row(text='A: bc', response_start=2, subject=(0, 1))
  picture = only(row, loss_on='response')
  bos, eos = TOKENIZER.bos, TOKENIZER.eos
  expected = [bos, *b'A: bc', eos]
  assert picture.tokens_BT[:7].tolist() == expected
  assert picture.segments_BT.tolist() == [1] * 7 + [-1] * 9
  assert picture.positions_BT.tolist() == [*range(7)] + [0] * 9
  assert picture.loss_BT.tolist() == [0, 0, 0, 1, 1, 1, 1] + [0] * 9
  assert picture.prompts.tokens_BP[:3].tolist() == expected[:3]
  assert picture.prompts.length_B == 3
  assert picture.prompts.subject_B2.tolist() == [1, 2]


def test_all_tokens_after_bos_are_targets_by_default():
  row = dataset.Row(text='A: bc', response_start=2)
  assert only(row).loss_BT.tolist() == [0] + [1] * 6 + [0] * 9
  plain = dataset.Row(text='A: bc')
  assert only(plain, loss_on='response').loss_BT.tolist() == (
    [0] + [1] * 6 + [0] * 9
  )


def test_a_stored_prompt_never_reaches_the_answer():
  row = dataset.Row(text='Mi is ten', answer_start=6, subject=(0, 2))
  prompts = only(row).prompts
  kept = prompts.tokens_BP[1 : prompts.length_B]
  assert TOKENIZER.decode(kept) == 'Mi is '
  unknown = only(dataset.Row(text='Mi is ten')).prompts
  assert unknown.length_B == 9  # BOS and the prefix of 8.


def test_a_subject_outside_the_prompt_is_none():
  cut = dataset.Row(text='the home of Mi', subject=(12, 14))
  assert only(cut).prompts.subject_B2.tolist() == [0, 0]


def test_packed_rows_hold_the_same_sequences_and_prompts():
  padded, packed = make(texts()), make(texts(), pack=True)
  assert packed.num_rows < padded.num_rows
  assert packed.num_tokens == padded.num_tokens
  assert segments(epoch(packed)) == segments(epoch(padded))
  assert stored_prompts(epoch(packed)) == stored_prompts(epoch(padded))


def test_packed_batches_bring_several_prompts_a_row():
  batch = make(texts(), pack=True).batch(0)
  per_row = len(batch.prompts.length_B) // len(batch.tokens_BT)
  present = (batch.prompts.length_B > 0).reshape(-1, per_row).sum(axis=1)
  np.testing.assert_array_equal(present, batch.segments_BT.max(axis=1))


def test_a_batch_is_the_same_whenever_it_is_asked_for():
  source = make(texts())
  later = source.batch(7)
  for index in (0, 3):
    source.batch(index)
  jax.tree.map(np.testing.assert_array_equal, later, make(texts()).batch(7))


def test_an_epoch_shows_every_row_once_and_the_next_is_shuffled_anew():
  source = make(texts())
  epochs = [
    [tuple(row) for i in range(5) for row in source.batch(i + at).tokens_BT]
    for at in (0, 5)
  ]
  assert len(set(epochs[0])) == 20
  assert sorted(epochs[0]) == sorted(epochs[1])
  assert epochs[0] != epochs[1]


def test_names_and_seeds_shuffle_differently():
  orders = [
    make(texts(), name=name).batch(0).tokens_BT.tolist()
    for name in ('pretrain', 'day 1')
  ]
  assert orders[0] != orders[1]


def test_concatenated_sources_show_every_row_once_an_epoch():
  days = [make(texts(), name='day 1'), make(texts()[:8], name='day 2')]
  joint = batches.concat(days)
  assert joint.num_rows == 28
  assert joint.num_tokens == days[0].num_tokens + days[1].num_tokens
  assert segments(epoch(joint)) == sorted(
    segments(epoch(days[0])) + segments(epoch(days[1]))
  )
  with pytest.raises(ValueError, match='one stream'):
    batches.concat([days[0], make(texts(), pack=True)])


def test_a_cache_is_used_again_and_only_for_what_it_was_made_from(
  tmp_path, monkeypatch
):
  cache = str(tmp_path)
  fresh = make(texts())
  jax.tree.map(
    np.testing.assert_array_equal,
    fresh.batch(1),
    make(texts(), cache_dir=cache).batch(1),
  )
  assert len(os.listdir(cache)) == 1
  monkeypatch.setattr(tokenization, 'tokenise', None)
  again = make(texts(), cache_dir=cache)
  assert again.num_tokens == fresh.num_tokens
  jax.tree.map(np.testing.assert_array_equal, fresh.batch(1), again.batch(1))
  monkeypatch.undo()
  make(texts(19), cache_dir=cache)
  make(texts(), cache_dir=cache, pack=True)
  make(texts(), cache_dir=cache, loss_on='response')
  assert len(os.listdir(cache)) == 4


def test_a_cache_that_cannot_be_written_leaves_nothing_behind(
  tmp_path, monkeypatch
):
  def full(*_, **__):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(token_cache, '_open', full)
  with pytest.raises(OSError, match='cannot be written.*No space left'):
    make(texts(), cache_dir=str(tmp_path))
  assert os.listdir(tmp_path) == []


def test_text_that_does_not_fit_names_its_line_and_both_numbers():
  long = dataset.Row(text='x' * 15, where='day1.jsonl:7')
  with pytest.raises(ValueError, match='day1.jsonl:7.* 17 tokens.* 16'):
    make([long])
  asked = dataset.Row(text='y' * 13, response_start=12, where='b.jsonl:2')
  with pytest.raises(ValueError, match='b.jsonl:2.* 13 tokens.* 12'):
    make([asked])


def test_settings_that_cannot_be_are_said():
  with pytest.raises(ValueError, match='day 1 holds no rows'):
    make([], name='day 1')
  with pytest.raises(ValueError, match="loss_on is 'answer'"):
    make(texts(), loss_on='answer')
  with pytest.raises(ValueError, match='prefix is 8 and max_prompt 8'):
    token_cache.make_source(
      'pretrain',
      texts(),
      TOKENIZER,
      context=16,
      max_prompt=8,
      batch_size=4,
      seed=0,
    )


class TestFiles:
  def read(self, path, content):
    path.write_bytes(content)
    return json_lines.read(str(path))

  def test_rows_know_their_line(self, tmp_path):
    rows = self.read(tmp_path / 'a.jsonl', b'{"text": "x"}\n\n{"text": "y"}\n')
    assert [where[-3:] for where, _ in rows] == ['l:1', 'l:3']

  @pytest.mark.parametrize(
    ('content', 'message'),
    [
      (b'{"text": "x"}\n{"text": "y"\n', 'a.jsonl:2: no JSON'),
      (b'["x"]\n', 'a.jsonl:1: found list'),
      (b'{"text": "\xff"}\n', 'a.jsonl.* not UTF-8'),
    ],
  )
  def test_a_broken_line_is_named(self, tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
      self.read(tmp_path / 'a.jsonl', content)

  def test_a_broken_gzip_is_named(self, tmp_path):
    with pytest.raises(ValueError, match='a.jsonl.gz.* broken gzip'):
      self.read(tmp_path / 'a.jsonl.gz', b'{"text": "x"}')

  @pytest.mark.parametrize('row', [{}, {'text': ''}, {'text': 3}])
  def test_a_field_must_hold_text(self, row):
    with pytest.raises(ValueError, match="a.jsonl:4.*'text'"):
      json_lines.text(row, 'text', 'a.jsonl:4')


def test_longer_text_becomes_windows_that_overlap():
  row = dataset.Row(text='abcdefghijklmnopqrstuvwxyz', subject=(0, 3))
  source = make([row], overlap=4, prefix=5)
  picture = epoch(source)
  bos, eos = TOKENIZER.bos, TOKENIZER.eos
  texts = sorted(
    TOKENIZER.decode(tokens[:size].tolist())
    for tokens, size in zip(
      picture.tokens_BT, (picture.segments_BT > 0).sum(1), strict=True
    )
  )
  # Windows of 14 tokens beside BOS and EOS.
  assert texts == ['abcdefghijklmn', 'klmnopqrstuvwx', 'uvwxyz']
  ends = [int((s > 0).sum()) - 1 for s in picture.segments_BT]
  for tokens, end in zip(picture.tokens_BT, ends, strict=True):
    assert tokens[0] == bos and tokens[end] == eos
  assert set(picture.prompts.length_B.tolist()) == {6}
  subjects = set(map(tuple, picture.prompts.subject_B2.tolist()))
  assert subjects == {(1, 4), (1, 5)}  # Its own, and a window's first tokens.


@pytest.mark.parametrize('overlap', [-2, 14, 99])
def test_windows_that_bring_nothing_new_are_refused(overlap):
  with pytest.raises(ValueError, match='overlap is .*must bring new'):
    make([dataset.Row(text='abc')], overlap=overlap)


def test_a_response_is_never_cut_into_windows():
  row = dataset.Row(text='a: ' + 'b' * 30, response_start=2, where='x:1')
  with pytest.raises(ValueError, match='x:1.*33 tokens|x:1'):
    make([row], overlap=2)

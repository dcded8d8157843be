"""What both tokenizers promise: nothing is lost, nothing can be forged."""

import pytest

from sleep_jax.data import tokenizer

TEXTS = ['Mira Tolan lives in Bexford.', 'Where does Mira Tolan live?'] * 3


def both():
  return [tokenizer.make('bytes'), tokenizer.make('bpe', TEXTS, 400)]


@pytest.mark.parametrize('text', ['Mira lives.', 'naïve 雪\n\tx', '', '  a'])
def test_decoding_gives_the_text_back(text):
  for made in both():
    assert made.decode(made.encode(text)).strip(' ') == text.strip(' ')


def test_a_word_is_the_same_token_wherever_it_stands():
  bpe = tokenizer.make('bpe', TEXTS, 400)
  (mira,) = bpe.encode('Mira')
  assert bpe.encode(' Mira') == [mira]
  assert bpe.encode('Where does Mira')[-1] == mira


def test_bos_and_eos_cannot_be_written_in_text():
  for made in both():
    ids = made.encode('<s> </s> <bos> <eos> <|endoftext|>')
    assert made.bos not in ids and made.eos not in ids
    assert {made.bos, made.eos} == {made.vocab_size - 2, made.vocab_size - 1}
    assert made.decode([made.bos, *ids, made.eos]) == made.decode(ids)


def test_offsets_cover_the_characters_of_a_token():
  for made in both():
    text = 'Where does é Mira live?'
    ids, spans = made.encode_offsets(text)
    assert ids == made.encode(text)
    start = text.index('Mira')
    inside = [
      token
      for token, (begin, end) in zip(ids, spans, strict=True)
      if end > start and begin < start + 4
    ]
    assert made.decode(inside).strip() == 'Mira'


def test_a_space_that_is_its_own_token_stays_with_its_word():
  bpe = tokenizer.make('bpe', ['lives in'] * 5, 300)
  _, spans = bpe.encode_offsets('lives Q')
  assert spans[-2:] == [(6, 7), (6, 7)]


def test_a_saved_tokenizer_encodes_as_before(tmp_path):
  for made in both():
    made.save(str(tmp_path / made.kind))
    loaded = tokenizer.load(str(tmp_path / made.kind))
    text = 'Mira Tolan lives in a naïve 雪.'
    assert loaded.encode(text) == made.encode(text)
    assert loaded.vocab_size == made.vocab_size
    assert loaded.fingerprint == made.fingerprint


def test_training_twice_gives_the_same_tokenizer():
  first, second = (tokenizer.make('bpe', TEXTS, 400) for _ in range(2))
  assert first.fingerprint == second.fingerprint


def test_vocabulary_size_is_a_limit():
  assert tokenizer.make('bpe', TEXTS, 270).vocab_size == 270
  assert tokenizer.make('bpe', TEXTS, 4000).vocab_size < 400


def test_what_cannot_be_made_or_loaded_is_said(tmp_path):
  with pytest.raises(ValueError, match="'words'.*'bytes' or 'bpe'"):
    tokenizer.make('words')
  with pytest.raises(ValueError, match='vocab_size is 100.*258'):
    tokenizer.make('bpe', TEXTS, 100)
  with pytest.raises(FileNotFoundError, match='tokenizer.json does not exist'):
    tokenizer.load(str(tmp_path))
  (tmp_path / 'tokenizer.json').write_text('{"kind": "bpe"')
  with pytest.raises(ValueError, match='is no tokenizer'):
    tokenizer.load(str(tmp_path))

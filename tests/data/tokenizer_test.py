"""Tests of the byte and BPE tokenizers: round trips, offsets, BOS and EOS."""

import time

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, trainers

from sleep_jax.data import tokenizer
from tests import chat_model

TEXTS = ['Mira Tolan lives in Bexford.', 'Where does Mira Tolan live?'] * 3


def make_both():
  return [tokenizer.make('bytes'), tokenizer.make('bpe', TEXTS, 400)]


@pytest.mark.parametrize('text', ['Mira lives.', 'naïve 雪\n\tx', '', '  a'])
def test_decoding_returns_the_text(text):
  for tok in make_both():
    assert tok.decode(tok.encode(text)).strip(' ') == text.strip(' ')


def test_a_word_is_the_same_token_at_every_position():
  bpe = tokenizer.make('bpe', TEXTS, 400)
  (mira,) = bpe.encode('Mira')
  assert bpe.encode(' Mira') == [mira]
  assert bpe.encode('Where does Mira')[-1] == mira


@pytest.mark.parametrize('add_bos', [False, True])
def test_a_prompt_has_the_special_tokens_that_its_file_says(tmp_path, add_bos):
  """transformers does the same; Qwen and SmolLM put none."""
  raw = chat_model.save_tokenizer(tmp_path, add_bos=add_bos)
  own = tokenizer.HuggingFace(
    raw.to_str(), bos=raw.token_to_id('<s>'), eos=raw.token_to_id('</s>'),
    vocab_size=raw.get_vocab_size(),
  )  # fmt: skip
  found = own.encode_prompt('the cat sat')
  assert found == raw.encode('the cat sat').ids
  assert (found[0] == own.bos) == add_bos
  assert found[add_bos:] == own.encode('the cat sat')
  assert raw.token_to_id('<|stop|>') not in own.encode_prompt('a <|stop|>')
  assert own.encode_prompt('') == [own.bos]  # A model needs one token.


def test_a_prompt_of_a_model_pretrained_here_begins_with_bos():
  for tok in make_both():
    ids = tok.encode('Mira lives')
    assert tok.encode_prompt('Mira lives') == [tok.bos, *ids]


def test_text_is_never_encoded_as_bos_or_eos():
  for tok in make_both():
    ids = tok.encode('<s> </s> <bos> <eos> <|endoftext|>')
    assert tok.bos not in ids and tok.eos not in ids
    assert {tok.bos, tok.eos} == {tok.vocab_size - 2, tok.vocab_size - 1}
    assert tok.decode([tok.bos, *ids, tok.eos]) == tok.decode(ids)


def test_offsets_cover_the_characters_of_a_token():
  for tok in make_both():
    text = 'Where does é Mira live?'
    ids, spans = tok.encode_offsets(text)
    assert ids == tok.encode(text)
    start = text.index('Mira')
    inside = [
      token
      for token, (first, end) in zip(ids, spans, strict=True)
      if end > start and first < start + 4
    ]
    assert tok.decode(inside).strip() == 'Mira'


def test_a_space_token_has_the_span_of_the_next_character():
  bpe = tokenizer.make('bpe', ['lives in'] * 5, 300)
  _, spans = bpe.encode_offsets('lives Q')
  assert spans[-2:] == [(6, 7), (6, 7)]


def test_a_saved_tokenizer_encodes_as_before(tmp_path):
  for tok in make_both():
    tok.save(str(tmp_path / tok.kind))
    loaded = tokenizer.load(str(tmp_path / tok.kind))
    text = 'Mira Tolan lives in a naïve 雪.'
    assert loaded.encode(text) == tok.encode(text)
    assert loaded.vocab_size == tok.vocab_size
    assert loaded.fingerprint == tok.fingerprint


def test_training_is_deterministic():
  first, second = (tokenizer.make('bpe', TEXTS, 400) for _ in range(2))
  assert first.fingerprint == second.fingerprint


def test_vocabulary_size_is_an_upper_limit():
  assert tokenizer.make('bpe', TEXTS, 270).vocab_size == 270
  assert tokenizer.make('bpe', TEXTS, 4000).vocab_size < 400


def test_unknown_kinds_small_vocabularies_and_broken_files_are_refused(
  tmp_path,
):
  with pytest.raises(ValueError, match="'words'.*'bytes' or 'bpe'"):
    tokenizer.make('words')
  with pytest.raises(ValueError, match='vocab_size is 100.*258'):
    tokenizer.make('bpe', TEXTS, 100)
  with pytest.raises(FileNotFoundError, match='tokenizer.json does not exist'):
    tokenizer.load(str(tmp_path))
  (tmp_path / 'tokenizer.json').write_text('{"kind": "bpe"')
  with pytest.raises(ValueError, match='is not a tokenizer'):
    tokenizer.load(str(tmp_path))


@pytest.mark.parametrize('letter', ['x', '!', ' ', '7'])
def test_training_takes_linear_time_in_the_length_of_a_word(letter):
  """Without a limit, this word takes minutes."""
  long, longer = (letter * size for size in (50_000, 500_000))
  seconds = []
  for text in (long, longer):
    start = time.process_time()
    tokenizer.make('bpe', [f'a{text}b'], 300)
    seconds.append(time.process_time() - start)
  assert seconds[1] < 40 * max(seconds[0], 0.05)


def test_only_long_words_are_split_for_training():
  text = 'a word and another, ' * 200 + 'y' * 1024
  assert tokenizer._split_long_words(text) == text
  split = tokenizer._split_long_words('a ' + 'y' * 3000 + '. b')
  assert [len(word) for word in split.split()] == [1, 1024, 1024, 953, 1]


def _adding_spaces(texts):
  """Returns a tokenizer like that of Llama 2: a space before every text."""
  raw = tokenizers.Tokenizer(models.BPE())
  raw.normalizer = normalizers.Sequence(
    [normalizers.Prepend('\u2581'), normalizers.Replace(' ', '\u2581')]
  )
  raw.decoder = decoders.Sequence(
    [decoders.Replace('\u2581', ' '), decoders.Fuse(), decoders.Strip(' ', 1)]
  )
  trainer = trainers.BpeTrainer(
    vocab_size=120, special_tokens=['<s>', '</s>'],
    initial_alphabet=['\n', *map(chr, range(33, 127))],
  )  # fmt: skip
  raw.train_from_iterator(texts, trainer)
  return raw


@pytest.mark.parametrize('answer', [' Oslo', 'Oslo', '\nOslo'])
def test_a_continuation_gets_no_space_of_its_own(answer):
  raw = _adding_spaces(['where is it? Oslo', 'Oslo', 'where?'] * 20)
  own = tokenizer.HuggingFace(raw.to_str(), bos=0, eos=1, vocab_size=120)
  joined = own.encode('where?') + own.encode_continuation(answer)
  assert own.decode(joined) == f'where?{answer}'
  if answer == ' Oslo':
    twice = own.encode('where?') + own.encode(answer)
    assert own.decode(twice) == 'where?  Oslo'


def test_tokenizers_that_add_no_space_encode_a_continuation_like_a_text(
  tmp_path,
):
  raw = chat_model.save_tokenizer(tmp_path)
  own = tokenizer.HuggingFace(raw.to_str(), bos=0, eos=1, vocab_size=400)
  for text in ('cat', ' cat', '\n\ncat', ''):
    assert own.encode_continuation(text) == own.encode(text)

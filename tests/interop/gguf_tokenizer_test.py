"""Tokenizers from GGUF metadata: equal to those they were made of."""

import json
import pathlib
import re

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from sleep_jax import errors
from sleep_jax.interop import gguf_tokenizer
from tests import gguf_files

PATH = pathlib.Path('model.gguf')
# As in the tokenizer.json of these models.
LLAMA3 = (
  r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
  r' ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
)
QWEN2 = LLAMA3.replace(r'\p{N}{1,3}', r'\p{N}')
TEXTS = [
  "It's 1234 o'clock; we'LL see 56 cats.", 'a  b   c\n\n\td \r\n e', '',
  ' lead and trail ', 'Größe naïve cafe\u0301 \u1e9b\u0323', '東京は 2024年',
  '\U0001f600\u200d\U0001f4bb!', 'x=[1,2,3];//code\n    return  0',
  '<|end|> <|tool|> is text', '\u00b2\u0663\u2167 \u00a0nbsp', "don't DON'T 'S",
]  # fmt: skip
CORPUS = TEXTS * 3 + [
  'the day the night the cats return the value 1234 5678 we will see it is',
  'naïve café größe return return 東京 東京 x=[1,2] cats cats   see',
]


def _strings(count=200):
  """Returns texts of characters that splits treat differently."""
  random = np.random.default_rng(0)
  letters = list(
    "abtheTHE'sS 0123  \n\r\t.,;!()[]éß東京\u0301\u00a0²\U0001f600▁"
  )
  return TEXTS + [
    ''.join(random.choice(letters, size))
    for size in random.integers(1, 30, count)
  ]  # fmt: skip


def _byte_level(pre):
  """Returns a trained tokenizer as the models of a kind have it."""
  made = tokenizers.Tokenizer(models.BPE(ignore_merges=pre == 'llama-bpe'))
  plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
  split = lambda pattern: pre_tokenizers.Sequence([
    pre_tokenizers.Split(tokenizers.Regex(pattern), 'isolated'), plain,
  ])  # fmt: skip
  words = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.pre_tokenizer = {
    'gpt-2': words,
    'smollm': pre_tokenizers.Sequence(
      [pre_tokenizers.Digits(individual_digits=True), words]
    ),
    'llama-bpe': split(LLAMA3),
    'qwen2': split(QWEN2),
  }[pre]
  if pre == 'qwen2':
    made.normalizer = normalizers.NFC()
  made.decoder = decoders.ByteLevel()
  made.train_from_iterator(
    CORPUS,
    trainers.BpeTrainer(
      vocab_size=450, show_progress=False,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ),
  )  # fmt: skip
  made.add_tokens([tokenizers.AddedToken('<|tool|>', normalized=False)])
  made.add_special_tokens(['<|end|>'])
  return made


def _build(words):
  metadata = {f'tokenizer.ggml.{key}': value for key, value in words.items()}
  vocabulary = gguf_tokenizer.read_vocabulary(metadata, PATH)
  return gguf_tokenizer.build(metadata, vocabulary, PATH), vocabulary


@pytest.mark.parametrize('pre', ['gpt-2', 'smollm', 'llama-bpe', 'qwen2'])
def test_byte_level_tokens_are_those_of_the_original(pre):
  original = _byte_level(pre)
  assert original.get_vocab_size() > 280
  words = gguf_files.words_of(original.to_str(), pre=pre, add_bos_token=False)
  made, vocabulary = _build(words)
  for special in (False, True):
    original.encode_special_tokens = made.encode_special_tokens = special
    for text in _strings():
      ids = original.encode(text).ids
      assert made.encode(text).ids == ids, repr(text)
      assert made.decode(ids) == original.decode(ids)
      assert made.encode(text).offsets == original.encode(text).offsets
  assert vocabulary.eos == made.token_to_id('<|end|>')
  assert vocabulary.ends == [vocabulary.eos] and vocabulary.bos is None


def test_the_splits_differ():
  """So that the test above can tell them apart."""
  found = {
    tuple(
      piece for text in TEXTS
      for piece, _ in gguf_tokenizer.splits(pre)[1].pre_tokenize_str(text)
    )
    for pre in ('gpt-2', 'smollm', 'llama-bpe', 'qwen2')
  }  # fmt: skip
  assert len(found) == 4


def _sentence_piece_words(seed=0):
  """Returns metadata of a random SentencePiece vocabulary."""
  random = np.random.default_rng(seed)
  pieces = list('abc▁')
  while len(pieces) < 40:
    left, right = random.choice(pieces, 2)
    if left + right not in pieces and len(left + right) < 7:
      pieces.append(str(left + right))
  tokens = ['<unk>', '<s>', '</s>', '<tool>', '  ']
  types = [2, 3, 3, 4, 4]
  tokens += [f'<0x{number:02X}>' for number in range(256)]
  types += [6] * 256
  order = random.permutation(len(pieces))
  scores = [0.0] * len(tokens) + [-float(rank) for rank in order]
  return dict(
    model='llama', tokens=tokens + pieces, scores=scores,
    token_type=types + [1] * len(pieces), bos_token_id=1, eos_token_id=2,
    unknown_token_id=0, add_space_prefix=False,
  )  # fmt: skip


def _sentence_piece(text, words):
  """Joins the leftmost neighbours whose piece has the highest score."""
  score = {
    t: s
    for t, s, kind in zip(
      words['tokens'], words['scores'], words['token_type'], strict=True
    )
    if kind == 1
  }
  found = list(text.replace(' ', '▁'))
  while True:
    joined = [
      (-score[a + b], at)
      for at, (a, b) in enumerate(zip(found, found[1:], strict=False))
      if a + b in score
    ]
    if not joined:
      break
    at = min(joined)[1]
    found[at : at + 2] = [''.join(found[at : at + 2])]
  ids = {token: number for number, token in enumerate(words['tokens'])}
  return [
    number
    for piece in found
    for number in (
      [ids[piece]]
      if piece in ids
      else [ids[f'<0x{byte:02X}>'] for byte in piece.encode()]
    )
  ]


def test_pieces_are_joined_by_their_scores():
  random = np.random.default_rng(1)
  for seed in range(5):
    words = _sentence_piece_words(seed)
    made, _ = _build(words)
    for size in range(1, 60):
      text = ''.join(random.choice(list('abcabcabc é'), size))
      text = re.sub(' +', ' ', text)
      ids = made.encode(text, add_special_tokens=False).ids
      assert ids == _sentence_piece(text, words), (seed, text)
      assert made.decode(ids) == text


def test_user_tokens_are_found_and_control_tokens_are_special():
  words = _sentence_piece_words()
  made, vocabulary = _build(words)
  tokens = made.encode('a<tool>  b</s>', add_special_tokens=False).tokens
  assert tokens == ['a', '<tool>', '  ', 'b', '</s>']
  assert made.decode([3, 2, 1, 4]) == '<tool>  '
  made.encode_special_tokens = True
  assert '</s>' not in made.encode('</s>', add_special_tokens=False).tokens
  assert (vocabulary.bos, vocabulary.eos, vocabulary.ends) == (1, 2, [2])


@pytest.mark.parametrize(
  'bos, eos, tokens',
  [(None, False, ['<s>', 'a']), (False, False, ['a']),
   (True, True, ['<s>', 'a', '</s>'])],
)  # fmt: skip
def test_bos_and_eos_are_added_as_the_file_says(bos, eos, tokens):
  words = _sentence_piece_words() | dict(add_eos_token=eos)
  made, _ = _build(words | ({} if bos is None else {'add_bos_token': bos}))
  assert made.encode('a').tokens == tokens


def test_a_space_before_the_text_is_added_and_removed():
  made, _ = _build(_sentence_piece_words() | dict(add_space_prefix=True))
  spaced, _ = _build(_sentence_piece_words())
  ids = made.encode('a b', add_special_tokens=False).ids
  assert ids == spaced.encode(' a b', add_special_tokens=False).ids
  assert made.decode(ids) == 'a b'


def test_other_tokens_that_end_a_text_are_found():
  tokens = ['a', 'b', 'ab', '<|end|>', '<|im_end|>', '<|eot_id|>', '<z>']
  words = gguf_files.WORDS | dict(
    tokens=tokens, token_type=[1, 1, 1, 3, 3, 1, 3], eot_token_id=6
  )
  # Their names count, whatever type the file gives them.
  assert _build(words)[1].ends == [3, 6, 4, 5]


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(model='bert'), "model is 'bert'"),
    (dict(pre='tekken'), "pre is 'tekken'"),
    (dict(pre=3), 'pre is 3'),
    (dict(tokens=['a', 'b', 'a', 'c']), "found 'a' twice"),
    (dict(tokens=[1, 2, 3, 4]), 'tokens is a list of 4 items'),
    (dict(tokens=[]), 'tokens is a list of 0 items'),
    (dict(merges=['a x']), "found 'a x'"),
    (dict(merges=['ab']), "found 'ab '"),
    (dict(merges=None), 'merges is None'),
    (dict(token_type=[1]), 'token_type has 1 items'),
    (dict(eos_token_id=None), 'eos_token_id is None'),
    (dict(eos_token_id=4), 'eos_token_id is 4'),
    (dict(bos_token_id=-1), 'bos_token_id is -1'),
    (dict(add_bos_token='no'), 'add_bos_token'),
    (dict(add_bos_token=True), 'bos_token_id'),
  ],
)
def test_a_damaged_tokenizer_is_named(changes, message):
  words = gguf_files.WORDS | changes
  with pytest.raises(errors.ModelFileError, match=message) as caught:
    _build({k: v for k, v in words.items() if v is not None})
  assert 'model.gguf: tokenizer.ggml.' in str(caught.value)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(scores=[0.5]), 'scores has 1 items'),
    (dict(unknown_token_id=10**6), 'unknown_token_id'),
    (dict(remove_extra_whitespaces=True), 'remove_extra_whitespaces'),
  ],
)
def test_a_damaged_sentence_piece_vocabulary_is_named(changes, message):
  with pytest.raises(errors.ModelFileError, match=message):
    _build(_sentence_piece_words() | changes)


def test_an_unnamed_pre_tokenizer_is_a_warning():
  words = {k: v for k, v in gguf_files.WORDS.items() if k != 'pre'}
  with pytest.warns(errors.ModelFileWarning, match='split as by GPT-2'):
    _build(words)


def test_the_file_can_be_saved_and_read():
  made, _ = _build(_sentence_piece_words())
  text = json.dumps(json.loads(made.to_str()))
  again = tokenizers.Tokenizer.from_str(text)
  assert again.encode('abc  cab').ids == made.encode('abc  cab').ids

"""Tokenizers of checkpoints: every id must be a row of the embedding."""

import json

import pytest
import tokenizers

from sleep_jax import errors
from sleep_jax.interop import hf_checkpoint, hf_tokenizer
from tests import hf_files

VOCAB = 300


@pytest.fixture
def home(tmp_path):
  end = hf_files.save_tokenizer(tmp_path, ['Ada sings in Rome.'])
  hf_files.save(tmp_path, 'llama', vocab_size=VOCAB, eos_token_id=end)
  return tmp_path


def _load(home):
  base_model = hf_checkpoint.read(str(home))
  tokenizer = hf_tokenizer.load(base_model)
  return tokenizer, hf_tokenizer.end_tokens(base_model, tokenizer)


def _change(path, **fields):
  found = json.loads(path.read_text()) if path.exists() else {}
  path.write_text(json.dumps(found | fields))


def _add_tokens(home, num, *, special):
  path = home / 'tokenizer.json'
  parsed = tokenizers.Tokenizer.from_file(str(path))
  parsed.add_tokens(
    [
      tokenizers.AddedToken(f'<new{n}>', special=special)
      for n in range(num)
    ]
  )  # fmt: skip
  parsed.save(str(path))
  return parsed


def test_tokens_beyond_the_embedding_are_refused(home):
  parsed = _add_tokens(home, VOCAB, special=False)
  last = parsed.get_vocab_size() - 1
  with pytest.raises(
    errors.ModelFileError,
    match=rf"has {VOCAB} rows: token '<new{VOCAB - 1}>' has id {last}",
  ):
    _load(home)


def test_special_tokens_beyond_the_embedding_are_named_and_read_as_text(home):
  """Gemma 3 of 1B has one, which its chat does not use."""
  parsed = _add_tokens(home, VOCAB, special=True)
  text = f'<new{VOCAB - 1}>'
  assert parsed.token_to_id(text) >= VOCAB
  with pytest.warns(errors.ModelFileWarning, match='and 268 more') as found:
    tokenizer, _ = _load(home)
  assert len(found) == 1
  ids = tokenizer.encode(f'a {text}')
  assert max(ids) < VOCAB and tokenizer.decode(ids) == f'a {text}'


@pytest.mark.parametrize(
  'token', [VOCAB, -1, 2**40, 1.5, '2', True, [3, VOCAB]]
)
@pytest.mark.parametrize(
  'file, field',
  [
    ('config.json', 'eos_token_id'),
    ('config.json', 'bos_token_id'),
    ('generation_config.json', 'eos_token_id'),
    ('generation_config.json', 'pad_token_id'),
    ('tokenizer_config.json', 'bos_token_id'),
  ],
)
def test_an_id_that_is_no_token_is_refused(home, file, field, token):
  _change(home / file, **{field: token})
  with pytest.raises(errors.ModelFileError, match=f'{file}: {field} is'):
    _load(home)


@pytest.mark.parametrize(
  'file', ['generation_config.json', 'tokenizer_config.json', 'tokenizer.json']
)
@pytest.mark.parametrize('content', [b'{', b'[]', b'\xff\xfe', b'{"a": NaN}'])
def test_a_damaged_file_is_named(home, file, content):
  (home / file).write_bytes(content)
  with pytest.raises(errors.ModelFileError, match=file):
    _load(home)


def test_a_tokenizer_on_which_the_library_panics_is_named(home):
  """The exception of a panic is no `Exception`."""
  path = home / 'tokenizer.json'
  found = json.loads(path.read_text())
  found['model']['continuing_subword_prefix'] = '\ud7ff'
  path.write_text(json.dumps(found))
  with pytest.raises(errors.ModelFileError, match='not a valid tokenizer'):
    _load(home)


@pytest.mark.parametrize('token', ['<none>', 7, {}, {'content': 7}])
def test_an_end_token_that_the_tokenizer_lacks_is_refused(home, token):
  _change(home / 'config.json', eos_token_id=None)
  _change(home / 'tokenizer_config.json', eos_token=token)
  with pytest.raises(
    errors.ModelFileError, match='tokenizer_config.json: eos_token is'
  ):
    _load(home)


def test_all_end_tokens_of_the_generation_config_end_a_text(home):
  _change(home / 'generation_config.json', eos_token_id=[5, 7])
  tokenizer, ends = _load(home)
  assert set(ends) == {5, 7, tokenizer.eos}


@pytest.mark.parametrize(
  'other, message',
  [
    (None, 'Download it'),
    ('tokenizer.model', 'tokenizer.model is not read.*AutoTokenizer'),
    ('vocab.json', 'vocab.json is not read.*AutoTokenizer'),
  ],
)
def test_a_missing_tokenizer_says_what_to_do(home, other, message):
  (home / 'tokenizer.json').unlink()
  if other:
    (home / other).write_bytes(b'x')
  with pytest.raises(errors.MissingFileError, match=message):
    _load(home)

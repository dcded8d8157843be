"""Who is born of a checkpoint lives on as anybody else."""

import functools
import json
import shutil

import numpy as np
import pytest

from configs import jsonl
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_checkpoint, open_model
from sleep_jax.runs import hf_start, study
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

DAYS = [['Ada sings in Rome.', 'Bo paints.'], ['Cy sails to Lima.', 'Di runs.']]
WORDS = 300


@pytest.fixture
def home(tmp_path):
  return _home(tmp_path)


def _home(folder):
  """A checkpoint with a tokenizer, and a folder of days."""
  base_model, days = folder / 'base_model', folder / 'days'
  days.mkdir()
  base_model.mkdir()
  end = hf_files.save_tokenizer(base_model, sum(DAYS, []))
  hf_files.save(base_model, 'qwen3', vocab_size=WORDS, eos_token_id=end)
  for number, texts in enumerate(DAYS):
    rows = ''.join(json.dumps({'text': text}) + '\n' for text in texts)
    (days / f'day{number}.jsonl').write_text(rows)
  return folder


def _config(home, **pretrain):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.path = str(home / 'days')
  c.data.update(context=24, max_prompt=12)
  # A core in half precision has all that one in f32 has, and casts.
  base_model = {'base_model': str(home / 'base_model'), 'dtype': 'bfloat16'}
  c.pretrain.update(base_model | pretrain)
  return c


@functools.cache
def _whole(folder):
  """A life of two days, and its home; change nothing in it."""
  folder.mkdir()
  home = _home(folder)
  (run,) = study.Study(_config(home), str(home / 'run')).run()
  return home, run


@pytest.fixture
def whole(tmp_path_factory, one_device):
  return _whole(tmp_path_factory.getbasetemp() / 'base_model')


def test_a_host_lives_through_days_and_nights(whole):
  home, run = whole
  assert len(run['nights']) == len(DAYS)
  assert all(np.isfinite(n['divergence'][-1]['loss']) for n in run['nights'])
  # And goes on where it was, from the directory as it is.
  (again,) = study.Study(_config(home), str(home / 'run')).run()
  assert tiny_study.without_times(again['nights']) == tiny_study.without_times(run['nights'])


def test_the_words_of_a_host_are_its_own_and_cannot_be_forged(home):
  base_model = hf_checkpoint.read(str(home / 'base_model'))
  tokenizer = hf_checkpoint.load_tokenizer(base_model)
  assert tokenizer.eos == tokenizer.bos and tokenizer.vocab_size == WORDS
  for text in ('Ada sings.', 'na\u00efve \u96ea\n\tx', 'no <|end|> here'):
    ids = tokenizer.encode(text)
    assert tokenizer.eos not in ids and tokenizer.decode(ids) == text
    offsets_ids, spans = tokenizer.encode_offsets(text)
    assert offsets_ids == ids and len(spans) == len(ids)
  tokenizer.save(str(home / 'saved'))
  again = tokenizer_lib.load(str(home / 'saved'))
  assert again.encode('Ada <|end|>') == tokenizer.encode('Ada <|end|>')
  assert (again.bos, again.eos) == (tokenizer.bos, tokenizer.eos)
  assert again.fingerprint == tokenizer.fingerprint


def _without_end(base_model):
  config = json.loads((base_model / 'config.json').read_text())
  del config['eos_token_id']
  (base_model / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize(
  'spoil, said',
  [
    (
      lambda base_model: (base_model / 'tokenizer.json').unlink(),
      'only fast tokenizers',
    ),
    (
      lambda base_model: (base_model / 'tokenizer.json').write_text('{}'),
      'is not a valid tokenizer',
    ),
    (
      lambda base_model: hf_files.save(base_model, 'qwen3', vocab_size=99),
      'tokens, but the embedding of .* has 99 rows',
    ),
    (_without_end, 'defines an EOS'),
  ],
)
def test_words_that_cannot_be_read_are_said(home, spoil, said):
  spoil(home / 'base_model')
  with pytest.raises((ValueError, OSError), match=said):
    study.Study(_config(home), str(home / 'run')).run()


def test_two_newborns_are_one_too_many(home):
  with pytest.raises(ValueError, match='name two initial models'):
    study.Study(_config(home, restore='there'), str(home / 'run'))


def test_the_end_may_stand_beside_the_tokenizer(home):
  end = hf_checkpoint.load_tokenizer(
    hf_checkpoint.read(str(home / 'base_model'))
  ).eos
  _without_end(home / 'base_model')
  (home / 'base_model' / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': {'content': '<|end|>'}})
  )
  tokenizer = hf_checkpoint.load_tokenizer(
    hf_checkpoint.read(str(home / 'base_model'))
  )
  assert tokenizer.eos == end


def test_a_day_may_be_added_to_a_life_that_has_ended(home, whole):
  """And is lived as if it had been there from the start."""
  later = home / 'days' / 'day1.jsonl'
  kept = later.read_text()
  later.unlink()
  (first,) = study.Study(_config(home), str(home / 'other')).run()
  assert len(first['nights']) == 1
  later.write_text(kept)
  (both,) = study.Study(_config(home), str(home / 'other')).run()
  assert tiny_study.without_times(both['nights']) == tiny_study.without_times(whole[1]['nights'])


def test_an_adopted_newborn_lives_as_its_host_does(home, whole):
  """Nothing of the host's directory is needed any more."""
  hf_start.import_model(
    _config(home), str(home / 'born'), str(home / 'base_model')
  )
  shutil.rmtree(home / 'base_model')
  config = _config(home, base_model='', restore=str(home / 'born'))
  (found,) = study.Study(config, str(home / 'other')).run()
  assert tiny_study.without_times(found['nights']) == tiny_study.without_times(whole[1]['nights'])
  # And can be opened: as it was born, and as it has become.
  born = open_model.open_model(str(home / 'born'), strategy='pretrain')
  lived = open_model.open_model(str(home / 'other'))
  assert born.end_tokens == lived.end_tokens and born.base_model is not None
  assert not np.any(born.weights.active_NE) and np.any(lived.weights.active_NE)


def test_a_newborn_is_written_where_nothing_is(home):
  with pytest.raises(FileExistsError, match='not empty'):
    hf_start.import_model(
      _config(home), str(home / 'days'), str(home / 'base_model')
    )
  (home / 'base_model' / 'model.safetensors').unlink()
  with pytest.raises(FileNotFoundError, match='download the weights'):
    hf_start.import_model(
      _config(home), str(home / 'new'), str(home / 'base_model')
    )
  assert not (home / 'new').exists()

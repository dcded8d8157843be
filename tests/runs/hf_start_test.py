"""Runs that start from a Hugging Face checkpoint."""

import functools
import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from configs import jsonl
from sleep_jax import errors
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_checkpoint, hf_tokenizer, open_model
from sleep_jax.runs import hf_start, study
from tests import gguf_files, hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

DAYS = [['Ada sings in Rome.', 'Bo paints.'], ['Cy sails to Lima.', 'Di runs.']]
VOCAB = 300


@pytest.fixture
def home(tmp_path):
  return _write_files(tmp_path)


def _write_files(folder):
  """Writes a checkpoint with a tokenizer, and a folder of days."""
  base_model, days = folder / 'base_model', folder / 'days'
  days.mkdir()
  base_model.mkdir()
  end = hf_files.save_tokenizer(base_model, sum(DAYS, []))
  hf_files.save(base_model, 'qwen3', vocab_size=VOCAB, eos_token_id=end)
  for number, texts in enumerate(DAYS):
    rows = ''.join(json.dumps({'text': text}) + '\n' for text in texts)
    (days / f'day{number}.jsonl').write_text(rows)
  return folder


def _config(home, **pretrain):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.path = str(home / 'days')
  c.data.update(context=24, max_prompt=12)
  # bfloat16 runs the same code as float32, and the casts in addition.
  base_model = {'base_model': str(home / 'base_model'), 'dtype': 'bfloat16'}
  c.pretrain.update(base_model | pretrain)
  return c


@functools.cache
def _finished(folder):
  folder.mkdir()
  home = _write_files(folder)
  (run,) = study.Study(_config(home), str(home / 'run')).run()
  return home, run


@pytest.fixture
def finished(tmp_path_factory, one_device):
  """Returns the folder and the record of a run; tests must not change them."""
  return _finished(tmp_path_factory.getbasetemp() / 'hf_start')


def _nights(run):
  return tiny_study.without_times(run['nights'])


def test_a_checkpoint_learns_days_and_nights(finished):
  home, run = finished
  assert len(run['nights']) == len(DAYS)
  assert all(np.isfinite(n['divergence'][-1]['loss']) for n in run['nights'])
  # The same command continues from the work directory.
  (again,) = study.Study(_config(home), str(home / 'run')).run()
  assert _nights(again) == _nights(run)


def test_a_gguf_file_is_the_same_start(finished, tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  home, run = finished
  folder = home / 'base_model'
  config = json.loads((folder / 'config.json').read_text())
  tokenizer = (folder / 'tokenizer.json').read_text()
  path = gguf_files.save(
    tmp_path / 'model.gguf', config,
    safetensors.load_file(folder / 'model.safetensors'),
    words=gguf_files.words_of(tokenizer, pre='gpt-2'),
  )  # fmt: skip
  c = _config(home, base_model=str(path))
  (found,) = study.Study(c, str(tmp_path / 'run')).run()
  assert _nights(found) == _nights(run)
  shutil.rmtree(tmp_path / 'cache')  # It is made again.
  opened = open_model.open_model(str(tmp_path / 'run'), strategy='sleep')
  assert opened.num_nights == len(DAYS)


def test_a_tokenizer_is_restored_and_encodes_special_tokens_as_text(home):
  base_model = hf_checkpoint.read(str(home / 'base_model'))
  tokenizer = hf_tokenizer.load(base_model)
  assert tokenizer.eos == tokenizer.bos and tokenizer.vocab_size == VOCAB
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


def _remove_eos(base_model):
  config = json.loads((base_model / 'config.json').read_text())
  del config['eos_token_id']
  (base_model / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize(
  'damage, message',
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
    (_remove_eos, 'defines an EOS'),
  ],
)
def test_an_unusable_tokenizer_is_refused(home, damage, message):
  damage(home / 'base_model')
  with pytest.raises((ValueError, OSError), match=message):
    study.Study(_config(home), str(home / 'run')).run()


def test_two_initial_models_are_refused(home):
  with pytest.raises(ValueError, match='name two initial models'):
    study.Study(_config(home, restore='there'), str(home / 'run'))


def test_the_eos_token_may_be_in_the_tokenizer_config(home):
  end = hf_tokenizer.load(hf_checkpoint.read(str(home / 'base_model'))).eos
  _remove_eos(home / 'base_model')
  (home / 'base_model' / 'tokenizer_config.json').write_text(
    json.dumps({'eos_token': {'content': '<|end|>'}})
  )
  tokenizer = hf_tokenizer.load(hf_checkpoint.read(str(home / 'base_model')))
  assert tokenizer.eos == end


def test_a_day_added_to_a_finished_run_gives_the_same_run(home, finished):
  later = home / 'days' / 'day1.jsonl'
  text = later.read_text()
  later.unlink()
  (first,) = study.Study(_config(home), str(home / 'other')).run()
  assert len(first['nights']) == 1
  later.write_text(text)
  (both,) = study.Study(_config(home), str(home / 'other')).run()
  assert _nights(both) == _nights(finished[1])


def test_a_run_from_an_imported_model_does_not_need_the_checkpoint(
  home, finished
):
  """It equals a run from the checkpoint, and can be opened."""
  hf_start.import_model(
    _config(home), str(home / 'imported'), str(home / 'base_model')
  )
  shutil.rmtree(home / 'base_model')
  config = _config(home, base_model='', restore=str(home / 'imported'))
  (run,) = study.Study(config, str(home / 'other')).run()
  assert _nights(run) == _nights(finished[1])
  initial = open_model.open_model(str(home / 'imported'), strategy='pretrain')
  final = open_model.open_model(str(home / 'other'))
  assert initial.end_tokens == final.end_tokens
  assert initial.base_model is not None
  assert not np.any(initial.weights.active_NE)
  assert np.any(final.weights.active_NE)


def test_an_imported_model_keeps_a_head_that_its_config_ties(home):
  """The weights decide; later starts see the config alone."""
  path = home / 'base_model' / 'model.safetensors'
  tensors = safetensors.load_file(path)
  head = tensors['model.embed_tokens.weight'][::-1].copy()
  safetensors.save_file(tensors | {'lm_head.weight': head}, path)
  config = _config(home)
  with pytest.warns(errors.ModelFileWarning, match='the head is kept'):
    hf_start.import_model(
      config, str(home / 'imported'), str(home / 'base_model')
    )
  shutil.rmtree(home / 'base_model')
  loaded = open_model.open_model(str(home / 'imported'), strategy='pretrain')
  assert not loaded.model.config.tied
  np.testing.assert_array_equal(
    np.asarray(loaded.weights.params['head'], 'f4'),
    head.T.astype(ml_dtypes.bfloat16).astype('f4'),
  )


def test_an_import_that_fails_writes_nothing(home):
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

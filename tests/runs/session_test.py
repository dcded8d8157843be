"""Sources and folders that a session refuses, and rows that are no day."""

import json

import pytest

from sleep_jax import errors
from sleep_jax.runs import session
from tests import bucket as bucket_lib
from tests import hf_files

bucket = bucket_lib.bucket


@pytest.fixture
def base_model(tmp_path):
  """Returns the folder of a tiny checkpoint with its tokenizer."""
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  return folder


def test_a_folder_in_a_bucket_is_refused(bucket, base_model):
  with pytest.raises(ValueError, match='gs://mine/chat is in a bucket'):
    session.Session(str(base_model), 'gs://mine/chat')


def test_a_source_that_is_neither_a_model_nor_a_run_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'notes.txt').write_text('')
  for name, found in (
    ('nowhere', 'it does not exist'),
    ('file', 'it is a file'),
    ('folder', 'it contains notes.txt'),
  ):
    message = f'{name} is neither a model nor a run: {found}'
    with pytest.raises(FileNotFoundError, match=message) as refused:
      session.Session(str(tmp_path / name))
    assert str(refused.value).endswith('fetched: smollm2, gemma3-270m.')


@pytest.mark.parametrize('name', ['smolm2', 'gemma3', 'gema3-270m'])
def test_the_nearest_known_model_is_named(name, monkeypatch, tmp_path):
  monkeypatch.chdir(tmp_path)
  meant = 'smollm2' if name == 'smolm2' else 'gemma3-270m'
  with pytest.raises(FileNotFoundError, match=f'that was fetched: {meant}.$'):
    session.Session(name)


def test_a_folder_of_version_0_1_is_refused(base_model, tmp_path):
  (tmp_path / 'work' / 'life').mkdir(parents=True)
  with pytest.raises(ValueError, match='by version 0.1 .*days are in .*/days'):
    session.Session(str(base_model), str(tmp_path / 'work'))


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    ([], 'There are no rows'),
    (['a cat', 3], r'rows\[1\] is 3: expected a text, or a dict'),
    ([{'txt': 'a cat'}], r"day_0001.jsonl:1: .*\['txt'\]"),
    ([{'text': b'a cat'}], r'rows\[0\] cannot be written as JSON .*bytes'),
    (
      [{'messages': [{'role': 'bot', 'content': 'a'}]}],
      r"day_0001.jsonl:1: messages\[0\].role is 'bot'",
    ),
  ],
)
def test_rows_that_cannot_be_learned_leave_no_day(
  base_model, tmp_path, rows, message
):
  opened = session.Session(
    str(base_model), str(tmp_path / 'work'), verbose=False
  )
  with pytest.raises(ValueError, match=message):
    opened.add_day(rows)
  assert opened.days == [] and not opened.needs_night()


def test_a_session_without_days_cannot_be_saved(base_model, tmp_path):
  opened = session.Session(str(base_model), verbose=False)
  with pytest.raises(ValueError, match='Nothing has been learned yet'):
    opened.save(str(tmp_path / 'copy'))
  assert not (tmp_path / 'copy').exists()


def test_a_saved_session_has_its_days_and_is_never_overwritten(
  base_model, tmp_path
):
  opened = session.Session(str(base_model), verbose=False)
  opened.day_files.add('day_0001', [json.dumps({'text': 'a cat sat'})])
  copy = tmp_path / 'copy'
  opened.save(str(copy))
  kept = (copy / session.DAYS / 'day_0001.jsonl').read_text()
  assert json.loads(kept) == {'text': 'a cat sat'}
  assert (copy / 'days.json').exists() and not (copy / '.lock').exists()
  with pytest.raises(FileExistsError, match='copy is not empty'):
    opened.save(str(copy))


def test_a_config_may_be_named(base_model, tmp_path):
  opened = session.Session(
    str(base_model), str(tmp_path / 'work'), config='pretrained', verbose=False
  )
  assert opened._config.name == 'pretrained'
  assert opened._config.consolidate.start == 'sender'
  with pytest.raises(errors.SleepJaxError, match='pretraind'):
    session.Session(str(base_model), config='pretraind')

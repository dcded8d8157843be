"""A session and a chat belong to one process at a time."""

import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from sleep_jax import errors
from sleep_jax.runs import session
from sleep_jax.storage import lock
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
ROOT = pathlib.Path(__file__).parents[2]
TEMPLATE = '{% for m in messages %}{{ m.content }}<|end|>{% endfor %}'


@pytest.fixture
def base_model(tmp_path):
  """Returns the folder of a tiny checkpoint with its tokenizer."""
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  (folder / 'tokenizer_config.json').write_text(
    json.dumps({'chat_template': TEMPLATE})
  )
  return folder


def test_a_second_learner_cannot_change_the_folder_meanwhile(
  base_model, tmp_path
):
  folder = tmp_path / 'work'
  opened = session.Session(str(base_model), str(folder), verbose=False)
  with opened.hold():  # A chat holds it, and the same session goes on.
    opened.add_day(['a cat'])
    with pytest.raises(errors.InUseError, match='in use by process'):
      session.Session(str(base_model), str(folder)).add_day(['a dog'])
  modes = [stat.S_IMODE((folder / name).stat().st_mode) for name in ('', 'run')]
  assert modes == [0o700, 0o700]
  with lock.hold(folder):
    for change in (
      lambda: opened.add_day(['a dog']),
      opened.run,
      lambda: opened.forget(1, 0),
      lambda: opened.save(str(tmp_path / 'copy')),
    ):
      with pytest.raises(errors.InUseError, match='work is in use by process'):
        change()
  assert [path.name for path in opened.days] == ['day_0001.jsonl']


def test_a_folder_in_which_nothing_happened_is_not_left_behind(
  base_model, tmp_path
):
  opened = session.Session(str(base_model), str(tmp_path / 'work'))
  with opened.hold():
    pass
  assert not (tmp_path / 'work').exists()


def _chat(base_model, folder, text):
  variables = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  ran = subprocess.run(
    [sys.executable, '-m', 'sleep_jax.chat', f'--model={base_model}',
     f'--workdir={folder}', '--max_new=2'],
    cwd=ROOT, input=text, capture_output=True, env=os.environ | variables,
  )  # fmt: skip
  return ran.returncode, ran.stdout.decode(), ran.stderr.decode()


@pytest.mark.parametrize('given', ['', 'pretrained'])
def test_a_chat_only_names_the_config_that_it_was_given(given):
  """Without one, a folder keeps its own."""
  code = """
import runpy, sys
from sleep_jax import api
def load(model, workdir, config):
  sys.exit(f'config: {config.name if config else ""}')
api.load = load
runpy.run_module('sleep_jax.chat', run_name='__main__')
"""
  ran = subprocess.run(
    [sys.executable, '-c', code, '--model=a', '--workdir=b',
     *[f'--config={given}'] * bool(given)],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert ran.stderr.splitlines()[-1] == f'config: {given}', ran.stderr


def test_the_chat_goes_on_after_a_byte_that_is_no_text(base_model, tmp_path):
  folder = tmp_path / 'work'
  with lock.hold(folder):
    code, _, error = _chat(base_model, folder, b'a cat\n')
  assert code == 1 and 'Traceback' not in error
  assert f'in use by process {os.getpid()} ' in error
  code, out, error = _chat(base_model, folder, b'a \xff\na cat\n/sleep x\n')
  assert code == 0 and 'Traceback' not in error, error
  assert "not UTF-8 after 'a '" in error and 'is not a command' in out
  kept = json.loads((folder / 'today.json').read_text())['messages']
  assert [message['content'] for message in kept[::2]] == ['a cat']

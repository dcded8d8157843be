"""generate and convert, as a user calls them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tests import hf_files

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope='module')
def base_model(tmp_path_factory):
  """A tiny checkpoint with its tokenizer."""
  folder = tmp_path_factory.mktemp('base_model')
  end = hf_files.save_tokenizer(folder, ['a cat sat', 'a dog ran'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  return folder


def _call(name, *arguments):
  one = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  done = subprocess.run(
    [sys.executable, '-m', f'sleep_jax.{name}', *arguments], cwd=ROOT,
    capture_output=True, text=True, env=os.environ | one,
  )  # fmt: skip
  return done.returncode, done.stdout, done.stderr


def test_a_checkpoint_is_looked_at_written_again_and_goes_on(
  base_model, tmp_path
):
  code, out, _ = _call('convert', 'inspect', f'--model={base_model}')
  assert code == 0 and '3 blocks of width 16' in out
  assert 'dense export: exact' in out
  again = tmp_path / 'again'
  code, out, _ = _call(
    'convert', 'out', f'--model={base_model}', f'--to={again}'
  )
  assert code == 0 and (again / 'tokenizer.json').exists()
  config = json.loads((again / 'config.json').read_text())
  assert config['intermediate_size'] == hf_files.F
  said = []
  for folder in (base_model, again):
    code, out, _ = _call(
      'generate', f'--model={folder}', '--prompt=a cat', '--prompt=a dog ran',
      '--max_new=4',
    )  # fmt: skip
    assert code == 0
    said.append(out)
  assert said[0] == said[1]
  born = tmp_path / 'born'
  code, out, _ = _call(
    'convert', 'in', f'--model={base_model}', f'--to={born}',
  )  # fmt: skip
  assert code == 0 and 'pretrain.restore' in out
  code, out, _ = _call(
    'generate', f'--model={born}', '--strategy=pretrain', '--prompt=a cat',
    '--prompt=a dog ran', '--max_new=4',
  )  # fmt: skip
  assert code == 0 and out == said[0]
  assert [line[:5] for line in said[0].splitlines()][0] == 'a cat'


@pytest.mark.parametrize(
  'name, arguments, said',
  [
    ('generate', ['--model=nowhere', '--prompt=a'], 'config.json does not'),
    ('convert', ['out', '--model=nowhere'], 'out needs --to'),
    ('convert', ['--model=nowhere'], 'Say one of'),
  ],
)
def test_what_cannot_be_is_said_in_words(name, arguments, said):
  code, out, error = _call(name, *arguments)
  assert code != 0 and said in out + error
  assert 'Traceback' not in error


def test_who_leaves_when_asked_forgets_nothing():
  asked = 'chat._sure("Night 1 is gone then.")'
  done = subprocess.run(
    [sys.executable, '-c', f'from sleep_jax import chat; print({asked})'],
    cwd=ROOT, input='', capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0 and done.stdout.endswith('\nFalse\n')

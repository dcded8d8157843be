"""The commands generate, convert and chat in processes of their own."""

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
  """Returns the folder of a tiny checkpoint with its tokenizer."""
  folder = tmp_path_factory.mktemp('base_model')
  end = hf_files.save_tokenizer(folder, ['a cat sat', 'a dog ran'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  return folder


def _call(name, *arguments):
  one_device = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  ran = subprocess.run(
    [sys.executable, '-m', f'sleep_jax.{name}', *arguments], cwd=ROOT,
    capture_output=True, text=True, env=os.environ | one_device,
  )  # fmt: skip
  return ran.returncode, ran.stdout, ran.stderr


def test_an_exported_and_an_imported_checkpoint_generate_the_same_text(
  base_model, tmp_path
):
  code, out, _ = _call('convert', 'inspect', f'--model={base_model}')
  assert code == 0 and '3 blocks of width 16' in out
  assert 'dense export: exact' in out
  exported = tmp_path / 'exported'
  code, out, _ = _call(
    'convert', 'out', f'--model={base_model}', f'--to={exported}'
  )
  assert code == 0 and (exported / 'tokenizer.json').exists()
  config = json.loads((exported / 'config.json').read_text())
  assert config['intermediate_size'] == hf_files.F
  texts = []
  for folder in (base_model, exported):
    code, out, _ = _call(
      'generate', f'--model={folder}', '--prompt=a cat', '--prompt=a dog ran',
      '--max_new=4',
    )  # fmt: skip
    assert code == 0
    texts.append(out)
  assert texts[0] == texts[1]
  imported = tmp_path / 'imported'
  code, out, _ = _call(
    'convert', 'in', f'--model={base_model}', f'--to={imported}',
  )  # fmt: skip
  assert code == 0 and 'pretrain.restore' in out
  code, out, _ = _call(
    'generate', f'--model={imported}', '--strategy=pretrain', '--prompt=a cat',
    '--prompt=a dog ran', '--max_new=4',
  )  # fmt: skip
  assert code == 0 and out == texts[0]
  assert texts[0].startswith('a cat')


@pytest.mark.parametrize(
  'name, arguments, message',
  [
    ('generate', ['--model=nowhere', '--prompt=a'], 'it does not exist'),
    ('convert', ['out', '--model=nowhere'], 'out needs --to'),
    ('convert', ['--model=nowhere'], 'Expected one of in, out, inspect'),
    ('convert', ['inspect'], 'inspect needs --model'),
    (
      'convert',
      ['out', '--model=nowhere', '--to=x', '--experts', '--distil'],
      '--distil trains a dense model',
    ),
    ('convert', ['fetch'], 'fetch needs one of these names:\n  smollm2: '),
    ('runs.trace', ['--workdir=x'], 'Expected one text, found 0: quote it'),
  ],
)
def test_wrong_arguments_are_reported_without_a_traceback(
  name, arguments, message
):
  code, out, error = _call(name, *arguments)
  assert code == 1 and message in error and not out  # Not all of the help.
  assert error.startswith('error: ') and 'Traceback' not in error


def test_a_wrong_unit_is_refused_before_a_folder_is_made(tmp_path):
  code, _, error = _call(
    'compare', '--config=compare/facts', '--units=slep:0:0',
    f'--workdir={tmp_path / "new"}',
  )  # fmt: skip
  assert code == 1 and "--units: 'slep:0:0' is not a unit" in error
  assert not (tmp_path / 'new').exists()


def test_the_end_of_the_input_does_not_confirm_forgetting():
  code = 'from sleep_jax import chat; print(chat._confirm("It holds night 1."))'
  ran = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, input='', capture_output=True,
    text=True,
  )  # fmt: skip
  assert ran.returncode == 0 and ran.stdout.endswith('\nFalse\n')

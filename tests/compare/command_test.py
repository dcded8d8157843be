"""The command, as a user starts it: what it refuses before anything runs."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def _call(*arguments):
  ran = subprocess.run(
    [sys.executable, '-m', 'sleep_jax', 'compare', *arguments], cwd=ROOT,
    capture_output=True, text=True, timeout=240,
  )  # fmt: skip
  return ran.returncode, ran.stderr


@pytest.mark.parametrize(
  'config', ['compare/facts', 'configs/compare/facts.py']
)
def test_the_fast_config_has_one_seed(tmp_path, config):
  code, error = _call(
    f'--config={config}', '--fast', '--units=sleep:2:0',
    f'--workdir={tmp_path}',
  )  # fmt: skip
  assert code == 1 and error.startswith("error: --units: 'sleep:2:0' is not")
  assert 'such as sleep:0:0' in error


def test_a_config_that_does_not_exist_is_named_with_the_nearest():
  code, error = _call('--config=compare/fakts')
  assert code == 1 and 'the nearest is compare/facts' in error


def test_a_result_of_another_config_is_one_message(tmp_path):
  (tmp_path / 'results').mkdir()
  file = tmp_path / 'results' / 'sleep_0_0.json'
  file.write_text(
    '{"unit": 1, "key": "x", "sources": "y", "status": "finished", "runs": [], '
    '"config": {"name": "other"}}'
  )
  code, error = _call('--config=compare/facts', f'--workdir={tmp_path}')
  assert code == 1 and error.startswith(f'error: {file} is of another config')
  assert 'config.consolidate: None there' in error

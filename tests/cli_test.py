"""The console command and the lazy front door, as a user starts them."""

import pathlib
import subprocess
import sys
import time

import pytest

from sleep_jax import cli

ROOT = pathlib.Path(__file__).parents[1]


def _python(*arguments, cwd=ROOT):
  return subprocess.run(
    [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True,
    timeout=120,
  )  # fmt: skip


def test_importing_the_package_imports_no_jax_and_is_fast():
  code = (
    'import time; start = time.perf_counter(); import sleep_jax, sys; '
    'print("jax" in sys.modules, time.perf_counter() - start, '
    '"load" in dir(sleep_jax))'
  )
  jax_is_there, seconds, listed = _python('-c', code).stdout.split()
  assert (jax_is_there, listed) == ('False', 'True')
  assert float(seconds) < 0.3


def test_a_name_that_the_package_lacks_is_an_attribute_error():
  ran = _python('-c', 'import sleep_jax; sleep_jax.laod')
  assert "module 'sleep_jax' has no attribute 'laod'" in ran.stderr


def test_without_a_command_all_commands_are_listed():
  for arguments, code in ((), 2), (('--help',), 0):
    ran = _python('-m', 'sleep_jax', *arguments)
    assert ran.returncode == code
    for name in cli.COMMANDS:
      assert f'\n  {name}' in ran.stdout


def test_an_unknown_command_names_the_nearest():
  ran = _python('-m', 'sleep_jax', 'chta')
  assert ran.returncode == 2
  assert (
    'chta is not a command of sleep-jax. The nearest is chat.' in ran.stderr
  )


@pytest.mark.parametrize('name', sorted(cli.COMMANDS))
def test_help_of_a_command_shows_its_text_and_flags(name):
  ran = _python('-m', 'sleep_jax', name, '--help')
  module, _ = cli.COMMANDS[name]
  assert f'sleep-jax {name}' in ran.stdout
  assert f'sleep_jax/{module.replace(".", "/")}.py:' in ran.stdout
  if name not in ('generate', 'trace'):  # They need no config.
    assert '--config' in ran.stdout


def test_a_wrong_config_is_one_message_within_seconds(tmp_path):
  """Nothing heavy is imported before the flags are checked."""
  start = time.perf_counter()
  ran = _python(
    '-m', 'sleep_jax', 'run', '--config=smok', f'--workdir={tmp_path}'
  )
  assert time.perf_counter() - start < 20
  assert ran.returncode == 1
  assert ran.stderr.startswith('error: --config=smok: no config has this name')
  assert 'the nearest is smoke' in ran.stderr and 'facts' in ran.stderr

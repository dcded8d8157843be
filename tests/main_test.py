"""From the command line: what is wrong comes as one message and a code."""

import logging as standard_logging
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import orbax.checkpoint as ocp
import pytest
from absl import flags, logging

from sleep_jax import main
from sleep_jax.runs import command_line
from sleep_jax.storage import metric_writer
from tests import town

one_device = town.one_device
ROOT = pathlib.Path(__file__).parent.parent
CONFIG = """
from tests import town

def get_config():
  return town.config()
"""


def _error(text, said):
  """What was said is an error in words, and no traceback."""
  assert 'Traceback' not in text, text
  assert re.search(f'^error: .*{said}', text, re.MULTILINE | re.DOTALL), text


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """A config file like any person's."""
  path = tmp_path_factory.mktemp('configs') / 'mine.py'
  path.write_text(CONFIG)
  return path


@pytest.fixture
def call(config, one_device, monkeypatch, capfd):
  """Calls main with arguments: its exit code, and what it said."""
  monkeypatch.syspath_prepend(str(ROOT))
  verbosity = logging.get_verbosity()

  def called(*arguments, config=config):
    argv = ['main.py', f'--config={config}', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    capfd.readouterr()
    code = 0
    try:
      main.main(command_line.parse(argv))
    except SystemExit as end:
      code = end.code
    said = capfd.readouterr()
    return code, said.out + said.err

  yield called
  flags.FLAGS.unparse_flags()
  logging.set_verbosity(verbosity)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.NOTSET)


@pytest.fixture
def finished(tmp_path_factory, one_device):
  """The work directory of a finished run."""
  return town.finished(tmp_path_factory.getbasetemp(), 'sleep')


@pytest.mark.parametrize(
  ('override', 'said'),
  [
    ('consolidate.num_update=3', 'nearest .* config.consolidate.num_updates.'),
    ('wakes.steps=3', 'config.wakes is no key .* config.wake.'),
    ('levels[2].slots=3', r'config.levels has 2 entries, from \[0\].'),
    ('seeds.first=3', "config.seeds is .*: it has no key 'first'."),
  ],
)
def test_an_unknown_override_is_named_with_the_nearest_key(
  call, tmp_path, override, said
):
  code, text = call(f'--config.{override}', f'--workdir={tmp_path / "run"}')
  assert code == 1
  _error(text, said)
  assert not (tmp_path / 'run').exists()


def test_a_config_file_that_is_missing_is_named(call, config, tmp_path):
  other = config.with_name('yours.py')
  code, text = call(f'--workdir={tmp_path}', config=other)
  assert code == 1
  _error(text, 'yours.py: there is no such file.*mine.py')


def test_an_unknown_key_in_a_config_file_is_named(call, config, tmp_path):
  other = config.with_name('typo.py')
  other.write_text(CONFIG.replace(
    'return town.config()',
    "c = town.config()\n  c.consolidate.tempratur = 2.0\n  return c",
  ))  # fmt: skip
  code, text = call(f'--workdir={tmp_path}', config=other)
  assert code == 1
  _error(text, 'tempratur is no key.*temperature')


def test_a_folder_that_cannot_be_written_to_is_named(call, tmp_path):
  (tmp_path / 'file').write_text('')
  code, text = call(f'--workdir={tmp_path / "file" / "run"}')
  assert code == 1
  _error(text, 'file/run cannot be written to')


def test_a_folder_of_another_config_is_refused(call, finished):
  code, text = call(f'--workdir={finished}', '--config.wake.steps=5')
  assert code == 1
  _error(text, 'config.wake.steps: 4 there, 5 now')


def test_a_restored_cycle_that_never_was_is_refused(call, finished):
  code, text = call(f'--workdir={finished}', '--restore_cycle=9')
  assert code == 1
  _error(text, '--restore_cycle=9: no life')


def test_a_finished_run_shows_its_table_again(call, finished, tmp_path):
  folder = shutil.copytree(finished, tmp_path / 'run')
  code, text = call(f'--workdir={folder}')
  assert code == 0
  assert 'prior' in text and 'report.html' in text


@pytest.mark.filterwarnings('ignore')  # Orbax abandons its other readers.
def test_a_damaged_checkpoint_is_named_and_nothing_else_is_said(
  call, finished, tmp_path
):
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  cycle = folder / 'seed_0' / 'sleep' / 'checkpoints' / 'cycles' / 'cycle_2'
  for path in cycle.rglob('d/*'):
    path.write_bytes(path.read_bytes()[:10])
  code, text = call(f'--workdir={folder}')
  assert code == 1
  _error(text, 'cycle_2 cannot be read.*pass --restore_cycle=N')
  code, text = call(f'--workdir={folder}', '--restore_cycle=1')
  assert code == 0, text  # The way out that was named.


@pytest.mark.filterwarnings('ignore')  # Orbax abandons its other writers.
def test_a_full_disk_is_said_in_words_and_nothing_else(
  call, tmp_path, monkeypatch
):
  async def fill_up(*_, **__):
    raise ValueError('Error writing "w/0": No space left on device')

  monkeypatch.setattr(ocp.type_handlers.ArrayHandler, 'serialize', fill_up)
  code, text = call(f'--workdir={tmp_path}')
  assert code == 1
  _error(text, 'The disk is full.*run the same command')


def test_a_signal_saves_first_and_the_same_command_goes_on(
  call, config, tmp_path
):
  """Ctrl-C by day and SIGTERM by night, each to a process of its own."""
  variables = dict(os.environ, PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES='1')
  command = [
    sys.executable, '-m', 'sleep_jax.main', f'--config={config}',
    f'--workdir={tmp_path}',
  ]  # fmt: skip
  for number, code, moment in (
    (signal.SIGINT, 130, 'sleep: experience 1:'),
    (signal.SIGTERM, 143, 'sleep: night 1:'),
  ):
    job = subprocess.Popen(
      command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True
    )
    said = []
    for line in job.stderr:
      said.append(line)
      if line.startswith(moment):
        job.send_signal(number)
    text = ''.join(said)
    assert job.wait() == code, text
    assert 'stopping: saving a checkpoint first' in text
    assert 'the same command goes on' in text and 'Traceback' not in text
  code, text = call(f'--workdir={tmp_path}')
  assert code == 0
  assert 'night 1: 4 to do, from 2' in text  # It was in the middle.
  rows = metric_writer.read(tmp_path / 'seed_0' / 'sleep' / 'metrics.jsonl')
  assert [row['event'] for row in rows] == list(range(1, len(rows) + 1))
  kinds = [row['kind'] for row in rows]
  assert kinds.count('night') == 2 and kinds.count('evaluation') == 5


def test_who_is_not_saved_in_time_is_ended_whatever_it_does():
  """Also amid a call that python cannot interrupt, as a compiler's is."""
  text = """
import hashlib, os, signal
from sleep_jax.runtime import signals

with signals.listen([], 0.2):
  os.kill(os.getpid(), signal.SIGTERM)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""
  job = subprocess.run(
    [sys.executable, '-c', text], cwd=ROOT, capture_output=True, timeout=60,
    text=True,
  )  # fmt: skip
  assert job.returncode == 128 + signal.SIGTERM
  assert 'not saved within --grace=0.2 seconds' in job.stderr

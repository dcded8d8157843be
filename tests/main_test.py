"""The command `run`: its errors are one message and an exit code."""

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

from sleep_jax import errors, main
from sleep_jax.report import report
from sleep_jax.runs import command_line, study
from sleep_jax.storage import metric_writer
from tests import tiny_study

one_device = tiny_study.one_device
ROOT = pathlib.Path(__file__).parent.parent
CONFIG = """
from tests import tiny_study

def get_config():
  return tiny_study.config()
"""


def _assert_error(output, message):
  """Asserts that the output has an error message and no traceback."""
  assert 'Traceback' not in output, output
  pattern = f'^error: .*{message}'
  assert re.search(pattern, output, re.MULTILINE | re.DOTALL), output


@pytest.fixture(scope='module')
def config(tmp_path_factory):
  """Returns the path of a config file outside this package."""
  path = tmp_path_factory.mktemp('configs') / 'mine.py'
  path.write_text(CONFIG)
  return path


@pytest.fixture
def call(config, one_device, monkeypatch, capfd):
  """Returns a function that calls main and returns exit code and output."""
  monkeypatch.syspath_prepend(str(ROOT))
  verbosity = logging.get_verbosity()

  def call_main(*arguments, config=config):
    argv = ['main.py', f'--config={config}', *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', argv)
    capfd.readouterr()
    code = 0
    try:
      main.main(command_line.parser()(argv))
    except SystemExit as end:
      code = end.code
    printed = capfd.readouterr()
    return code, printed.out + printed.err

  yield call_main
  flags.FLAGS.unparse_flags()
  logging.set_verbosity(verbosity)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.NOTSET)


@pytest.fixture
def finished(tmp_path_factory, one_device):
  """Returns the work directory of a finished run."""
  return tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'sleep')


@pytest.mark.parametrize(
  ('override', 'message'),
  [
    ('consolidate.num_update=3', 'nearest .* config.consolidate.num_updates.'),
    ('wakes.steps=3', 'config.wakes is not a key of .* config.wake.'),
    (
      'levels[2].slots=3',
      r'config.levels has 2 entries, counted from 0. Allowed: \[0\] to \[1\].',
    ),
    ('seeds.first=3', "config.seeds is .*: it has no key 'first'."),
  ],
)
def test_an_unknown_override_is_named_with_the_nearest_key(
  call, tmp_path, override, message
):
  code, output = call(f'--config.{override}', f'--workdir={tmp_path / "run"}')
  assert code == 1
  _assert_error(output, message)
  assert not (tmp_path / 'run').exists()


def test_a_missing_config_file_is_named_with_its_neighbours(
  call, config, tmp_path
):
  other = config.with_name('yours.py')
  code, output = call(f'--workdir={tmp_path}', config=other)
  assert code == 1
  _assert_error(
    output, 'yours.py: this file does not exist.*contains: .*mine.py'
  )


def test_a_config_without_a_section_is_refused(call, config, tmp_path):
  other = config.with_name('part.py')
  other.write_text(
    'import ml_collections\ndef get_config():\n'
    "  return ml_collections.ConfigDict({'name': 'a'})\n"
  )
  code, output = call(f'--workdir={tmp_path}', config=other)
  assert code == 1
  _assert_error(
    output, 'config.anchor_kl is missing in .*start from configs/base'
  )


def test_an_unknown_key_in_a_config_file_is_named(call, config, tmp_path):
  other = config.with_name('typo.py')
  other.write_text(CONFIG.replace(
    'return tiny_study.config()',
    "c = tiny_study.config()\n  c.consolidate.tempratur = 2.0\n  return c",
  ))  # fmt: skip
  code, output = call(f'--workdir={tmp_path}', config=other)
  assert code == 1
  _assert_error(output, 'tempratur is not a key.*temperature')


def test_an_unwritable_work_directory_is_named(call, tmp_path):
  (tmp_path / 'file').write_text('')
  code, output = call(f'--workdir={tmp_path / "file" / "run"}')
  assert code == 1
  _assert_error(output, 'file/run is a file, or is in one')


def test_restoring_a_cycle_that_no_run_reached_is_refused(call, finished):
  code, output = call(f'--workdir={finished}', '--restore_cycle=9')
  assert code == 1
  _assert_error(output, '--restore_cycle=9: no run')


def test_days_that_come_later_do_not_go_back_to_the_restored_cycle(
  call, tmp_path, monkeypatch
):
  folder, seen = tmp_path / 'days', []
  folder.mkdir()
  for number in (1, 2):
    file = folder / f'day_{number}.jsonl'
    file.write_text('{"text": "a cat sat"}\n')
    os.utime(file, (1, 1))

  class Study:
    def __init__(self, *args, restore_cycle, days, **options):
      seen.append((len(days), restore_cycle))

    def run(self):
      return []

  monkeypatch.setattr(study, 'Study', Study)
  monkeypatch.setattr(report, 'table', lambda runs: '')
  code, output = call(
    f'--workdir={tmp_path / "run"}', f'--watch={folder}', '--watch_every=0',
    '--restore_cycle=1',
  )  # fmt: skip
  assert code == 0, output
  assert seen == [(1, 1), (2, None)]


def test_running_a_finished_run_again_prints_its_table(
  call, finished, tmp_path
):
  folder = shutil.copytree(finished, tmp_path / 'run')
  code, output = call(f'--workdir={folder}')
  assert code == 0
  assert re.search(r'^ *sleep +[01]\.', output, re.MULTILINE), output
  assert 'report.html' in output


@pytest.mark.filterwarnings('ignore')  # Orbax leaves other reads unfinished.
def test_a_damaged_checkpoint_is_named_and_an_earlier_cycle_can_be_restored(
  call, finished, tmp_path
):
  folder = tmp_path / 'run'
  shutil.copytree(finished, folder)
  cycle = folder / 'seed_0' / 'sleep' / 'checkpoints' / 'cycles' / 'cycle_2'
  for path in cycle.rglob('d/*'):
    path.write_bytes(path.read_bytes()[:10])
  code, output = call(f'--workdir={folder}')
  assert code == 1
  _assert_error(output, 'cycle_2 cannot be read.*pass --restore_cycle=N')
  code, output = call(f'--workdir={folder}', '--restore_cycle=1')
  assert code == 0, output


@pytest.mark.filterwarnings('ignore')  # Orbax leaves other writes unfinished.
def test_a_full_disk_is_reported_without_a_traceback(
  call, tmp_path, monkeypatch
):
  async def raise_no_space(*_, **__):
    raise ValueError('Error writing "w/0": No space left on device')

  monkeypatch.setattr(
    ocp.type_handlers.ArrayHandler, 'serialize', raise_no_space
  )
  code, output = call(f'--workdir={tmp_path}')
  assert code == 1
  _assert_error(output, 'The disk is full.*run the same command')


def test_a_signal_saves_a_checkpoint_and_the_same_command_continues(
  call, config, tmp_path
):
  """SIGINT during a day, SIGTERM during a night, each in its own process."""
  variables = dict(os.environ, PYTHONPATH=str(ROOT), JAX_NUM_CPU_DEVICES='1')
  command = [
    sys.executable, '-m', 'sleep_jax.main', f'--config={config}',
    f'--workdir={tmp_path}',
  ]  # fmt: skip
  for number, code, phase in (
    (signal.SIGINT, 130, 'sleep: experience 1 (day 1):'),
    (signal.SIGTERM, 143, 'sleep: day 1, night 1:'),
  ):
    job = subprocess.Popen(
      command, cwd=tmp_path, env=variables, stderr=subprocess.PIPE, text=True
    )
    lines = []
    for line in job.stderr:
      lines.append(line)
      if line.startswith(phase):
        job.send_signal(number)
    text = ''.join(lines)
    assert job.wait() == code, text
    assert 'stopping: saving a checkpoint first' in text
    assert 'the same command continues' in text and 'Traceback' not in text
  code, output = call(f'--workdir={tmp_path}')
  assert code == 0
  assert 'night 1: 4 to do, from 2' in output  # After one of two rounds.
  rows = metric_writer.read(tmp_path / 'seed_0' / 'sleep' / 'metrics.jsonl')
  assert [row['event'] for row in rows] == list(range(1, len(rows) + 1))
  kinds = [row['kind'] for row in rows]
  assert kinds.count('night') == 2 and kinds.count('evaluation') == 5


def test_a_process_that_does_not_save_within_its_grace_period_is_ended():
  """Also during a call that Python cannot interrupt, as compilation is."""
  code = """
import hashlib, os, signal
from sleep_jax.runtime import signals

with signals.listen([], 0.2):
  os.kill(os.getpid(), signal.SIGTERM)
  hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""
  job = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, timeout=60,
    text=True,
  )  # fmt: skip
  assert job.returncode == 128 + signal.SIGTERM
  assert 'not saved within --grace=0.2 seconds' in job.stderr


@pytest.mark.parametrize(
  ('error', 'message'),
  [
    (errors.DivergedError('the loss is nan in day_2'), 'the loss is nan'),
    (errors.ChangedDaysError('day_1.jsonl has other rows'), 'has other rows'),
    (RuntimeError('RESOURCE_EXHAUSTED: 9 bytes'), 'Lower .*_size.*: 9 bytes'),
    (MemoryError(), 'The memory of a device or of this machine is full'),
    (PermissionError(13, 'Permission denied', 'x'), "denied: 'x'"),
  ],
)
def test_an_error_of_a_run_is_one_message(
  call, tmp_path, monkeypatch, error, message
):
  def fail(self):
    raise error

  monkeypatch.setattr(study.Study, 'run', fail)
  code, output = call(f'--workdir={tmp_path / "run"}')
  assert code == 1
  _assert_error(output, message)
  assert len(output.strip().splitlines()) == 1

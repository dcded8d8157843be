"""A work directory belongs to one process, as long as that is alive."""

import errno
import fcntl
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from sleep_jax import errors
from sleep_jax.storage import lock

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import pathlib, sys, time
from sleep_jax.storage import lock

with lock.hold(pathlib.Path(sys.argv[1])):
  print('held', flush=True)
  time.sleep(60)
"""


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, '-c', HOLD, str(tmp_path)], cwd=ROOT,
    stdout=subprocess.PIPE, text=True,
  )  # fmt: skip
  try:
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(
      errors.InUseError, match=f'in use by process {holder.pid} '
    ):
      with lock.hold(tmp_path):
        pass
  finally:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
  with lock.hold(tmp_path):  # A dead process holds nothing.
    pass


def test_one_process_holds_a_folder_once(tmp_path):
  with lock.hold(tmp_path):
    with pytest.raises(errors.InUseError, match='is in use by process'):
      with lock.hold(tmp_path):
        pass
  with lock.hold(tmp_path):
    pass


def test_a_folder_that_was_deleted_keeps_the_lock_of_its_successor(tmp_path):
  folder = tmp_path / 'run'
  with lock.hold(folder):
    shutil.rmtree(folder)
    successor = lock.hold(folder)
    successor.__enter__()
  with pytest.raises(errors.InUseError, match='is in use by process'):
    with lock.hold(folder):
      pass
  successor.__exit__(None, None, None)
  with lock.hold(folder):
    shutil.rmtree(folder)  # Ends without an error.


def test_a_folder_that_cannot_be_locked_is_named(tmp_path, monkeypatch):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.StorageError, match='file/run cannot be locked'):
    with lock.hold(tmp_path / 'file' / 'run'):
      pass

  def refuse(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(fcntl, 'flock', refuse)
  with pytest.raises(errors.StorageError, match='No locks .* of this machine'):
    with lock.hold(tmp_path / 'run'):
      pass

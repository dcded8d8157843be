"""A work directory belongs to one config, and its files are whole."""

import errno
import pathlib

import pytest

from sleep_jax import workdir

CONFIG = {'seeds': [0], 'wake': {'steps': 3}, 'levels': [{'slots': 1}, {}]}


def _check(folder, config):
  workdir.check(folder, config, free=('seeds',))


def test_a_folder_is_made_and_its_own_config_may_come_back(tmp_path):
  folder = tmp_path / 'runs' / 'x'
  _check(folder, CONFIG)
  assert workdir.read_config(folder) is None  # Checking claims nothing.
  workdir.write_whole(folder / 'config.json', CONFIG)
  _check(folder, CONFIG)
  _check(folder, CONFIG | {'seeds': [0, 1]})


def test_another_config_is_told_where_it_differs(tmp_path):
  workdir.write_whole(tmp_path / 'config.json', CONFIG)
  other = CONFIG | {'wake': {'steps': 4}, 'levels': [{'slots': 2}, {}]}
  with pytest.raises(ValueError) as caught:
    _check(tmp_path, other)
  said = str(caught.value)
  assert 'belongs to another config' in said
  assert 'config.wake.steps: 3 there, 4 now' in said
  assert 'config.levels[0].slots: 1 there, 2 now' in said
  assert 'seeds' not in said


def test_of_many_differences_a_few_are_shown(tmp_path):
  workdir.write_whole(tmp_path / 'config.json', {})
  with pytest.raises(ValueError, match='and 3 more'):
    _check(tmp_path, {f'key_{n}': n for n in range(8)})


def test_a_damaged_config_is_named(tmp_path):
  (tmp_path / 'config.json').write_text('{"seeds": ')
  with pytest.raises(ValueError, match='config.json is damaged'):
    _check(tmp_path, CONFIG)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  for folder in (tmp_path / 'file', tmp_path / 'file' / 'below'):
    with pytest.raises(OSError, match='file.* cannot be written to'):
      _check(folder, CONFIG)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  workdir.write_whole(path, {'old': 1})
  before = path.read_text()

  def fill_up(self, text, encoding):
    with self.open('w') as file:
      file.write(text[:3])
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(pathlib.Path, 'write_text', fill_up)
  with pytest.raises(OSError, match='The disk is full: .*' + tmp_path.name):
    with workdir.full_disk_in_words(tmp_path):
      workdir.write_whole(path, {'new': 2})
  assert path.read_text() == before


def test_other_errors_keep_their_own_words(tmp_path):
  with pytest.raises(PermissionError, match='mine'):
    with workdir.full_disk_in_words(tmp_path):
      raise PermissionError(errno.EACCES, 'mine')

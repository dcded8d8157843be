"""Private files: for their owner only, whole or not at all, never lost."""

import errno
import os
import stat

import pytest

from sleep_jax import errors
from sleep_jax.storage import private_files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
  file = tmp_path / 'new' / 'file'
  private_files.write(file, 'é 1')
  assert file.read_text(encoding='utf-8') == 'é 1'
  assert stat.S_IMODE(file.stat().st_mode) == 0o600
  assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

  def fail(number):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr(os, 'fsync', fail)
    with pytest.raises(errors.StorageError, match='No space left on device'):
      private_files.write(file, '2')
    with pytest.raises(errors.StorageError, match='free some space'):
      private_files.write_new(file.with_name('other'), '2')
  assert file.read_text(encoding='utf-8') == 'é 1'
  assert not file.with_name('other').exists()
  private_files.write(file, '3')  # What is left of the failed try is no harm.
  assert file.read_text() == '3'
  assert sorted(os.listdir(file.parent)) == ['file', 'other.part']


@pytest.mark.parametrize('links', [True, False])
def test_an_existing_file_is_never_replaced(tmp_path, monkeypatch, links):
  def refuse(*_):
    raise OSError(errno.EPERM, 'Operation not permitted')

  if not links:  # As on a FAT file system.
    monkeypatch.setattr(os, 'link', refuse)
  file = tmp_path / 'file'
  private_files.write_new(file, '1')
  with pytest.raises(errors.ExistsError, match='file exists and is not over'):
    private_files.write_new(file, '2')
  assert file.read_text() == '1'
  assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_link_in_the_way_is_not_followed(tmp_path):
  (tmp_path / 'target').write_text('mine')
  (tmp_path / 'file.part').symlink_to(tmp_path / 'target')
  private_files.write(tmp_path / 'file', 'text')
  assert (tmp_path / 'target').read_text() == 'mine'
  assert (tmp_path / 'file').read_text() == 'text'


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.StorageError, match='file/folder cannot be writ'):
    private_files.write(tmp_path / 'file' / 'folder' / 'x', 'text')

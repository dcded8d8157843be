"""Entries of the user's cache appear whole or not at all."""

import pathlib

import pytest

from sleep_jax import errors
from sleep_jax.storage import user_cache


def _write(text):
  return lambda folder: (folder / 'a').write_text(text)


def test_the_folder_is_that_of_the_environment(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert user_cache.folder('a', 'b') == tmp_path / 'sleep_jax/a/b'
  home = pathlib.Path('~/.cache').expanduser() / 'sleep_jax'
  for ignored in ('', 'relative/folder'):
    monkeypatch.setenv('XDG_CACHE_HOME', ignored)
    assert user_cache.folder() == home


def test_an_entry_is_made_once(tmp_path):
  entry = tmp_path / 'new/entry'
  user_cache.add(entry, _write('one'))
  user_cache.add(entry, _write('two'))
  assert (entry / 'a').read_text() == 'one'
  assert [p.name for p in entry.parent.iterdir()] == ['entry']


def test_another_process_may_make_it_meanwhile(tmp_path):
  entry = tmp_path / 'entry'

  def write(folder):
    _write('mine')(folder)
    user_cache.add(entry, _write('theirs'))

  user_cache.add(entry, write)
  assert (entry / 'a').read_text() == 'theirs'
  assert [p.name for p in tmp_path.iterdir()] == ['entry']


@pytest.mark.parametrize(
  'error, expected',
  [
    (OSError(28, 'No space left'), errors.StorageError),
    (errors.DataError('x'), errors.DataError),
    (KeyboardInterrupt(), KeyboardInterrupt),
  ],
)
def test_what_fails_leaves_nothing(tmp_path, error, expected):
  def write(folder):
    (folder / 'half').write_text('')
    raise error

  with pytest.raises(expected):
    user_cache.add(tmp_path / 'entry', write)
  assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(errors.StorageError, match='set XDG_CACHE_HOME'):
    user_cache.add(tmp_path / 'file/entry', _write(''))

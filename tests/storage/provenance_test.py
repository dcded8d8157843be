"""The description of how results were made is complete and correct."""

import subprocess
import sys

from sleep_jax.storage import provenance


def test_description_holds_the_command_seeds_and_versions(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['main.py', '--config.seeds=(0, 1)', '-v'])
  found = provenance.describe({'seeds': [0, 1]})
  expected = "python -m sleep_jax.main '--config.seeds=(0, 1)' -v"
  assert found['command'] == expected
  assert found['seeds'] == '0, 1'
  assert 'jax 0.' in found['versions'] and 'missing' not in found['versions']


def test_revision_is_that_of_the_repository_that_tracks_this_code(
  tmp_path, monkeypatch
):
  """A repository around an installed package does not count."""
  git = lambda *arguments: subprocess.run(
    ['git', '-C', str(tmp_path), *arguments], check=True, capture_output=True
  )
  monkeypatch.setattr(
    provenance, '__file__', str(tmp_path / 'lib' / 'provenance.py')
  )
  (tmp_path / 'lib').mkdir()
  (tmp_path / 'lib' / 'provenance.py').write_text('')
  assert provenance.revision() == 'unknown'  # No repository.
  git('init', '-q')
  (tmp_path / 'notes').write_text('')
  author = ['-c', 'user.name=A', '-c', 'user.email=a@example.org']
  git('add', 'notes')
  git(*author, 'commit', '-qm', 'Notes')
  # The repository does not track the file of this package.
  assert provenance.revision() == 'unknown'
  git('add', 'lib')
  git(*author, 'commit', '-qm', 'Library')
  revision = provenance.revision()
  assert revision != 'unknown' and not revision.endswith('dirty')
  (tmp_path / 'lib' / 'provenance.py').write_text('changed')
  assert provenance.revision() == f'{revision}-dirty'


def test_revision_is_unknown_without_git(monkeypatch):
  monkeypatch.setenv('PATH', '')
  assert provenance.revision() == 'unknown'

"""Where numbers come from is written down, and never made up."""

import subprocess
import sys

from sleep_jax.storage import provenance


def test_what_was_run_can_be_run_again(monkeypatch):
  monkeypatch.setattr(sys, 'argv', ['main.py', '--config.seeds=(0, 1)', '-v'])
  said = provenance.describe({'seeds': [0, 1]})
  expected = "python -m sleep_jax.main '--config.seeds=(0, 1)' -v"
  assert said['command'] == expected
  assert said['seeds'] == '0, 1'
  assert 'jax 0.' in said['versions'] and 'missing' not in said['versions']


def test_the_revision_is_that_of_this_code_alone(tmp_path, monkeypatch):
  """Installed inside somebody's repository, theirs is not ours."""
  ask = lambda *tokenizer: subprocess.run(
    ['git', '-C', str(tmp_path), *tokenizer], check=True, capture_output=True
  )
  monkeypatch.setattr(
    provenance, '__file__', str(tmp_path / 'lib' / 'provenance.py')
  )
  (tmp_path / 'lib').mkdir()
  (tmp_path / 'lib' / 'provenance.py').write_text('')
  assert provenance.revision() == 'unknown'  # No repository at all.
  ask('init', '-q')
  (tmp_path / 'notes').write_text('')
  name = ['-c', 'user.name=A', '-c', 'user.email=a@example.org']
  ask('add', 'notes')
  ask(*name, 'commit', '-qm', 'Notes')
  assert (
    provenance.revision() == 'unknown'
  )  # Theirs: it does not know our file.
  ask('add', 'lib')
  ask(*name, 'commit', '-qm', 'Library')
  revision = provenance.revision()
  assert revision != 'unknown' and not revision.endswith('dirty')
  (tmp_path / 'lib' / 'provenance.py').write_text('changed')
  assert provenance.revision() == f'{revision}-dirty'


def test_a_machine_without_git_is_no_obstacle(monkeypatch):
  monkeypatch.setenv('PATH', '')
  assert provenance.revision() == 'unknown'

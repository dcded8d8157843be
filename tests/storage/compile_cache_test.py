"""Compiled programs are kept for the next process, and change no result."""

import collections
import os
import pathlib
import subprocess
import sys
import types
import zlib

import jax
import pytest
import zstandard

from sleep_jax import errors
from sleep_jax.storage import compile_cache
from tests import hf_files

ROOT = pathlib.Path(__file__).parents[2]
DIR = 'jax_compilation_cache_dir'
# Prints a text and what JAX did with its cache.
PROGRAM = """
import collections, sys
import jax
import sleep_jax
counts = collections.Counter()
jax.monitoring.register_event_listener(lambda name, **_: counts.update([name]))
print(sleep_jax.load(sys.argv[1], verbose=False).generate('a cat', max_new=6))
for name in ('compile_requests_use_cache', 'cache_hits', 'cache_misses'):
  print(name, counts[f'/jax/compilation_cache/{name}'])
"""


@pytest.fixture
def unset(tmp_path, monkeypatch):
  """No cache is set, and the user's is a temporary folder."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user'))
  names = DIR, 'jax_persistent_cache_min_compile_time_secs'
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update(DIR, None)
  yield tmp_path / 'user/sleep_jax/compiled'
  for name, value in before.items():
    jax.config.update(name, value)


def _run(model, home):
  """Returns the text, and the counts of events, of a process of its own."""
  environment = {
    name: value for name, value in os.environ.items()
    if not name.startswith('JAX_COMPILATION') and 'PERSISTENT' not in name
  } | {'XDG_CACHE_HOME': str(home), 'XLA_FLAGS': ''}  # fmt: skip
  ran = subprocess.run(
    [sys.executable, '-c', PROGRAM, str(model)], cwd=ROOT, env=environment,
    capture_output=True, text=True,
  )  # fmt: skip
  assert not ran.returncode, ran.stderr
  *text, asked, hits, misses = ran.stdout.splitlines()
  count = lambda line: int(line.split()[-1])
  return '\n'.join(text), count(asked), count(hits), count(misses), ran.stderr


def test_the_second_process_compiles_nothing_and_writes_the_same(tmp_path):
  model = tmp_path / 'model'
  model.mkdir()
  end = hf_files.save_tokenizer(model, ['a cat sat', 'a dog ran'])
  hf_files.save(model, 'llama', vocab_size=300, eos_token_id=end)
  home = tmp_path / 'home'
  first, second = _run(model, home), _run(model, home)
  _, asked, hits, misses, _ = first
  assert asked == misses + hits and misses > 3
  _, asked, hits, misses, _ = second
  assert (asked, misses) == (hits, 0) and hits > 3
  # Where the folder cannot be made, there is a warning, and no other change.
  (tmp_path / 'file').write_text('')
  uncached, _, *counts, log = _run(model, tmp_path / 'file')
  assert first[0] == second[0] == uncached and counts == [0, 0]
  assert 'CacheWarning' in log and 'XDG_CACHE_HOME' in log


def test_each_version_has_its_folder_in_the_users_cache(unset, monkeypatch):
  compile_cache.start()
  folder = pathlib.Path(getattr(jax.config, DIR))
  assert folder.parent == unset and folder.stat().st_mode & 0o777 == 0o700
  old = types.SimpleNamespace(__version__='0.0.1')
  monkeypatch.setattr(compile_cache, 'jaxlib', old)
  assert compile_cache.default_folder() == unset / 'jaxlib-0.0.1'


@pytest.mark.parametrize('setting', ['', 'off', 'folder'])
def test_a_cache_that_was_set_before_is_replaced_by_a_named_one_only(
  unset, tmp_path, setting
):
  setting = str(tmp_path / setting) if setting == 'folder' else setting
  for before in (None, str(tmp_path / 'theirs')):
    jax.config.update(DIR, before)
    compile_cache.start(setting)
    default = before or str(compile_cache.default_folder())
    expected = {'': default, 'off': before}.get(setting, setting)
    assert getattr(jax.config, DIR) == expected


@pytest.mark.parametrize('reason', ['no folder', 'full', 'others can write'])
def test_a_cache_that_cannot_be_used_is_a_warning(unset, monkeypatch, reason):
  if reason == 'no folder':
    unset.parent.mkdir(parents=True)
    unset.write_text('')
  elif reason == 'full':
    usage = collections.namedtuple('usage', 'free')(2**20)
    monkeypatch.setattr(compile_cache.shutil, 'disk_usage', lambda _: usage)
  else:
    compile_cache.default_folder().mkdir(parents=True)
    compile_cache.default_folder().chmod(0o777)
  with pytest.warns(errors.CacheWarning, match='cannot keep compiled'):
    compile_cache.start()
  assert getattr(jax.config, DIR) is None


def _entry(folder, name, content, *, age=0):
  path = folder / f'jit_{name}-cache'
  path.write_bytes(content)
  now = path.stat().st_mtime - age
  os.utime(path, (now, now))
  return path


def test_entries_that_were_cut_off_are_deleted(unset):
  folder = compile_cache.default_folder()
  folder.mkdir(parents=True)
  program = bytes(range(256)) * 40
  for name, packed in (
    ('zstd', zstandard.ZstdCompressor().compress(program)),
    ('zlib', zlib.compress(program)),
  ):
    _entry(folder, name, packed)
    for size in (0, 3, 20, len(packed) - 1):
      _entry(folder, f'{name}_{size}', packed[:size])
  compile_cache.start()
  left = sorted(path.name for path in folder.glob('*-cache'))
  assert left == ['jit_zlib-cache', 'jit_zstd-cache']


def test_the_oldest_entries_are_deleted_where_there_are_too_many(
  unset, monkeypatch
):
  folder = compile_cache.default_folder()
  folder.mkdir(parents=True)
  program = zlib.compress(os.urandom(2000))
  for age in range(5):
    _entry(folder, str(age), program, age=100 * age)
  monkeypatch.setattr(compile_cache, '_MAX_BYTES', 3 * len(program))
  compile_cache.start()
  left = {path.name for path in folder.glob('*-cache')}
  assert left == {f'jit_{age}-cache' for age in range(3)}


def test_the_folder_of_a_version_that_is_not_used_is_deleted(unset):
  for version, days in (('old', 100), ('other', 1)):
    (unset / version).mkdir(parents=True)
    stamp = unset / version / 'checked'
    stamp.touch()
    then = stamp.stat().st_mtime - days * 24 * 3600
    os.utime(stamp, (then, then))
  compile_cache.start()
  left = {path.name for path in unset.iterdir()}
  assert left == {'other', compile_cache.default_folder().name}

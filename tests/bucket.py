"""A bucket in memory, where `gs://` paths lead during a test.

It does only what a bucket does: nothing is appended to, and nothing is renamed
in one move, so code that counts on either fails here as it would there.
"""

import importlib.machinery
import importlib.util

import pytest
from etils.epath import backend
from fsspec.implementations import memory


class Bucket(memory.MemoryFileSystem):
  """Objects by name; `denied` is raised by whoever writes."""

  protocol = ('gcs', 'gs')
  store = {}
  pseudo_dirs = ['']
  denied: Exception | None = None

  @classmethod
  def _strip_protocol(cls, path):
    path = path.removeprefix('gs://').removeprefix('gcs://').strip('/')
    return f'/{path}' if path else ''

  def _open(self, path, mode='rb', **how):
    if mode == 'ab':
      raise NotImplementedError('a bucket appends to nothing')
    if mode == 'wb' and Bucket.denied:
      raise Bucket.denied
    return super()._open(path, mode, **how)

  def mv(self, *paths, **how):
    raise NotImplementedError('a bucket renames nothing')

  rename = mv

  def glob(self, path, **how):
    # As gcsfs: without the slash that names begin with in memory.
    return [name.strip('/') for name in super().glob(path, **how)]


@pytest.fixture
def bucket(monkeypatch, tmp_path):
  """The names and bytes of all objects; the current directory is empty."""
  found = importlib.util.find_spec
  spec = importlib.machinery.ModuleSpec('gcsfs', None)
  monkeypatch.setattr(
    importlib.util, 'find_spec',
    lambda name, *more: spec if name == 'gcsfs' else found(name, *more),
  )  # fmt: skip
  monkeypatch.setattr(
    type(backend.fsspec_backend), '_get_filesystem', lambda *_: Bucket()
  )
  monkeypatch.setattr(Bucket, 'store', {})
  monkeypatch.setattr(Bucket, 'pseudo_dirs', [''])
  monkeypatch.setattr(Bucket, 'denied', None)
  monkeypatch.chdir(tmp_path)
  yield Bucket.store
  assert not list(tmp_path.glob('gs:*')), 'a bucket became a folder on disk'

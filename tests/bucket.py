"""An in-memory bucket that replaces `gs://` during a test.

Like a real bucket it supports neither appending nor atomic renaming, so code
that relies on either fails in tests too.
"""

import importlib.machinery
import importlib.util

import pytest
from etils.epath import backend
from fsspec.implementations import memory


class Bucket(memory.MemoryFileSystem):
  """Objects by name; if `denied` is set, every write raises it."""

  protocol = ('gcs', 'gs')
  store = {}
  pseudo_dirs = ['']
  denied: Exception | None = None

  @classmethod
  def _strip_protocol(cls, path):
    path = path.removeprefix('gs://').removeprefix('gcs://').strip('/')
    return f'/{path}' if path else ''

  def _open(self, path, mode='rb', **options):
    if mode == 'ab':
      raise NotImplementedError('buckets do not support appending')
    if mode == 'wb' and Bucket.denied:
      raise Bucket.denied
    return super()._open(path, mode, **options)

  def mv(self, *paths, **options):
    raise NotImplementedError('buckets do not support renaming')

  rename = mv

  def glob(self, path, **options):
    # Like gcsfs: without the leading slash of names in memory.
    return [name.strip('/') for name in super().glob(path, **options)]


@pytest.fixture
def bucket(monkeypatch, tmp_path):
  """Names and bytes of all objects; the current directory is empty."""
  find_spec = importlib.util.find_spec
  spec = importlib.machinery.ModuleSpec('gcsfs', None)
  monkeypatch.setattr(
    importlib.util, 'find_spec',
    lambda name, *more: spec if name == 'gcsfs' else find_spec(name, *more),
  )  # fmt: skip
  monkeypatch.setattr(
    type(backend.fsspec_backend), '_get_filesystem', lambda *_: Bucket()
  )
  monkeypatch.setattr(Bucket, 'store', {})
  monkeypatch.setattr(Bucket, 'pseudo_dirs', [''])
  monkeypatch.setattr(Bucket, 'denied', None)
  monkeypatch.chdir(tmp_path)
  yield Bucket.store
  assert not list(tmp_path.glob('gs:*')), (
    'a gs:// path was used as a local folder'
  )

"""A work directory belongs to one config, and its files are atomic."""

import errno
import importlib.util
import pathlib

import pytest

from sleep_jax import errors
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.storage import workdir
from tests import bucket as bucket_lib

bucket = bucket_lib.bucket

CONFIG = {'seeds': [0], 'wake': {'steps': 3}, 'levels': [{'slots': 1}, {}]}


def _check(folder, config):
  workdir.check_config(
    folder, config, bound=lambda c: workdir.without(c, ('seeds',))
  )


def test_folder_is_created_and_accepts_its_own_config_again(tmp_path):
  folder = tmp_path / 'runs' / 'x'
  _check(folder, CONFIG)
  assert workdir.read_config(folder) is None  # A check writes no config.
  workdir.write_json(folder / 'config.json', CONFIG)
  _check(folder, CONFIG)
  _check(folder, CONFIG | {'seeds': [0, 1]})


def test_error_of_another_config_names_the_differences(tmp_path):
  workdir.write_json(tmp_path / 'config.json', CONFIG)
  other = CONFIG | {'wake': {'steps': 4}, 'levels': [{'slots': 2}, {}]}
  with pytest.raises(ValueError) as caught:
    _check(tmp_path, other)
  message = str(caught.value)
  assert 'belongs to another config' in message
  assert 'config.wake.steps: 3 there, 4 now' in message
  assert 'config.levels[0].slots: 1 there, 2 now' in message
  assert 'seeds' not in message


def test_error_shows_only_a_few_of_many_differences(tmp_path):
  workdir.write_json(tmp_path / 'config.json', {})
  with pytest.raises(ValueError, match='and 3 more'):
    _check(tmp_path, {f'key_{n}': n for n in range(8)})


def test_error_names_a_damaged_config(tmp_path):
  (tmp_path / 'config.json').write_text('{"seeds": ')
  with pytest.raises(ValueError, match='config.json is damaged'):
    _check(tmp_path, CONFIG)


def test_a_config_is_read_without_fields_that_were_removed(tmp_path):
  """Earlier versions wrote them; only the router 'centroid' needed one."""
  model = {'router': 'sigmoid', 'top_k': 2}
  old = CONFIG | {'model': model | {'router_spread': 1.0}}
  workdir.write_json(tmp_path / 'config.json', old)
  assert workdir.read_config(tmp_path) == CONFIG | {'model': model}
  _check(tmp_path, CONFIG | {'model': model})
  old['model']['router'] = 'centroid'
  workdir.write_json(tmp_path / 'config.json', old)
  with pytest.raises(errors.WorkdirError, match="'centroid', which was remov"):
    workdir.read_config(tmp_path)


def test_error_names_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
  def fail(*args, **options):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(workdir.tempfile, 'TemporaryFile', fail)
  with pytest.raises(
    errors.StorageError, match=r'run cannot be written to \(No space left'
  ):
    workdir.check_writable(tmp_path / 'run')


def test_file_is_replaced_atomically(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  workdir.write_json(path, {'old': 1})
  before = path.read_text()

  def raise_no_space(self, data):
    with self.open('wb') as file:
      file.write(data[:3])
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(pathlib.Path, 'write_bytes', raise_no_space)
  with pytest.raises(OSError, match='The disk is full: .*' + tmp_path.name):
    with workdir.explain_full_disk(tmp_path):
      workdir.write_json(path, {'new': 2})
  assert path.read_text() == before


def test_other_errors_are_unchanged(tmp_path):
  with pytest.raises(PermissionError, match='mine'):
    with workdir.explain_full_disk(tmp_path):
      raise PermissionError(errno.EACCES, 'mine')


def test_path_on_disk_is_resolved_by_pathlib(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  (tmp_path / 'link').symlink_to('runs')
  for name, resolved in (
    ('x', 'x'), ('link/x', 'runs/x'), ('~/x', 'home/x'),
  ):  # fmt: skip
    assert workdir.path(name) == tmp_path.resolve() / resolved
    assert isinstance(workdir.path(name), pathlib.Path)


def test_path_in_a_bucket_keeps_its_url(bucket):
  path = workdir.path('gs://mine/runs/x')
  assert workdir.in_bucket(path)
  assert str(path) == 'gs://mine/runs/x'
  assert str(path / 'y') == 'gs://mine/runs/x/y'
  assert workdir.path(path) == workdir.path(str(path)) == path


def test_error_of_a_missing_gcsfs_says_how_to_install_it(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(ImportError, match=r"pip install 'etils\[epath-gcs\]'"):
    workdir.path('gs://mine/runs/x')


@pytest.mark.parametrize('name', ['s3://mine/x', 'gs://', 'http://a/b'])
def test_other_schemes_raise(name):
  with pytest.raises(ValueError, match=f'{name} .*expected .*gs://BUCKET'):
    workdir.path(name)


def test_bucket_works_like_a_folder(bucket):
  folder = workdir.path('gs://mine/runs/x')
  _check(folder, CONFIG)
  assert not bucket  # A check leaves no object.
  workdir.write_json(folder / 'config.json', CONFIG)
  workdir.write_json(folder / 'config.json', CONFIG)
  assert list(bucket) == ['/mine/runs/x/config.json']
  assert workdir.read_config(folder) == CONFIG
  with pytest.raises(ValueError, match='gs://mine/runs/x belongs to another'):
    _check(folder, CONFIG | {'wake': {'steps': 4}})


def test_error_of_a_bucket_without_permission_says_what_to_do(
  bucket, monkeypatch
):
  for denied in (OSError('Forbidden: x'), RuntimeError('no credentials')):
    monkeypatch.setattr(bucket_lib.Bucket, 'denied', denied)
    with pytest.raises(OSError, match=f'gs://mine/x .*{denied}.*Object Admin'):
      _check(workdir.path('gs://mine/x'), CONFIG)


def test_tokenizer_is_loaded_from_a_bucket(bucket):
  tokenizer = tokenizer_lib.make(
    texts=['one two two'], kind='bpe', vocab_size=300
  )
  tokenizer.save('gs://mine/tokenizer')
  loaded = tokenizer_lib.load('gs://mine/tokenizer')
  assert loaded.encode('two one') == tokenizer.encode('two one')


def test_an_empty_path_is_no_folder():
  for name in ('', ' '):
    with pytest.raises(ValueError, match='The path is empty'):
      workdir.path(name)


def test_a_folder_is_made_whole_or_not_at_all(tmp_path):
  target, other = tmp_path / 'new/run', tmp_path / 'new/run.part'
  other.mkdir(parents=True)
  (other / 'mine').touch()  # Of the user; it only has a similar name.
  with pytest.raises(KeyboardInterrupt), workdir.make_whole(target) as part:
    (part / 'half').touch()
    raise KeyboardInterrupt
  assert [path.name for path in target.parent.iterdir()] == ['run.part']
  with workdir.make_whole(target) as part:
    (part / 'whole').touch()
    assert not target.exists()
  assert (target / 'whole').exists() and (other / 'mine').exists()
  assert sorted(x.name for x in target.parent.iterdir()) == ['run', 'run.part']


def test_a_file_that_cannot_be_written_leaves_nothing_beside_it(tmp_path):
  file = tmp_path / 'a.json'
  file.mkdir()  # It cannot be replaced by a file.
  with pytest.raises(OSError):
    workdir.write_text(file, '{}')
  assert [path.name for path in tmp_path.iterdir()] == ['a.json']


def test_a_work_directory_that_is_a_file_is_named(tmp_path):
  (tmp_path / 'file').touch()
  for name in ('file', 'file/inner'):
    with pytest.raises(errors.StorageError, match='is a file, or is in one'):
      workdir.check_writable(tmp_path / name)

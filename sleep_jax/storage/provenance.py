"""Describes how results were made: command, revision, versions, machine."""

import importlib.metadata
import os
import pathlib
import platform
import shlex
import subprocess
import sys
from typing import Any

import jax

PACKAGES = (
  'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint',
  'tensorstore', 'ml_collections', 'absl-py', 'numpy', 'tokenizers',
)  # fmt: skip


def describe(config: dict[str, Any]) -> dict[str, Any]:
  """Returns a flat dict for the report and `about.json`."""
  return {
    'command': 'python -m sleep_jax.main ' + shlex.join(sys.argv[1:]),
    'seeds': ', '.join(map(str, config['seeds'])),
    'revision': revision(),
    'python': platform.python_version(),
    'versions': ', '.join(f'{p} {_version(p)}' for p in PACKAGES),
    'devices': ', '.join(sorted({d.device_kind for d in jax.devices()})),
    'cores': os.cpu_count(),
  }


def revision() -> str:
  """Returns the git revision of this code, with '-dirty' if it was changed.

  Returns 'unknown' if this file is not tracked by a git repository.
  """
  if _git('ls-files', '--error-unmatch', __file__) is None:
    # Installed as a package: a repository around it belongs to another
    # project.
    return 'unknown'
  return _git('describe', '--always', '--dirty') or 'unknown'


def _git(*arguments: str) -> str | None:
  """Returns the output of git in the folder of this file; None if it fails."""
  command = ['git', '-C', str(pathlib.Path(__file__).parent), *arguments]
  try:
    result = subprocess.run(command, capture_output=True, text=True, timeout=10)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return result.stdout.strip() if result.returncode == 0 else None


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'missing'

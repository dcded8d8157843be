"""Where numbers come from: versions, revision, command, machine."""

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
  'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain',
  'tensorstore', 'ml_collections', 'absl-py', 'numpy', 'tokenizers',
)  # fmt: skip


def describe(config: dict[str, Any]) -> dict[str, Any]:
  """A flat dict for the report and the run folder."""
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
  """The git revision of this code, 'dirty' if changed, or 'unknown'."""
  if _git('ls-files', '--error-unmatch', __file__) is None:
    return 'unknown'  # Installed: a repository around us is somebody else's.
  return _git('describe', '--always', '--dirty') or 'unknown'


def _git(*arguments: str) -> str | None:
  """What git says about where this file lies; None if it fails."""
  ask = ['git', '-C', str(pathlib.Path(__file__).parent), *arguments]
  try:
    said = subprocess.run(ask, capture_output=True, text=True, timeout=10)
  except (OSError, subprocess.TimeoutExpired):
    return None
  return said.stdout.strip() if said.returncode == 0 else None


def _version(package: str) -> str:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return 'missing'

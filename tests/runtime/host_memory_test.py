"""Tests of returning memory of the host."""

import gc
import platform
import subprocess
import sys
import weakref

import pytest

from sleep_jax.runtime import host_memory

_NAME, _VERSION = platform.libc_ver()
_GLIBC = tuple(map(int, _VERSION.split('.'))) if _NAME == 'glibc' else (0,)


class _Part:
  """An object that can refer to itself."""


def test_objects_that_only_refer_to_each_other_are_deleted():
  gc.disable()
  try:
    part = _Part()
    part.whole = part
    seen = weakref.ref(part)
    del part
    assert seen() is not None
    host_memory.collect()
    assert seen() is None
  finally:
    gc.enable()


@pytest.mark.skipif(
  _GLIBC < (2, 35), reason='this C library does not take the thresholds'
)
def test_freed_blocks_are_kept_or_returned():
  """In a process of its own: settings of glibc cannot be read back."""
  code = """
import pathlib, sys
import numpy as np
from sleep_jax.runtime import host_memory
pages = lambda: int(pathlib.Path('/proc/self/statm').read_text().split()[1])
host_memory.configure(keep_freed_blocks=sys.argv[1] == 'keep')
before = pages()
blocks = [np.ones(2**21) for _ in range(4)]  # Of 16 MB.
full = pages() - before
del blocks
print((pages() - before) / full)
"""
  left = {
    way: float(
      subprocess.run(
        [sys.executable, '-c', code, way], capture_output=True, text=True,
        check=True,
      ).stdout
    )
    for way in ('keep', 'return')
  }  # fmt: skip
  assert left['keep'] > 0.9 and left['return'] < 0.1

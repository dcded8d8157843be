"""Tests of returning memory of the host."""

import gc
import weakref

from sleep_jax.runtime import host_memory


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

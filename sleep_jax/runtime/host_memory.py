"""Keeps the memory of a long process from growing on the host."""

import ctypes
import gc

# glibc raises the size from which a block is returned to the system as soon as
# it is freed, up to 32 MB. Checkpoints are read and written in blocks of a few
# megabytes; 16 restores of a model of 135 million parameters left 320 MB of
# fragments, and 10 MB with a fixed size (benchmarks/restore_memory.py).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # Parameters of mallopt(3).
_RETURNED, _KEPT, _MOST_KEPT = 2**20, 2**27, 2**30  # Bytes.
_USUAL = 2**17  # What M_TRIM_THRESHOLD is in a new process.


def trim() -> None:
  """Returns free memory to the system now.

  Compiling a large program leaves fragments: about 2 GB were resident, and no
  array was alive, after compiling the wake step and the night of a model of 135
  million parameters. Does nothing where the C library is not glibc.
  """
  try:
    ctypes.CDLL('libc.so.6').malloc_trim(0)
  except (OSError, AttributeError):
    return


def collect() -> None:
  """Deletes objects that only refer to each other, then trims.

  A model that was asked, and is not used any more, is part of such a cycle: its
  425 MB stayed until Python looked for cycles. This scans all objects of the
  process.
  """
  gc.collect()
  trim()


def configure(*, keep_freed_blocks: bool) -> None:
  """Sets what becomes of large blocks of memory that this process frees.

  Does nothing where the C library is not glibc.

  Args:
    keep_freed_blocks: keep up to a gigabyte for the next blocks. The system
      clears each page that it gives: in a study of a small model
      (configs/smoke.py) that took a quarter of all CPU-seconds. If False,
      blocks of a megabyte or more go back to the system at once.
  """
  mapped, trimmed = _RETURNED, _USUAL
  if keep_freed_blocks:
    mapped, trimmed = _KEPT, _MOST_KEPT
  try:
    mallopt = ctypes.CDLL('libc.so.6').mallopt
  except (OSError, AttributeError):
    return
  # Older versions refuse more than 32 MB, and keep the size that they have.
  if mallopt(_MMAP_THRESHOLD, mapped):
    mallopt(_TRIM_THRESHOLD, trimmed)

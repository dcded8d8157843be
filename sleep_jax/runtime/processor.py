"""Detects whether this machine has fast products of 16-bit numbers."""

import functools
import pathlib

import jax

_CPU_INFO = '/proc/cpuinfo'
_MATRIX_UNIT = 'amx_bf16'  # Multiplies tiles of 16-bit numbers.


@functools.cache
def has_fast_bfloat16(cpu_info: str = _CPU_INFO) -> bool:
  """Returns whether products of 16-bit factors are faster than those of f32.

  They are on a GPU or TPU, and on a CPU with a matrix unit for them. A CPU that
  only has vector instructions for them (avx512_bf16) is slower with them,
  because each factor is rounded first (benchmarks/products.py).

  Args:
    cpu_info: file in which Linux lists the features of the CPU. Where there is
      none, the CPU has none that is known.
  """
  if jax.default_backend() != 'cpu':
    return True
  try:
    text = pathlib.Path(cpu_info).read_text(encoding='utf-8')
  except OSError:
    return False
  lines = [line for line in text.splitlines() if line.startswith('flags')]
  return bool(lines) and all(_MATRIX_UNIT in line.split() for line in lines)

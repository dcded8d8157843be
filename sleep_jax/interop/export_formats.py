"""Formats in which a model is written for other programs."""

from sleep_jax import errors

FORMATS = ('hf', 'gguf-f16', 'gguf-q8_0', 'experts')
DTYPES = ('float32', 'bfloat16')  # Of the format 'hf'.


def check(format: str, *, dtype: str, distils: bool) -> None:
  """Checks that the arguments of an export have an effect.

  Args:
    format: one of `FORMATS`.
    dtype: of the parameters, of use with 'hf' only.
    distils: whether a dense student is trained, of no use with 'experts'.

  Raises:
    UsageError: one is unknown, or is of no use with the format.
  """
  if format not in FORMATS:
    raise errors.UsageError(f'format={format!r}: expected one of {FORMATS}.')
  if dtype not in DTYPES:
    raise errors.UsageError(f'dtype={dtype!r}: expected one of {DTYPES}.')
  if distils and format == 'experts':
    raise errors.UsageError(
      "distil has no effect with format='experts': leave it out, or choose "
      'another format.'
    )
  if dtype != DTYPES[0] and format != 'hf':
    raise errors.UsageError(
      f'dtype={dtype!r} has no effect with format={format!r}: leave it out, or '
      "choose format='hf'."
    )

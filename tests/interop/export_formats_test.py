"""Arguments of an export that have no effect are refused."""

import pytest

from sleep_jax import errors
from sleep_jax.interop import export_formats


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('safetensors', 'float32', False), "format='safetensors': expected one"),
    (('hf', 'int8', False), "dtype='int8': expected one of"),
    (
      ('experts', 'float32', True),
      "distil has no effect with format='experts'",
    ),
    (('gguf-f16', 'bfloat16', False), "dtype='bfloat16' has no effect"),
  ],
)
def test_it_is_refused(arguments, message):
  format, dtype, distils = arguments
  with pytest.raises(errors.UsageError, match=message):
    export_formats.check(format, dtype=dtype, distils=distils)


@pytest.mark.parametrize('format', export_formats.FORMATS)
def test_every_format_is_accepted(format):
  export_formats.check(format, dtype='float32', distils=format != 'experts')

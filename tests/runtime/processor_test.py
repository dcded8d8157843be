"""The choice between products of 16-bit and of 32-bit factors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import layers
from sleep_jax.runtime import processor


@pytest.mark.parametrize(
  'text, expected',
  (
    ('flags\t: fpu avx512_bf16 amx_bf16 amx_tile\n', True),
    ('flags\t: fpu avx512_bf16 amx_bf16\nflags\t: fpu avx512f\n', False),
    ('flags\t: fpu avx512_bf16\n', False),
    ('Features\t: fp asimd bf16\n', False),
    ('', False),
  ),
)
def test_a_cpu_needs_a_matrix_unit_on_every_core(tmp_path, text, expected):
  (tmp_path / 'cpuinfo').write_text(text)
  assert processor.has_fast_bfloat16(str(tmp_path / 'cpuinfo')) == expected


def test_a_machine_without_a_list_of_features_has_none(tmp_path):
  assert not processor.has_fast_bfloat16(str(tmp_path / 'absent'))


@pytest.mark.parametrize('is_fast', (False, True))
def test_auto_computes_exactly_what_the_faster_kind_computes(
  monkeypatch, is_fast
):
  monkeypatch.setattr(processor, 'has_fast_bfloat16', lambda: is_fast)
  x, kernel = jax.random.normal(jax.random.key(0), (2, 8, 8))
  x, kernel = x[None], jnp.asarray(kernel)
  named = layers.BFLOAT16 if is_fast else layers.FLOAT32
  other = layers.FLOAT32 if is_fast else layers.BFLOAT16
  chosen = layers.product(x, kernel, layers.AUTO)
  np.testing.assert_array_equal(chosen, layers.product(x, kernel, named))
  assert np.any(chosen != layers.product(x, kernel, other))

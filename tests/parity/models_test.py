"""Models compute what transformers computes, for every kind of config.json.

Runs with `bash launch/parity.sh`: transformers and torch are not among the
requirements of this package.
"""

import jax
import numpy as np
import pytest

for package in ('torch', 'transformers'):
  pytest.importorskip(
    package, reason=f'{package} is not installed: bash launch/parity.sh'
  )

from sleep_jax.interop import hf_export  # noqa: E402
from tests import testing  # noqa: E402
from tests.parity import comparison, variants  # noqa: E402

VARIANTS = variants.all_variants()


def test_there_are_at_least_150_variants_and_few_are_refused():
  refused = [v for v in VARIANTS if 'refused' in v]
  assert len(VARIANTS) >= 150 and len(VARIANTS) - len(refused) >= 120
  assert all(v['reason'] for v in refused)


@pytest.mark.parametrize('variant', VARIANTS, ids=lambda v: v['name'])
def test_logits_and_text_are_those_of_transformers(tmp_path, variant):
  comparison.write(variant, tmp_path)
  result = comparison.compare(tmp_path)
  if 'refused' in variant:
    assert variant['refused'] in result.error
    assert str(tmp_path / 'config.json') in result.error
    return
  assert not result.error
  assert result.spread > 0.3  # Otherwise every model is nearly equal.
  assert result.difference <= comparison.TOLERANCE
  assert result.same_text


EXPORTED = (
  'llama: yarn, rope_scaling', 'mistral: layer_types', 'qwen2: tied',
  'qwen3: longrope, rope_parameters', 'gemma3_text: linear on full_attention',
  'gemma3: text', 'smollm3: plain', 'olmo2: plain',
)  # fmt: skip


@pytest.mark.parametrize('name', EXPORTED)
def test_an_export_with_two_experts_has_our_logits_in_transformers(
  tmp_path, name
):
  """Experts become hidden units; every other field of config.json is kept."""
  (variant,) = (v for v in VARIANTS if v['name'] == name)
  comparison.write(variant, tmp_path / 'base')
  levels = testing.levels((1, 'experience'))
  model, weights, base_model = comparison.load(
    tmp_path / 'base', arrangement='independent', router='always', levels=levels
  )
  random = np.random.default_rng(0)
  experts = {
    path: 0.3 * random.normal(size=x.shape).astype('f4')
    for path, x in weights.params.items()
    if '/2/experts/' in path
  }
  before = comparison.our_logits(model, weights, comparison.tokens())
  weights = testing.activate(weights.with_params(experts), 2, 0, 2)
  hf_export.save(
    model, jax.device_get(weights), str(tmp_path / 'out'), base_model=base_model
  )
  row = comparison.tokens()
  found = comparison.our_logits(model, weights, row)
  expected = comparison.peer_logits(comparison.load_peer(tmp_path / 'out'), row)
  tolerance = comparison.TOLERANCE * expected.std()
  assert np.abs(found - before).max() > 10 * tolerance
  np.testing.assert_allclose(found, expected, atol=tolerance)

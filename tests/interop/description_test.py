"""The lines that describe a model."""

import pytest

from sleep_jax.interop import description, open_model
from tests import hf_files

YARN = dict(rope_type='yarn', factor=4.0, original_max_position_embeddings=32)
LONG = dict(
  rope_type='longrope', short_factor=[1.0] * 3, long_factor=[2.0] * 3,
  original_max_position_embeddings=64,
)  # fmt: skip


@pytest.mark.parametrize(
  'family, changes, line',
  [
    ('llama', {}, 'default, theta 100'),
    ('llama3', {}, 'llama3, theta 500, factor 4, original length 16'),
    (
      'llama', dict(rope_scaling=dict(rope_type='linear', factor=2.0)),
      'linear, theta 100, factor 2',
    ),
    (
      'llama', dict(rope_scaling=YARN),
      'yarn, theta 100, factor 4, original length 32',
    ),
    (
      'llama', dict(rope_scaling=dict(rope_type='dynamic', factor=2.0)),
      'dynamic, theta 100, factor 2, original length 128',
    ),
    (
      'llama', dict(rope_scaling=LONG),
      'longrope, theta 100, original length 64',
    ),
    (
      'gemma3', {},
      'linear, theta 1000, factor 8; 2 local blocks with a window of 4: '
      'default, theta 50',
    ),
    (
      'qwen3_local', {},
      'linear, theta 50, factor 8; 2 local blocks with a window of 4',
    ),
  ],
)  # fmt: skip
@pytest.mark.filterwarnings('ignore:.*attn_logit_softcapping')
def test_the_kind_of_rotary_positions_is_said(tmp_path, family, changes, line):
  folder = tmp_path / 'model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat'])
  hf_files.save(folder, family, vocab_size=300, eos_token_id=end, **changes)
  loaded = open_model.open_model(str(folder))
  text = description.describe(loaded.model, loaded.weights, loaded)
  assert f'\n  rotary positions: {line}\n' in text
  assert text.endswith('dense export: exact')

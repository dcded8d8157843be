"""Comparison of imported models with transformers: logits, greedy tokens."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.model import streaming
from tests import hf_files

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')

torch.set_num_threads(1)  # The models are too small for threads.
NEW = 64
# With these seeds no two tokens have nearly equal logits, and the greedy text
# has more than a few different tokens.
CASES = [
  ('llama3', {}),
  ('llama_bias', {}),
  ('smollm', dict(num_key_value_heads=4)),
  ('mistral', dict(seed=3, tie_word_embeddings=True)),
  ('mistral_local', dict(files=3)),
  ('qwen2', dict(seed=1)),
  ('qwen2_local', dict(seed=1, num_key_value_heads=1)),
  ('qwen3', dict(dtype=ml_dtypes.bfloat16)),
  ('qwen3_local', dict(seed=1, vocab_size=101)),
  ('gemma3', dict(seed=1)),
  (
    'gemma3',
    dict(seed=1, num_key_value_heads=1, files=2, dtype=ml_dtypes.bfloat16),
  ),
]


@pytest.mark.parametrize('family, changes', CASES)
def test_an_imported_model_agrees_with_transformers(tmp_path, family, changes):
  """Rows differ in length; computation is in float32."""
  config, _ = hf_files.save(tmp_path, family, **changes)
  peer = transformers.AutoModelForCausalLM.from_pretrained(
    tmp_path, dtype=torch.float32, attn_implementation='eager'
  )
  peer.generation_config.eos_token_id = None
  model, weights = hf_files.load(tmp_path)
  random = np.random.default_rng(7)
  tokens = random.integers(0, config['vocab_size'], (3, 11)).astype('i4')
  length = np.array([11, 5, 8])
  _compare_logits(peer, model, weights, tokens, length)
  prompts = [
    row[:size].tolist() for row, size in zip(tokens, length, strict=True)
  ]
  rows = streaming.stream(
    model, weights, prompts, jax.random.key(0), max_new=NEW, end_tokens=[],
    temperature=0.0,
  )  # fmt: skip
  found = np.array(list(rows)).T
  expected, margin = _generate(peer, prompts)
  assert margin > 1e-3  # Larger than rounding errors.
  np.testing.assert_array_equal(found, expected)
  assert len(np.unique(found)) > 5


def _compare_logits(peer, model, weights, tokens, length):
  mask = np.arange(tokens.shape[1])[None] < length[:, None]
  with torch.no_grad():
    expected = peer(
      torch.tensor(tokens), attention_mask=torch.tensor(mask.astype('i4'))
    ).logits
  rows = types.model_inputs(jnp.asarray(tokens), jnp.asarray(length))
  found = model.forward(weights, *rows)
  np.testing.assert_allclose(
    np.asarray(found)[mask], expected.numpy()[mask], atol=2e-5
  )


def _generate(peer, prompts):
  """Returns greedy tokens and the smallest gap of the two largest logits."""
  width = max(map(len, prompts))
  rows = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
  mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
  out = peer.generate(
    torch.tensor(rows), attention_mask=torch.tensor(mask), do_sample=False,
    max_new_tokens=NEW, pad_token_id=0, output_logits=True,
    return_dict_in_generate=True,
  )  # fmt: skip
  best, second = torch.stack(out.logits).topk(2).values.unbind(-1)
  return out.sequences[:, width:].numpy(), float((best - second).min())

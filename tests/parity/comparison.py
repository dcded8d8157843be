"""Compares one model directory as read here and by transformers.

Both compute in float32. Weights are random and large enough that every part of
the model changes the logits.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from safetensors import torch as safetensors

from sleep_jax import errors, types
from sleep_jax.interop import hf_checkpoint, hf_import, open_model
from sleep_jax.model import config as config_lib
from sleep_jax.model import streaming, transformer
from sleep_jax.runtime import sharding
from tests.parity import variants

# The models are too small for threads, which would wait for each other.
torch.set_num_threads(1)
# Of the spread of the logits, their standard deviation.
TOLERANCE = 1e-3
_SHARD = 12_000  # Bytes.
# Names of tensors in multimodal models, before and after transformers 4.52.
_OLD_NAMES = (
  ('model.language_model.', 'language_model.model.'),
  ('model.vision_tower.', 'vision_tower.'),
  ('model.multi_modal_projector.', 'multi_modal_projector.'),
  ('lm_head.', 'language_model.lm_head.'),
)


@dataclasses.dataclass(frozen=True)
class Result:
  """What the two read.

  Attributes:
    difference: largest difference of two logits, as a share of their spread.
    same_text: whether the greedy texts are equal.
    spread: standard deviation of the logits of transformers.
    logits: those, `[T, V]`.
    error: why it was refused here, or ''.
  """

  difference: float
  same_text: bool
  spread: float
  logits: np.ndarray
  error: str = ''

  @property
  def equal(self) -> bool:
    return self.same_text and self.difference <= TOLERANCE


def write(variant: dict[str, Any], folder: pathlib.Path) -> None:
  """Writes the directory of a variant."""
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / 'config.json'
  path.write_text(json.dumps(variants.config(variant)))
  config = transformers.AutoConfig.from_pretrained(folder)
  with torch.device('cpu'):
    model = transformers.AutoModelForCausalLM.from_config(
      config, attn_implementation='eager'
    )
  _draw(model)
  model = model.to(getattr(torch, variant.get('dtype', 'float32')))
  shard = _SHARD if variant.get('shards') else '1GB'
  model.save_pretrained(folder, max_shard_size=shard)
  if variant.get('old_names'):
    _rename(folder / 'model.safetensors')
  if not variant.get('saved'):
    path.write_text(json.dumps(variants.config(variant)))


def _draw(model) -> None:
  """Draws weights by name, so that equal shapes get equal weights."""
  random = np.random.default_rng(0)
  for name, leaf in sorted(model.named_parameters()):
    shape = tuple(leaf.shape)
    if 'norm' in name:
      shift = 1.0 if 'Gemma' in type(model).__name__ else 0.0
      value = random.uniform(0.5, 1.5, shape) - shift
    else:
      # Larger query and key weights make attention depend on positions.
      scale = 2.0 if 'q_proj' in name or 'k_proj' in name else 1.0
      value = random.normal(size=shape) * scale * shape[-1] ** -0.5
    if 'lm_head' in name or 'embed' in name:
      value = value * 3
    leaf.data = torch.tensor(value, dtype=torch.float32)
  model.tie_weights()


def _rename(path) -> None:
  def old(name):
    for new, old in _OLD_NAMES:
      if name.startswith(new):
        return old + name[len(new) :]
    return name

  tensors = {old(n): x for n, x in safetensors.load_file(path).items()}
  safetensors.save_file(tensors, path, metadata={'format': 'pt'})


def tokens() -> np.ndarray:
  """Returns the tokens that all models read."""
  random = np.random.default_rng(7)
  return random.integers(3, variants.V, variants.POSITIONS).astype('i4')


def load_peer(folder: pathlib.Path):
  """Loads a directory with transformers."""
  peer = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32, attn_implementation='eager'
  )
  peer.generation_config.eos_token_id = None
  return peer.eval()


def peer_logits(peer, row: np.ndarray) -> np.ndarray:
  """Returns the logits of transformers, `[T, V]`."""
  with torch.no_grad():
    return peer(torch.tensor(row[None])).logits[0].numpy()


def peer_text(peer, prompt: np.ndarray) -> list[int]:
  """Returns the greedy text of transformers."""
  rows = torch.tensor(prompt[None])
  out = peer.generate(
    rows, attention_mask=torch.ones_like(rows), do_sample=False,
    max_new_tokens=variants.NEW, pad_token_id=0, use_cache=True,
  )  # fmt: skip
  return out[0, len(prompt) :].tolist()


def load(
  folder: pathlib.Path, **settings: Any
) -> tuple[transformer.Transformer, types.Weights, Any]:
  """Loads a directory here: the model, its weights and the checkpoint.

  Args:
    **settings: fields of `model.config.Model`.
  """
  base_model = hf_checkpoint.read(str(folder))
  levels = hf_import.adapt_levels(
    base_model, settings, settings.pop('levels', [open_model.SINGLE_LEVEL])
  )
  made = config_lib.make(
    {**base_model.settings, **settings}, levels,
    vocab_size=base_model.vocab_size,
  )  # fmt: skip
  model = transformer.Transformer(made)
  place = sharding.make()
  weights = hf_import.load(base_model, model, place, key=jax.random.key(0))
  return model, weights, base_model


def our_logits(model, weights, row: np.ndarray) -> np.ndarray:
  """Returns our logits, `[T, V]`."""
  rows = types.model_inputs(jnp.asarray(row[None]), jnp.asarray([len(row)]))
  return np.asarray(jax.jit(model.forward)(weights, *rows))[0]


def our_text(model, weights, prompt: np.ndarray) -> list[int]:
  """Returns our greedy text, decoded with a cache."""
  made = streaming.stream(
    model, weights, [prompt.tolist()], jax.random.key(0), max_new=variants.NEW,
    end_tokens=[], temperature=0.0,
  )  # fmt: skip
  return [token for (token,) in made]


def compare(folder: pathlib.Path) -> Result:
  """Compares logits and greedy text of a directory.

  The text comes first: transformers keeps the frequencies of the longest text
  that a model with dynamic rope has read.
  """
  row = tokens()
  prompt = row[: variants.PROMPT]
  peer = load_peer(folder)
  text, expected = peer_text(peer, prompt), peer_logits(peer, row)
  spread = float(expected.std())
  try:
    model, weights, _ = load(folder)
  except errors.ModelFileError as error:
    return Result(np.inf, False, spread, expected, str(error))
  found = our_logits(model, weights, row)
  return Result(
    difference=float(np.abs(found - expected).max()) / spread,
    same_text=our_text(model, weights, prompt) == text,
    spread=spread,
    logits=expected,
  )

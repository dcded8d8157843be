"""What our parameters are called in a Hugging Face checkpoint."""

import dataclasses
from collections.abc import Iterator

from sleep_jax.model import transformer


@dataclasses.dataclass(frozen=True)
class TensorSource:
  """A tensor, turned or not, and its place along the layers of ours."""

  name: str
  at: tuple[int, ...] = ()
  turned: bool = False


def tensor_sources(
  model: transformer.Transformer,
) -> Iterator[tuple[str, list[TensorSource]]]:
  """Our parameters that a host has, and the tensors that each is made of."""
  c = model.config
  yield 'embed', [TensorSource('model.embed_tokens.weight')]
  yield 'norm/scale', [TensorSource('model.norm.weight')]
  if not c.tied:
    yield 'head', [TensorSource('lm_head.weight', turned=True)]

  def stack(name, layers, *, turned=False):
    return [
      TensorSource(f'model.layers.{layer}.{name}', (place,), turned)
      for place, layer in enumerate(layers)
    ]

  everywhere = range(c.num_layers)
  attention = 'blocks/attention/'
  yield (
    f'{attention}norm/scale',
    stack('input_layernorm.weight', everywhere),
  )
  for ours, theirs in (
    ('query', 'q_proj'), ('key', 'k_proj'), ('value', 'v_proj'),
    ('out', 'o_proj'),
  ):  # fmt: skip
    name = f'self_attn.{theirs}'
    yield attention + ours, stack(f'{name}.weight', everywhere, turned=True)
    if c.out_bias if ours == 'out' else c.qkv_bias:
      yield f'{attention}{ours}_bias', stack(f'{name}.bias', everywhere)
  if c.qk_norm:
    for ours, theirs in (('query_norm', 'q_norm'), ('key_norm', 'k_norm')):
      path = f'{attention}{ours}/scale'
      yield path, stack(f'self_attn.{theirs}.weight', everywhere)
  norm = 'post_attention_layernorm.weight'
  if c.post_norms:
    yield f'{attention}post_norm/scale', stack(norm, everywhere)
    norm = 'pre_feedforward_layernorm.weight'
    last = 'post_feedforward_layernorm.weight'
    yield 'blocks/levels/post_norm/scale', stack(last, everywhere)
  if c.arrangement == 'independent':
    yield 'blocks/levels/norm/scale', stack(norm, everywhere)
  for number, layers in _base_mlp_levels(model):
    base = f'blocks/levels/{number}/base/'
    if c.arrangement != 'independent':
      yield f'{base}norm/scale', stack(norm, layers)
    for name in ('gate', 'up', 'down'):
      path = f'{base}mlp/{name}'
      yield path, stack(f'mlp.{name}_proj.weight', layers, turned=True)


def _base_mlp_levels(model) -> Iterator[tuple[int, range]]:
  """Levels whose bases are the host's MLPs, and in which layers they stand."""
  c = model.config
  for start, stop, numbers in c.groups:
    yield numbers[-1], range(start, stop)

"""Maps our parameter paths to tensor names of a Hugging Face checkpoint."""

import dataclasses
from collections.abc import Iterator

from sleep_jax import types


@dataclasses.dataclass(frozen=True)
class TensorSource:
  """One tensor of a checkpoint and its place in one of our arrays.

  Attributes:
    name: name of the tensor in the checkpoint.
    index: index into the leading (layer) axis of our array; empty if the
      tensor is the whole array.
    transposed: whether our array holds the transpose of the tensor.
  """

  name: str
  index: tuple[int, ...] = ()
  transposed: bool = False


def tensor_sources(
  model: types.Model,
) -> Iterator[tuple[str, list[TensorSource]]]:
  """Yields each parameter path of the base model and the tensors it stacks."""
  c = model.config
  yield 'embed', [TensorSource('model.embed_tokens.weight')]
  yield 'norm/scale', [TensorSource('model.norm.weight')]
  if not c.tied:
    yield 'head', [TensorSource('lm_head.weight', transposed=True)]

  def stack(name, layers, *, transposed=False):
    return [
      TensorSource(f'model.layers.{layer}.{name}', (row,), transposed)
      for row, layer in enumerate(layers)
    ]

  all_layers = range(c.num_layers)
  attention = 'blocks/attention/'
  if c.pre_norms:
    norm = stack('input_layernorm.weight', all_layers)
    yield f'{attention}norm/scale', norm
  for ours, theirs in (
    ('query', 'q_proj'),
    ('key', 'k_proj'),
    ('value', 'v_proj'),
    ('out', 'o_proj'),
  ):
    name = f'self_attn.{theirs}'
    yield (
      attention + ours,
      stack(f'{name}.weight', all_layers, transposed=True),
    )
    if c.out_bias if ours == 'out' else c.qkv_bias:
      yield f'{attention}{ours}_bias', stack(f'{name}.bias', all_layers)
  if c.qk_norm:
    for ours, theirs in (('query_norm', 'q_norm'), ('key_norm', 'k_norm')):
      path = f'{attention}{ours}/scale'
      yield path, stack(f'self_attn.{theirs}.weight', all_layers)
  name = 'post_attention_layernorm.weight'
  if c.post_norms:
    yield f'{attention}post_norm/scale', stack(name, all_layers)
    name = 'pre_feedforward_layernorm.weight'
    post_name = 'post_feedforward_layernorm.weight'
    yield 'blocks/levels/post_norm/scale', stack(post_name, all_layers)
  if c.pre_norms and c.arrangement == 'independent':
    yield 'blocks/levels/norm/scale', stack(name, all_layers)
  for number, layers in _base_mlp_levels(model):
    base = f'blocks/levels/{number}/base/'
    if c.pre_norms and c.arrangement != 'independent':
      yield f'{base}norm/scale', stack(name, layers)
    for matrix in ('gate', 'up', 'down'):
      path = f'{base}mlp/{matrix}'
      yield path, stack(f'mlp.{matrix}_proj.weight', layers, transposed=True)


def _base_mlp_levels(model) -> Iterator[tuple[int, range]]:
  """Yields levels whose base is the base model's MLP, with their layers."""
  c = model.config
  for start, stop, numbers in c.groups:
    yield numbers[-1], range(start, stop)

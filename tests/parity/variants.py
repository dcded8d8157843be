"""Variants of config.json that are compared with transformers.

Each variant is a small dict: the family it starts from, and what it changes.
Sizes are tiny. Windows, original lengths and caps are small enough to change
the logits of 200 positions.
"""

import itertools
from collections.abc import Iterator
from typing import Any

POSITIONS, PROMPT, NEW = 200, 100, 20
V, D, F, K = 96, 32, 48, 8
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'
# Lengths that the prompt has passed, and that the text passes while it grows.
PASSED, CROSSED = 64, 110
COMMON = dict(
  vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=2,
  num_attention_heads=4, num_key_value_heads=2, head_dim=K, rms_norm_eps=1e-5,
  max_position_embeddings=PASSED, tie_word_embeddings=False, bos_token_id=1,
  eos_token_id=2, pad_token_id=0,
)  # fmt: skip
_GEMMA = COMMON | dict(
  model_type='gemma3_text', num_hidden_layers=3, query_pre_attn_scalar=10,
  sliding_window=16, layer_types=[LOCAL, GLOBAL, LOCAL],
  hidden_activation='gelu_pytorch_tanh',
)  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
  'llama': COMMON | dict(model_type='llama', rope_theta=500.0),
  'mistral': COMMON
  | dict(model_type='mistral', rope_theta=500.0, sliding_window=16),
  'qwen2': COMMON | dict(model_type='qwen2', rope_theta=500.0),
  'qwen3': COMMON | dict(model_type='qwen3', rope_theta=500.0),
  'gemma3_text': _GEMMA,
  'gemma3': dict(
    model_type='gemma3',
    text_config=_GEMMA,
    vision_config=dict(
      model_type='siglip_vision_model', hidden_size=8, intermediate_size=8,
      num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8,
    ),
    mm_tokens_per_image=4, boi_token_index=3, eoi_token_index=4,
    image_token_index=5, tie_word_embeddings=False,
  ),
  'ministral': COMMON
  | dict(
    model_type='ministral', rope_theta=500.0, sliding_window=16,
    layer_types=[LOCAL, GLOBAL],
  ),
  'smollm3': COMMON
  | dict(model_type='smollm3', rope_theta=500.0, num_hidden_layers=4),
  'olmo2': COMMON | dict(model_type='olmo2', rope_theta=500.0),
}  # fmt: skip
PLAIN = ('llama', 'mistral', 'qwen2', 'qwen3', 'smollm3', 'olmo2')

_SHORT, _LONG = [1.0, 1.1, 1.2, 1.3], [2.0, 4.0, 6.0, 8.0]
ROPES: dict[str, dict[str, Any]] = {
  'linear': dict(rope_type='linear', factor=4.0),
  'dynamic': dict(rope_type='dynamic', factor=2.0),
  'yarn': dict(
    rope_type='yarn', factor=4.0, original_max_position_embeddings=32
  ),
  'longrope': dict(
    rope_type='longrope', short_factor=_SHORT, long_factor=_LONG, factor=4.0,
    original_max_position_embeddings=PASSED,
  ),
  'llama3': dict(
    rope_type='llama3', factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
  ),
}  # fmt: skip
MORE_ROPES: dict[str, dict[str, Any]] = {
  'dynamic crossed': dict(rope_type='dynamic', factor=4.0),
  'yarn factor 1': ROPES['yarn'] | dict(factor=1.0),
  'yarn attention_factor': ROPES['yarn'] | dict(attention_factor=0.7),
  'yarn betas': ROPES['yarn'] | dict(beta_fast=8.0, beta_slow=0.5),
  'yarn mscale': ROPES['yarn'] | dict(mscale=1.0, mscale_all_dim=0.5),
  'yarn mscale alone': ROPES['yarn'] | dict(mscale=2.0),
  'yarn not truncated': ROPES['yarn'] | dict(truncate=False),
  'yarn without original': dict(rope_type='yarn', factor=4.0),
  'yarn factor null': ROPES['yarn'] | dict(factor=None),
  'longrope crossed': ROPES['longrope']
  | dict(original_max_position_embeddings=CROSSED),
  'longrope never passed': ROPES['longrope']
  | dict(original_max_position_embeddings=300),
  'longrope attention_factor': ROPES['longrope'] | dict(attention_factor=1.3),
  'longrope ratio': {
    k: v
    for k, v in (
      ROPES['longrope'] | dict(original_max_position_embeddings=16)
    ).items()
    if k != 'factor'
  },
  'llama3 without original': {
    k: v
    for k, v in ROPES['llama3'].items()
    if k != 'original_max_position_embeddings'
  },
}


def _variant(family: str, name: str, *, drop=(), **options) -> dict[str, Any]:
  """Returns a variant.

  Args:
    family: key of `FAMILIES`.
    name: what it varies.
    drop: fields of the family that it leaves out.
    **options: `fields` changes config.json, `inner` its text_config; `dtype`
      and `shards` are those of the weights; `old_names` gives tensors the names
      of older versions; `saved` keeps the config.json that transformers writes;
      `refused` is the field that the error must name, `reason` why it is.
  """
  return dict(family=family, name=f'{family}: {name}', drop=drop) | options


def _rope(kind: str, rope: dict[str, Any]) -> dict[str, Any]:
  """Returns fields that the scaling needs besides its own."""
  return dict(max_position_embeddings=CROSSED) if 'dynamic c' in kind else {}


def _ropes() -> Iterator[dict[str, Any]]:
  """Yields every kind of rope in both formats."""
  for kind, rope in (ROPES | MORE_ROPES).items():
    old = rope | dict(type=rope['rope_type'])
    del old['rope_type']
    for name, fields in (
      ('rope_scaling', dict(rope_scaling=old)),
      ('rope_parameters', dict(rope_parameters=rope | dict(rope_theta=500.0))),
    ):
      yield _variant(
        'llama', f'{kind}, {name}', fields=fields | _rope(kind, rope)
      )
  styles = itertools.cycle((False, True))
  for family, kind in itertools.product(PLAIN[1:], ROPES):
    new, rope = next(styles), ROPES[kind]
    fields = (
      dict(rope_parameters=rope | dict(rope_theta=500.0))
      if new
      else dict(rope_scaling=rope)
    )
    yield _variant(
      family,
      f'{kind}, {next(iter(fields))}',
      drop=('rope_theta',) if new else (),
      fields=fields,
    )
  yield from _gemma_ropes()
  yield from _rope_precedence()


def _gemma_ropes() -> Iterator[dict[str, Any]]:
  """Yields nested parameters: each kind on global and on local blocks."""
  default = {
    GLOBAL: dict(rope_type='default', rope_theta=1000.0),
    LOCAL: dict(rope_type='default', rope_theta=50.0),
  }
  for kind, at in itertools.product(ROPES, (GLOBAL, LOCAL)):
    nested = default | {at: default[at] | ROPES[kind]}
    yield _variant(
      'gemma3_text', f'{kind} on {at}', fields=dict(rope_parameters=nested)
    )
  for name, rope in (
    ('yarn not truncated, ignored', ROPES['yarn'] | dict(truncate=False)),
    ('longrope crossed', MORE_ROPES['longrope crossed']),
  ):
    nested = {x: default[x] | rope for x in default}
    yield _variant('gemma3_text', name, fields=dict(rope_parameters=nested))
  for name, fields in (
    ('rope_scaling', dict(rope_scaling=dict(rope_type='linear', factor=8.0))),
    (
      'old type in rope_scaling, ignored',
      dict(rope_scaling=dict(type='linear', factor=8.0)),
    ),
    ('rope_theta', dict(rope_theta=300.0)),
    ('rope_local_base_freq', dict(rope_local_base_freq=30.0)),
    (
      'rope_scaling over rope_parameters',
      dict(
        rope_parameters=default,
        rope_scaling=dict(rope_type='linear', factor=8.0),
      ),
    ),
    ('only global parameters', dict(rope_parameters={GLOBAL: default[GLOBAL]})),
    ('empty rope_parameters', dict(rope_parameters={})),
  ):
    yield _variant('gemma3_text', name, fields=fields)


def _rope_precedence() -> Iterator[dict[str, Any]]:
  """Yields files in which two fields disagree, or one is missing."""
  linear, new = ROPES['linear'], dict(rope_type='default', rope_theta=40.0)
  for name, drop, fields in (
    (
      'rope_scaling over rope_parameters',
      (),
      dict(rope_scaling=linear, rope_parameters=new),
    ),
    (
      'theta in rope_scaling alone',
      ('rope_theta',),
      dict(rope_scaling=linear | dict(rope_theta=40.0)),
    ),
    (
      'theta in rope_scaling and beside it',
      (),
      dict(rope_scaling=linear | dict(rope_theta=40.0)),
    ),
    ('theta in rope_parameters and beside it', (), dict(rope_parameters=new)),
    (
      'theta beside rope_parameters',
      (),
      dict(rope_parameters=dict(rope_type='default')),
    ),
    ('rope_scaling empty', (), dict(rope_scaling={}, rope_parameters=new)),
    ('rope_scaling null', (), dict(rope_scaling=None)),
    ('no theta', ('rope_theta',), {}),
    (
      'rope_type over type',
      (),
      dict(rope_scaling=dict(type='yarn', rope_type='linear', factor=4.0)),
    ),
    (
      'original length beside rope_scaling',
      (),
      dict(
        rope_scaling=ROPES['llama3'], original_max_position_embeddings=CROSSED
      ),
    ),
  ):
    yield _variant('llama', name, drop=drop, fields=fields)
  yield _variant('smollm3', 'no theta', drop=('rope_theta',))
  yield _variant('qwen3', 'no theta', drop=('rope_theta',))


def _layers() -> Iterator[dict[str, Any]]:
  """Yields windows, kinds of blocks and blocks without positions."""
  on = dict(use_sliding_window=True, sliding_window=16)
  mixed, reverse = [LOCAL, GLOBAL], [GLOBAL, LOCAL]
  for family in ('qwen2', 'qwen3'):
    for name, fields in (
      ('window off', dict(sliding_window=16)),
      ('window, max_window_layers 0', on | dict(max_window_layers=0)),
      ('window, max_window_layers 1', on | dict(max_window_layers=1)),
      ('window, max_window_layers 2', on | dict(max_window_layers=2)),
      ('window, default max_window_layers', on),
      ('layer_types', on | dict(layer_types=mixed)),
      (
        'layer_types over max_window_layers',
        on | dict(layer_types=reverse, max_window_layers=0),
      ),
      ('window null', on | dict(sliding_window=None, max_window_layers=0)),
    ):
      yield _variant(family, name, fields=fields)
  for name, fields in (
    ('window null', dict(sliding_window=None)),
    ('window longer than the text', dict(sliding_window=1000)),
    ('layer_types', dict(layer_types=mixed)),
    ('layer_types reversed', dict(layer_types=reverse)),
    ('layer_types null', dict(layer_types=None)),
    ('window 2', dict(sliding_window=2)),
  ):
    yield _variant('mistral', name, fields=fields)
  for name, fields in (
    ('default interval', {}),
    ('interval 2', dict(no_rope_layer_interval=2)),
    ('no_rope_layers', dict(no_rope_layers=[0, 1, 1, 0])),
    ('no_rope_layers longer', dict(no_rope_layers=[1, 0, 1, 1, 0, 0])),
    ('all blocks rotate', dict(no_rope_layers=[1] * 4)),
    ('no block rotates', dict(no_rope_layers=[0] * 4)),
    ('window', on | dict(no_rope_layer_interval=2)),
    ('window off', dict(sliding_window=16, use_sliding_window=False)),
    ('layer_types', on | dict(layer_types=mixed + reverse)),
    (
      'layer_types, no_rope_layers',
      on | dict(layer_types=mixed + reverse, no_rope_layers=[0, 0, 1, 1]),
    ),
    (
      'yarn, no_rope_layers',
      dict(rope_scaling=ROPES['yarn'], no_rope_layers=[1, 0, 1, 0]),
    ),
  ):  # fmt: skip
    yield _variant('smollm3', name, fields=fields)
  for name, drop, fields in (
    ('default pattern', ('layer_types',), dict(num_hidden_layers=6)),
    ('pattern 2', ('layer_types',), dict(sliding_window_pattern=2)),
    ('all blocks global', (), dict(layer_types=[GLOBAL] * 3)),
    ('all blocks local', (), dict(layer_types=[LOCAL] * 3)),
    ('old names of blocks', (), dict(layer_types=[LOCAL, 'attention', LOCAL])),
    ('window 4', (), dict(sliding_window=4)),
  ):
    yield _variant('gemma3_text', name, drop=drop, fields=fields)


def _sizes() -> Iterator[dict[str, Any]]:
  """Yields heads, ties, biases, activations, caps, epsilon and vocabulary."""
  for family in (*PLAIN, 'gemma3_text'):
    yield _variant(family, 'tied', fields=dict(tie_word_embeddings=True))
    yield _variant(family, 'one key head', fields=dict(num_key_value_heads=1))
  for family in ('llama', 'qwen3', 'smollm3', 'olmo2', 'gemma3_text'):
    yield _variant(family, 'bias', fields=dict(attention_bias=True))
  for family in ('llama', 'mistral', 'qwen2', 'smollm3', 'olmo2'):
    yield _variant(family, 'head_dim missing', drop=('head_dim',))
  yield _variant('llama', 'key heads missing', drop=('num_key_value_heads',))
  yield _variant(
    'qwen2', 'key heads null', fields=dict(num_key_value_heads=None)
  )
  yield _variant('qwen3', 'head_dim 16', fields=dict(head_dim=16))
  yield _variant('mistral', 'head_dim null', fields=dict(head_dim=None))
  for act in ('swish', 'gelu_pytorch_tanh', 'gelu_new'):
    yield _variant('llama', f'hidden_act {act}', fields=dict(hidden_act=act))
  yield _variant(
    'gemma3_text', 'hidden_act, ignored', fields=dict(hidden_act='silu')
  )
  for name, fields in (
    ('final_logit_softcapping', dict(final_logit_softcapping=2.0)),
    (
      'attn_logit_softcapping, ignored by transformers',
      dict(attn_logit_softcapping=1.5),
    ),
    ('query_pre_attn_scalar', dict(query_pre_attn_scalar=40)),
  ):
    yield _variant('gemma3_text', name, fields=fields)
  yield _variant('qwen2', 'attention_bias', fields=dict(attention_bias=True))
  yield _variant('llama', 'eps missing', drop=('rms_norm_eps',))
  yield _variant('olmo2', 'eps missing', drop=('rms_norm_eps',))
  yield _variant('llama', 'large eps', fields=dict(rms_norm_eps=0.1))
  yield _variant('llama', 'several ends', fields=dict(eos_token_id=[2, 3]))
  yield _variant('llama', 'odd vocabulary', fields=dict(vocab_size=101))
  yield _variant(
    'llama', 'training fields',
    fields=dict(
      attention_dropout=0.1, initializer_range=0.5, pretraining_tp=2,
      use_cache=False, torch_dtype='float16', transformers_version='4.40.0',
      temperature=0.3, architectures=['LlamaForCausalLM'],
    ),
  )  # fmt: skip


def _files() -> Iterator[dict[str, Any]]:
  """Yields types and shards of weights, and files that transformers wrote."""
  for family, dtype in itertools.product(
    ('llama', 'qwen3', 'gemma3_text', 'olmo2'), ('bfloat16', 'float16')
  ):
    yield _variant(family, dtype, dtype=dtype)
  for family in ('llama', 'mistral', 'qwen2', 'gemma3_text', 'smollm3'):
    yield _variant(family, 'sharded', shards=True)
  for family in FAMILIES:
    yield _variant(family, 'config.json of transformers', saved=True)
  yield _variant(
    'llama', 'yarn, config.json of transformers', saved=True,
    fields=dict(rope_scaling=ROPES['yarn']),
  )  # fmt: skip


def _multimodal() -> Iterator[dict[str, Any]]:
  """Yields directories of a multimodal Gemma 3, of which the text is read."""
  for name, options in (
    ('text', {}),
    ('tied', dict(fields=dict(tie_word_embeddings=True))),
    ('tie missing', dict(drop=('tie_word_embeddings',))),
    ('old names of tensors', dict(old_names=True)),
    ('sharded', dict(shards=True)),
    ('bfloat16', dict(dtype='bfloat16')),
    (
      'rope_scaling',
      dict(inner=dict(rope_scaling=dict(rope_type='linear', factor=8.0))),
    ),
    (
      'yarn on local blocks',
      dict(inner=dict(rope_parameters={LOCAL: ROPES['yarn']})),
    ),
    (
      'final_logit_softcapping, ignored by transformers',
      dict(inner=dict(final_logit_softcapping=2.0)),
    ),
  ):
    yield _variant('gemma3', name, **options)


def _refused() -> Iterator[dict[str, Any]]:
  """Yields variants that transformers reads and this package does not."""
  for family, name, fields, refused, reason in (
    (
      'llama', 'mlp_bias', dict(mlp_bias=True), 'mlp_bias',
      'experts have no biases, so no night could be merged into the MLP',
    ),
    (
      'smollm3', 'mlp_bias', dict(mlp_bias=True), 'mlp_bias', 'as for llama',
    ),
    (
      'llama', 'hidden_act relu', dict(hidden_act='relu'), 'hidden_act',
      'experts share the activation, and have SiLU and the tanh form of GELU',
    ),
    (
      'llama', 'hidden_act gelu', dict(hidden_act='gelu'), 'hidden_act',
      'the exact form; as for relu',
    ),
    (
      'mistral', 'attention_bias', dict(attention_bias=True), 'attention_bias',
      'transformers has no biases in this architecture and ignores the field',
    ),
    (
      'llama', 'sliding_window', dict(sliding_window=16), 'sliding_window',
      'transformers has no window in this architecture, but its cache has one: '
      'the text it writes is not the text of its logits',
    ),
    (
      'llama', 'final_logit_softcapping', dict(final_logit_softcapping=2.0),
      'final_logit_softcapping',
      'transformers ignores it in this architecture, its author did not',
    ),
    (
      'llama', 'partial_rotary_factor', dict(partial_rotary_factor=0.5),
      'partial_rotary_factor',
      'transformers ignores it in this architecture, its author did not',
    ),
    (
      'gemma3_text', 'bidirectional', dict(use_bidirectional_attention=True),
      'use_bidirectional_attention', 'such a model does not write texts',
    ),
    (
      'gemma3_text', 'flat rope_parameters',
      dict(rope_parameters=ROPES['linear']), 'rope_parameters',
      'transformers ignores the fields, their author did not',
    ),
    (
      'llama', 'unknown field', dict(rope_scalling=ROPES['linear']),
      'rope_scalling', 'what an unknown field changes is not known',
    ),
    (
      'llama', 'nested rope_parameters',
      dict(rope_parameters={GLOBAL: ROPES['linear'] | dict(rope_theta=40.0)}),
      'rope_parameters',
      'transformers ignores the fields, their author did not',
    ),
  ):  # fmt: skip
    yield _variant(family, name, fields=fields, refused=refused, reason=reason)


def all_variants() -> list[dict[str, Any]]:
  """Returns all variants; the first of a family is the plain one."""
  plain = (_variant(family, 'plain') for family in FAMILIES)
  found = [
    *plain, *_ropes(), *_layers(), *_sizes(), *_files(), *_multimodal(),
    *_refused(),
  ]  # fmt: skip
  names = [variant['name'] for variant in found]
  assert len(set(names)) == len(names)
  return found


def config(variant: dict[str, Any]) -> dict[str, Any]:
  """Returns the config.json of a variant."""
  fields = dict(FAMILIES[variant['family']])
  for name in variant['drop']:
    del fields[name]
  fields |= variant.get('fields', {})
  if 'inner' in variant:
    fields['text_config'] = fields['text_config'] | variant['inner']
  return fields

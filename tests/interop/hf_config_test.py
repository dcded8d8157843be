"""What a config.json may say, and what is refused."""

import json
import pathlib

import pytest

from sleep_jax import errors
from sleep_jax.interop import hf_config, hf_known_fields
from sleep_jax.model import rope_scaling
from tests import hf_files

PATH = pathlib.Path('somewhere/config.json')
LOCAL, GLOBAL = 'sliding_attention', 'full_attention'


def _settings(family='llama', drop=(), **fields):
  config = hf_files.config(family) | fields
  for name in drop:
    del config[name]
  return hf_config.model_settings(config, PATH)


def _smollm3(**fields):
  return _settings('llama', **dict(model_type='smollm3') | fields)


@pytest.mark.parametrize('family', hf_files.FAMILIES)
@pytest.mark.parametrize('fields', hf_known_fields.WITHOUT_EFFECT.values())
def test_fields_without_effect_change_no_setting(family, fields):
  assert _settings(family, **dict.fromkeys(fields, 3)) == _settings(family)


@pytest.mark.parametrize(
  'field, nearest',
  [
    ('rope_scalling', 'rope_scaling'),
    ('sliding_windows', 'sliding_window'),
    ('final_logit_softcap', 'final_logit_softcapping'),
    ('attention_biases', 'attention_bias'),
  ],
)
@pytest.mark.parametrize('value', [None, False, {}, 30.0])
def test_an_unknown_field_is_refused_with_the_nearest_known_one(
  field, nearest, value
):
  message = f"{PATH}: the field '{field}' is not known.*nearest.*'{nearest}'"
  with pytest.raises(errors.ModelFileError, match=message):
    _settings(**{field: value})


@pytest.mark.parametrize(
  'family, fields, message',
  [
    ('llama', dict(tie_word_embeddings='false'), "tie_word_embeddings is 'fa"),
    ('llama', dict(tie_word_embeddings=0), 'tie_word_embeddings is 0: expec'),
    ('llama', dict(tie_word_embeddings=None), 'tie_word_embeddings is None'),
    ('llama', dict(attention_bias='no'), "attention_bias is 'no': expected tr"),
    ('llama', dict(hidden_size=True), 'hidden_size is True: expected an integ'),
    ('llama', dict(hidden_size=16.0), 'hidden_size is 16.0'),
    ('llama', dict(num_hidden_layers=0), 'num_hidden_layers is 0'),
    ('llama', dict(num_attention_heads='4'), "num_attention_heads is '4'"),
    ('llama', dict(num_key_value_heads=3), 'num_key_value_heads is 3: .* divi'),
    ('llama', dict(head_dim=5), 'head_dim is 5: expected an even size'),
    ('llama', dict(head_dim=-2), 'head_dim is -2'),
    ('llama', dict(rms_norm_eps='1e-5'), "rms_norm_eps is '1e-5'"),
    ('llama', dict(rms_norm_eps=float('nan')), 'rms_norm_eps is nan'),
    ('llama', dict(rms_norm_eps=True), 'rms_norm_eps is True'),
    ('llama', dict(rope_theta='1e4'), "rope_theta is '1e4'"),
    ('llama', dict(rope_theta=-1.0), 'rope_theta is -1.0'),
    ('llama', dict(rope_scaling='linear'), "rope_scaling is 'linear'"),
    ('llama', dict(hidden_act=['silu']), 'hidden_act is'),
    ('llama', dict(rope_scaling=dict(rope_type=[3])), 'rope_type is'),
    ('llama', dict(model_type=['llama']), 'model_type is'),
    ('llama', dict(layer_types=[[LOCAL]] * 3), 'layer_types is'),
    ('llama', dict(mlp_bias=True), 'mlp_bias is True: expected False'),
    ('llama', dict(mlp_bias=1), 'mlp_bias is 1: expected False'),
    ('llama', dict(is_encoder_decoder=True), 'is_encoder_decoder is True'),
    ('llama', dict(partial_rotary_factor=0.5), 'partial_rotary_factor is 0.5'),
    ('llama', dict(sliding_window=4), 'sliding_window is 4: expected None'),
    ('llama', dict(bos_token_id=37), 'bos_token_id is 37: .* from 0 to 36'),
    ('llama', dict(bos_token_id=-1), 'bos_token_id is -1'),
    ('llama', dict(bos_token_id=[1]), r'bos_token_id is \[1\]'),
    ('llama', dict(eos_token_id=[1, 37]), r'eos_token_id is \[1, 37\]'),
    ('llama', dict(eos_token_id=[]), r'eos_token_id is \[\]'),
    ('llama', dict(eos_token_id='2'), "eos_token_id is '2'"),
    ('llama', dict(eos_token_id=True), 'eos_token_id is True'),
    ('llama', dict(pad_token_id=37), 'pad_token_id is 37'),
    ('mistral', dict(sliding_window=0), 'sliding_window is 0'),
    ('mistral', dict(sliding_window='4'), "sliding_window is '4'"),
    ('mistral', dict(attention_bias=True), 'attention_bias is True'),
    ('mistral', dict(layer_types=[LOCAL] * 2), 'layer_types is .*3 entries'),
    ('mistral', dict(layer_types=LOCAL), "layer_types is 'sliding_attention'"),
    ('mistral', dict(layer_types=[LOCAL] * 3, sliding_window=None), 'is off o'),
    ('qwen2', dict(use_sliding_window='yes'), "use_sliding_window is 'yes'"),
    ('qwen3_local', dict(max_window_layers=-1, layer_types=None), 'max_window'),
    ('gemma3', dict(final_logit_softcapping=0), 'final_logit_softcapping is 0'),
    ('gemma3', dict(query_pre_attn_scalar=0), 'query_pre_attn_scalar is 0'),
    ('gemma3', dict(hidden_activation='silu2'), "hidden_activation is 'silu2'"),
    ('gemma3', dict(use_bidirectional_attention=True), 'use_bidirectional_'),
    ('gemma3', dict(rope_parameters=hf_files.LLAMA3), 'rope_parameters is .*f'),
  ],
)  # fmt: skip
def test_a_wrong_type_or_value_is_refused(family, fields, message):
  with pytest.raises(errors.ModelFileError, match=message) as found:
    _settings(family, **fields)
  assert str(PATH) in str(found.value)


@pytest.mark.parametrize(
  'rope, message',
  [
    (dict(rope_type='mrope'), "rope_type is 'mrope': expected one of"),
    (dict(rope_type=None), 'rope_type is None'),
    (dict(rope_type='linear'), 'these fields are missing: factor'),
    (dict(rope_type='linear', factor=0), 'factor is 0'),
    (dict(rope_type='linear', factor='4'), "factor is '4'"),
    (dict(rope_type='linear', factor=4, facter=2), 'facter is 2'),
    (dict(rope_type='linear', factor=4, mrope_section=[1]), 'mrope_section is'),
    (dict(rope_type='yarn', factor=4, truncate='no'), "truncate is 'no'"),
    (dict(rope_type='yarn', factor=4, beta_fast='a'), "beta_fast is 'a'"),
    (dict(rope_type='longrope', short_factor=[1] * 3), 'missing: long_factor'),
    (
      dict(rope_type='longrope', short_factor=[1] * 3, long_factor=[1] * 2),
      'long_factor is .* a list of 3 numbers',
    ),
    (
      dict(rope_type='longrope', short_factor=[1] * 3, long_factor=[1, 0, 1]),
      'long_factor is 0',
    ),
    (
      hf_files.LLAMA3 | dict(high_freq_factor=1.0),
      'high_freq_factor is 1.0: expected more than low_freq_factor 1.0',
    ),
    ({GLOBAL: hf_files.LLAMA3}, 'one set of parameters for all blocks'),
    (dict(rope_type='linear', factor=2, partial_rotary_factor=0.5), 'partial_'),
  ],
)
@pytest.mark.parametrize('field', ['rope_scaling', 'rope_parameters'])
def test_wrong_rope_fields_are_refused(field, rope, message):
  with pytest.raises(errors.ModelFileError, match=message) as found:
    _settings(**{field: rope})
  assert f'{PATH}: {field}' in str(found.value)


def test_the_precedence_of_rope_fields():
  """As in transformers 5.24; the comparisons are in tests/parity."""
  linear = dict(rope_type='linear', factor=4.0)
  new = dict(rope_type='default', rope_theta=40.0)
  for fields, theta, scaling in (
    (dict(rope_scaling=linear, rope_parameters=new), 100.0, (4.0,)),
    (dict(rope_scaling=linear | dict(rope_theta=7.0)), 7.0, (4.0,)),
    (dict(rope_scaling={}, rope_parameters=new), 40.0, ()),
    (dict(rope_scaling=None, rope_parameters=linear), 100.0, (4.0,)),
    (dict(rope_scaling=dict(type='linear', factor=4)), 100.0, (4.0,)),
  ):
    found = _settings(**fields)
    assert found['rope_theta'] == theta and found['rope_scaling'] == scaling
  assert _settings(drop=['rope_theta'])['rope_theta'] == 10_000.0
  beside = _settings(
    rope_scaling=hf_files.LLAMA3, original_max_position_embeddings=99
  )
  assert beside['rope_scaling'] == (4.0, 1.0, 4.0, 99.0)


def test_yarn_has_the_magnitude_of_its_factor():
  yarn = dict(rope_type='yarn', factor=1.0)
  read = lambda **fields: _settings(rope_scaling=yarn | fields)['rope_scaling']
  assert read() == rope_scaling.Yarn(1.0, 128.0)
  assert read(factor=2.718281828459045).magnitude == pytest.approx(1.1)
  assert read(factor=9.0, attention_factor=0.5).magnitude == 0.5
  assert read(factor=9.0, mscale=1.0, mscale_all_dim=1.0).magnitude == 1.0
  # Without a factor, it is the ratio of the two lengths.
  ratio = read(factor=None, original_max_position_embeddings=32)
  assert ratio.factor == 4.0 and ratio.positions == 32.0


def test_gemma_has_parameters_of_its_own_for_local_blocks():
  linear, dynamic = ({'rope_type': kind, 'factor': 2.0} for kind in
                     ('linear', 'dynamic'))  # fmt: skip
  found = _settings(
    'gemma3', rope_parameters={GLOBAL: linear, LOCAL: dynamic},
    rope_local_base_freq=30.0,
  )  # fmt: skip
  assert found['rope_theta'] == 100.0 and found['rope_scaling'] == (2.0,)
  assert found['local_theta'] == 30.0
  assert found['local_scaling'] == rope_scaling.Dynamic(2.0, 128)


def test_which_blocks_of_smollm3_have_no_positions():
  rotated = lambda **fields: _smollm3(num_hidden_layers=4, **fields)['rotated']
  assert rotated() == (True, True, True, False)
  assert rotated(no_rope_layer_interval=2) == (True, False) * 2
  assert rotated(no_rope_layers=[0, 1, 1, 1, 0]) == (False, True, True, True)
  assert 'rotated' not in _smollm3()  # Of three blocks, all have.
  for wrong in ([0, 1], [1, 1, 1, 2], [True] * 4, '1111'):
    with pytest.raises(errors.ModelFileError, match='no_rope_layers is'):
      rotated(no_rope_layers=wrong)
  local = _smollm3(
    num_hidden_layers=4, use_sliding_window=True, sliding_window=5
  )
  assert local['local'] == (False, False, False, True) and local['window'] == 5


def test_olmo2_norms_only_the_output_of_each_branch():
  found = _settings('llama', model_type='olmo2')
  assert not found['pre_norms'] and found['post_norms']
  assert found['qk_norm'] and found['qk_norm_whole']


def _multimodal(**outer):
  inner = hf_files.config('gemma3') | dict(eos_token_id=1)
  return dict(
    model_type='gemma3', text_config=inner, vision_config={'anything': 3},
    mm_tokens_per_image=256, boi_token_index=3, eos_token_id=[1, 6],
  ) | outer  # fmt: skip


def test_the_text_model_of_a_multimodal_config_is_read():
  found = hf_config.text_config(_multimodal(), PATH)
  assert found['model_type'] == 'gemma3_text'
  assert found['eos_token_id'] == [1, 6]
  # The outer part decides about the head.
  assert found['tie_word_embeddings'] is True
  untied = hf_config.text_config(_multimodal(tie_word_embeddings=False), PATH)
  assert untied['tie_word_embeddings'] is False
  expected = _settings('gemma3', final_logit_softcapping=None)
  assert hf_config.model_settings(found, PATH) == expected
  text = hf_files.config('llama')
  assert hf_config.text_config(text, PATH) == text


@pytest.mark.parametrize(
  'outer, message',
  [
    (dict(text_config=3), 'text_config is 3'),
    (
      dict(text_config=dict(model_type='llama')),
      "text_config.model_type is 'l",
    ),
    (dict(vision_confog=1), "'vision_confog'.*'vision_config'"),
    (dict(quantization_config=dict(bits=4)), 'quantization_config is'),
  ],
)
def test_a_wrong_multimodal_config_is_refused(outer, message):
  with pytest.raises(errors.ModelFileError, match=message):
    hf_config.text_config(_multimodal(**outer), PATH)


def test_a_config_survives_json():
  """Every setting is a plain value or a frozen dataclass: it can be hashed."""
  for family in hf_files.FAMILIES:
    config = json.loads(json.dumps(hf_files.config(family)))
    hash(tuple(hf_config.model_settings(config, PATH).items()))


# Fields of published files, by family; sizes are those of `hf_files`.
PUBLISHED = {
  'SmolLM2': dict(
    model_type='llama', architectures=['LlamaForCausalLM'],
    attention_bias=False, attention_dropout=0.0, bos_token_id=1, eos_token_id=2,
    initializer_range=0.04, is_llama_config=True, mlp_bias=False,
    pad_token_id=2, pretraining_tp=1, rope_interleaved=False,
    rope_scaling=None, torch_dtype='bfloat16', transformers_version='4.42.3',
    use_cache=True, **{'transformers.js_config': {'dtype': 'q4'}},
  ),
  'Llama 3.2': dict(
    model_type='llama', bos_token_id=3, eos_token_id=[3, 4, 5],
    rope_scaling=hf_files.LLAMA3, pretraining_tp=1, attention_dropout=0.0,
  ),
  'Mistral': dict(
    model_type='mistral', bos_token_id=1, sliding_window=None,
    attention_dropout=0.0, torch_dtype='bfloat16',
  ),
  'Qwen 2.5': dict(
    model_type='qwen2', max_window_layers=21, sliding_window=32_768,
    use_sliding_window=False, attention_dropout=0.0, use_mrope=False,
  ),
  'Qwen 3': dict(
    model_type='qwen3', attention_bias=False, max_window_layers=36,
    rope_scaling=None, sliding_window=None, use_sliding_window=False,
  ),
  'Gemma 3': dict(
    model_type='gemma3_text', attn_logit_softcapping=None,
    cache_implementation='hybrid', final_logit_softcapping=None,
    hidden_activation='gelu_pytorch_tanh', query_pre_attn_scalar=256,
    rope_local_base_freq=10_000, rope_scaling=None, sliding_window=512,
    sliding_window_pattern=6, use_bidirectional_attention=False,
  ),
  'SmolLM3': dict(
    model_type='smollm3', layer_types=[GLOBAL] * 3, max_window_layers=28,
    mlp_bias=False, no_rope_layer_interval=4, no_rope_layers=[1, 1, 1],
    pretraining_tp=2, rope_scaling=None, sliding_window=None,
    use_sliding_window=False,
  ),
  'OLMo 2': dict(
    model_type='olmo2', attention_bias=False, attention_dropout=0.0,
    num_key_value_heads=4, pad_token_id=1, rope_scaling=None, use_cache=False,
  ),
}  # fmt: skip


@pytest.mark.parametrize('fields', PUBLISHED.values(), ids=PUBLISHED)
def test_the_fields_of_published_files_are_known(fields):
  assert _settings(**fields)['num_layers'] == 3


def test_a_multimodal_file_may_leave_out_the_sizes_of_its_text_model():
  inner = dict(
    hidden_size=2560, intermediate_size=10_240, model_type='gemma3_text',
    num_hidden_layers=34, rope_scaling=dict(factor=8.0, rope_type='linear'),
    sliding_window=1024,
  )  # fmt: skip
  outer = dict(
    architectures=['Gemma3ForConditionalGeneration'], model_type='gemma3',
    boi_token_index=255_999, eoi_token_index=256_000, eos_token_id=[1, 106],
    image_token_index=262_144, initializer_range=0.02, mm_tokens_per_image=256,
    text_config=inner, torch_dtype='bfloat16', vision_config={},
  )  # fmt: skip
  found = hf_config.model_settings(hf_config.text_config(outer, PATH), PATH)
  assert found['num_heads'] == 8 and found['num_kv_heads'] == 4
  assert found['head_size'] == 256 and found['tied']
  assert found['rope_scaling'] == (8.0,) and found['local'][:6] == (
    *(True,) * 5, False,
  )  # fmt: skip

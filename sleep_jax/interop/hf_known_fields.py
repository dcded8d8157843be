"""Which fields a config.json may have.

A field that is not known may change what the model computes, so it is refused.
Known are the fields that an architecture reads, and those listed here with the
reason why they change nothing that this package computes. The reasons were
checked against transformers 5.24.
"""

import difflib
import pathlib
from collections.abc import Iterable

from sleep_jax import errors
from sleep_jax.interop import hf_fields

# Read for every architecture.
COMMON = frozenset({
  'model_type', 'vocab_size', 'hidden_size', 'intermediate_size',
  'num_hidden_layers', 'num_attention_heads', 'num_key_value_heads', 'head_dim',
  'rms_norm_eps', 'tie_word_embeddings', 'max_position_embeddings',
  'original_max_position_embeddings', 'rope_theta', 'rope_scaling',
  'rope_parameters', 'bos_token_id', 'eos_token_id', 'pad_token_id',
  'layer_types',
})  # fmt: skip

WITHOUT_EFFECT = {
  'who made the file, and for which program': {
    'architectures', 'transformers_version', '_name_or_path', 'name_or_path',
    '_commit_hash', 'auto_map', 'model_name', 'finetuning_task',
    'transformers.js_config', 'is_llama_config', 'unsloth_fixed',
    'unsloth_version', 'custom_pipelines', '_from_model_config',
  },
  # Weights are read in the type of their file and computed in `dtype` of the
  # command.
  'type of the weights': {'dtype', 'torch_dtype'},
  'dropout and initial weights, used only in training': {
    'attention_dropout', 'dropout', 'hidden_dropout', 'resid_pdrop',
    'embd_pdrop', 'initializer_range', 'use_bfloat16', 'gradient_checkpointing',
    'router_aux_loss_coef', 'z_loss_coefficient',
  },
  'which program computes attention, and how it is split': {
    '_attn_implementation', 'attn_implementation',
    '_attn_implementation_autoset', '_attn_implementation_internal',
    '_flash_attn_2_enabled', '_experts_implementation', 'pretraining_tp',
    'chunk_size_feed_forward', 'torchscript', 'use_cache',
    'cache_implementation', 'use_flash_attn', 'tf_legacy_loss',
  },
  'what is returned besides logits': {
    'output_hidden_states', 'output_attentions', 'return_dict',
    'return_dict_in_generate', 'output_scores', 'use_return_dict',
    'tie_last_hidden_states',
  },
  'heads of other tasks': {
    'id2label', 'label2id', 'num_labels', 'problem_type',
    'task_specific_params', 'classifier_dropout', 'summary_type',
  },
  # transformers reads them from generation_config.json alone. Sampling is set
  # by the flags of the commands.
  'sampling': {
    'max_length', 'min_length', 'max_new_tokens', 'do_sample', 'early_stopping',
    'num_beams', 'num_beam_groups', 'diversity_penalty', 'temperature', 'top_k',
    'top_p', 'typical_p', 'repetition_penalty', 'length_penalty',
    'no_repeat_ngram_size', 'encoder_no_repeat_ngram_size', 'bad_words_ids',
    'num_return_sequences', 'forced_bos_token_id', 'forced_eos_token_id',
    'remove_invalid_values', 'exponential_decay_length_penalty',
    'suppress_tokens', 'begin_suppress_tokens', 'epsilon_cutoff', 'eta_cutoff',
    'encoder_repetition_penalty', 'num_assistant_tokens',
    'num_assistant_tokens_schedule', 'assistant_confidence_threshold',
    'assistant_lookbehind', 'target_lookbehind',
  },
  'tokens, which tokenizer.json and tokenizer_config.json define': {
    'tokenizer_class', 'prefix', 'sep_token_id', 'unk_token_id',
    'decoder_start_token_id', 'bos_token', 'eos_token', 'pad_token',
    'pad_to_multiple_of', 'model_max_length', 'chat_template',
  },
  # `layer_types` was made from it before it was saved.
  'copies of other fields': {'_sliding_window_pattern'},
}  # fmt: skip

# Fields of other architectures or programs that change nothing with one value.
NEUTRAL = {
  'attention_bias': False, 'mlp_bias': False, 'quantization_config': None,
  'use_bidirectional_attention': False, 'final_logit_softcapping': None,
  'attn_logit_softcapping': None, 'sliding_window': None,
  'use_sliding_window': False, 'use_mrope': False, 'mrope_section': None,
  'rope_interleaved': False, 'partial_rotary_factor': 1.0, 'clip_qkv': None,
  'is_encoder_decoder': False, 'is_decoder': False,
  'add_cross_attention': False, 'cross_attention_hidden_size': None,
  'tie_encoder_decoder': False, 'pruned_heads': {}, 'per_layer_config': None,
  'no_rope_layers': None, 'use_qk_norm': None, 'num_experts': None,
  'num_local_experts': None, 'embedding_multiplier': 1.0,
  'logits_scaling': 1.0, 'residual_multiplier': 1.0,
  'attention_multiplier': None,
}  # fmt: skip

_HARMLESS = frozenset().union(*WITHOUT_EFFECT.values())


def check(
  config: hf_fields.Config, read: Iterable[str], path: pathlib.Path
) -> None:
  """Checks that every field is known for an architecture.

  Args:
    config: content of config.json.
    read: fields that the architecture reads besides `COMMON`.
    path: path of the file, for messages.

  Raises:
    ModelFileError: a field is not known, or has an unsupported value. The
      message names it.
  """
  known = COMMON | set(read)
  for field, value in config.items():
    if field in known or field in _HARMLESS:
      continue
    if field in NEUTRAL:
      neutral = NEUTRAL[field]
      # Python counts False as 0.
      same = value == neutral and (type(value) is bool) == (
        type(neutral) is bool
      )
      if value is not None and not same:
        hf_fields.fail(
          path, field, value,
          f'{neutral!r}; with other values a model of type '
          f'{config.get("model_type")!r} is not supported',
        )  # fmt: skip
      continue
    names = known | _HARMLESS | set(NEUTRAL)
    near = difflib.get_close_matches(field, names, 1)
    raise errors.ModelFileError(
      f'{path}: the field {field!r} is not known for a model of type '
      f'{config.get("model_type")!r}, so what it changes is not known either. '
      + (f'The nearest known field is {near[0]!r}. ' if near else '')
      + 'Remove it if it changes nothing that the model computes.'
    )

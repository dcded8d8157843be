"""Type and range of every field of a config, in one table.

A value outside its range would otherwise be found late, or never: a night with
a negative share or a rate of NaN runs to its end. The table has one row per
field; entries of tuples are written `[*]`. Conditions between two fields are in
`checks` and in the settings of each phase.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sleep_jax import errors
from sleep_jax.model import config as model_config

_LARGEST = 2**31 - 1  # Counts are int32 on the devices.
_LARGEST_SEED = 2**32 - 1
_NUM_SHOWN = 10  # Wrong fields that one error lists.


@dataclasses.dataclass(frozen=True)
class Rule:
  """The values that a field may have.

  Attributes:
    kind: `int`, `float` (which an int may stand for), `bool`, `str`, or
      `object` for any value but NaN and infinity.
    least, most: bounds of a number.
    open_least, open_most: whether the bound itself is excluded.
    also: further values that are allowed, such as 'infinite' or None.
  """

  kind: type
  least: float = -math.inf
  most: float = math.inf
  open_least: bool = False
  open_most: bool = False
  also: tuple[Any, ...] = ()

  def allows(self, value: Any) -> bool:
    """Returns whether a field may have this value."""
    if any(
      value == x and (type(value) is type(x) or self._is_number(value))
      for x in self.also
    ):
      return True
    if self.kind is object:
      return type(value) is not float or math.isfinite(value)
    if self.kind in (bool, str):
      return type(value) is self.kind
    if not self._is_number(value):
      return False
    if not math.isfinite(value):
      return False
    above = self.least < value or (value == self.least and not self.open_least)
    below = value < self.most or (value == self.most and not self.open_most)
    return above and below

  def _is_number(self, value: Any) -> bool:
    """Whether a value has the type of a number; a bool has not, nor has 2.0
    where a whole number is expected."""
    return type(value) in ((int, float) if self.kind is float else (self.kind,))

  def expected(self, value: Any) -> str:
    """Describes the values that are allowed instead of this one."""
    if self.kind in (bool, str):
      text = {bool: 'True or False', str: 'a text'}[self.kind]
    else:  # Of a field of any kind, only NaN and infinity are refused.
      text = 'a whole number' if self.kind is int else 'a finite number'
      bounds = ' and '.join(self._describe_bounds(value))
      text += f', {bounds}' if bounds else ''
    return ' or '.join([text, *map(repr, self.also)])

  def _describe_bounds(self, value: Any) -> Iterator[str]:
    if self.least > -math.inf:
      least = f'{self.least:g}'
      yield f'above {least}' if self.open_least else f'{least} or more'
    # The largest count is only of interest to those who exceed it.
    if self.most < _LARGEST or (self.most < math.inf and type(value) is int
                                and value > self.most):  # fmt: skip
      yield f'{"below" if self.open_most else "at most"} {self.most:,}'


def _count(least: int, *also: Any) -> Rule:
  return Rule(int, least, _LARGEST, also=also)


FLAG, TEXT, NUMBER = Rule(bool), Rule(str), Rule(float)
# For fields that a dataset checks itself, and fields of several types.
ANY = Rule(object)
POSITIVE, NOT_NEGATIVE = Rule(float, 0, open_least=True), Rule(float, 0)
SHARE = Rule(float, 0, 1)
DECAY = Rule(float, 0, 1, open_most=True)
# An update of Adam moves each parameter by about the rate: 1 replaces weights.
RATE = Rule(float, 0, 1, open_least=True)
RATE_OR_0 = Rule(float, 0, 1)
_OPTIMIZER = {
  'learning_rate': RATE, 'warmup': _count(0), 'decay_steps': _count(0),
  'final': SHARE, 'clip': NOT_NEGATIVE, 'b1': DECAY, 'b2': DECAY,
  'weight_decay': NOT_NEGATIVE,
}  # fmt: skip
_TEACHER = {
  'sequences': _count(1), 'draws': _count(1), 'bos_share': SHARE,
  'pretrain_share': Rule(float, 0, 1, also=(-1,)), 'splice_share': SHARE,
  'cut_share': SHARE, 'template_share': SHARE, 'max_length': _count(0),
  'max_new': _count(0), 'skip_repeated': FLAG,
}  # fmt: skip
_ADAPTER = {
  'rank': _count(1), 'alpha': POSITIVE, 'targets[*]': TEXT,
  'steps': _count(1), 'batch': _count(1), 'learning_rate': RATE,
}  # fmt: skip
_PENALTY = {
  'weight': NOT_NEGATIVE, 'teacher': TEXT, 'prompts': TEXT, **_TEACHER,
}  # fmt: skip
_NIGHT = {
  'num_updates': _count(1), 'micro_batches': _count(1),
  'updates_per_round': _count(1), 'priority': NOT_NEGATIVE,
  'sender_after_sleep': TEXT, 'into': TEXT, 'full': TEXT,
  'start': TEXT,
  'on_policy': DECAY, 'on_policy_after': SHARE, 'beta': SHARE,
  'temperature': NOT_NEGATIVE, 'max_new': _count(1), 'max_length': _count(2),
  'prompt_width': _count(1), 'block_tokens': _count(1),
  'block_vocab': _count(1),
}  # fmt: skip
_IMITATION = {
  'alpha': SHARE, 'gamma': SHARE, 'threshold': SHARE, 'cuts': _count(1),
  'completions': _count(1), 'judge': TEXT, 'stop_likelihood': NOT_NEGATIVE,
  'stop_repetition': NOT_NEGATIVE,
}  # fmt: skip
_ADAPTIVE = {
  'on': FLAG, 'min_updates': _count(1), 'tolerance': NOT_NEGATIVE,
  'patience': _count(1), 'decay': DECAY,
}  # fmt: skip
_SECTIONS: dict[str, dict[str, Rule]] = {
  '': {
    'name': TEXT, 'seeds[*]': Rule(int, 0, _LARGEST_SEED),
    'strategies[*]': TEXT,
    'evaluate_samples': _count(0), 'writers[*]': TEXT, 'compile_cache': TEXT,
  },
  'data': {
    'dataset': TEXT, 'extra_days': TEXT, 'growing': FLAG, 'too_long': TEXT,
    'order': _count(0), 'context': _count(3), 'max_prompt': _count(2),
    'batch_size': _count(1),
    'day_batch_size': _count(0), 'pack': FLAG, 'loss_on': TEXT,
    'prefix': _count(1), 'overlap': _count(-1),
  },
  # Of all datasets; each refuses the settings of the others.
  'data.settings': {
    'num_pretrain': _count(0), 'num_days': _count(1),
    'people_per_day': _count(1), 'attributes': _count(1), 'values': _count(2),
    'readings': _count(0), 'practice': _count(0), 'longest': _count(1),
    'choices_per_task': _count(0), 'pretrain_classes': _count(1),
    'classes_per_day': _count(1), 'texts_per_class': _count(1),
    'sentences': _count(20), 'num_probes': _count(1), 'english': TEXT,
    'change': TEXT, 'subjects_per_day': _count(1),
    'problems_per_day': _count(1), 'samples': _count(1), 'max_new': _count(1),
    'temperature': NOT_NEGATIVE,
    'passages_per_day': _count(1), 'words': _count(0), 'keys': _count(1),
    'digits': _count(1), 'documents_per_day': _count(1), 'page': _count(1),
    # Of `agent`.
    'reuse': FLAG, 'pretrain_rows': _count(1), 'first_days': _count(1),
    'tasks_per_day': _count(1), 'examples': _count(1),
    'probes_per_task': _count(1),
    # Of `images`.
    'size': _count(1), 'grey_levels': Rule(int, 2, 10), 'noise': SHARE,
    'images_per_class': _count(1), 'probes_per_class': _count(1),
    # Of `domains`.
    'domains[*]': TEXT, 'items_per_day': _count(3),
  },
  'tokenizer': {'kind': TEXT, 'vocab_size': _count(258)},
  'model': {
    'width': _count(1), 'num_layers': _count(1), 'num_heads': _count(1),
    'num_kv_heads': _count(1), 'head_size': _count(2), 'arrangement': TEXT,
    'layer_levels[*]': _count(1), 'router': TEXT, 'top_k': _count(0),
    'gate_bias': NUMBER, 'gated_experts': FLAG, 'qk_norm': FLAG,
    'qk_norm_whole': FLAG, 'qkv_bias': FLAG, 'out_bias': FLAG, 'tied': FLAG,
    'rope_theta': POSITIVE, 'norm_eps': POSITIVE, 'act': TEXT,
    'norm_offset': NUMBER, 'pre_norms': FLAG, 'post_norms': FLAG,
    'embed_scale': POSITIVE, 'query_scale': NOT_NEGATIVE, 'attention': TEXT,
    'attention_cap': NOT_NEGATIVE, 'logit_cap': NOT_NEGATIVE,
    'window': _count(0), 'local[*]': FLAG, 'rotated[*]': FLAG,
    'local_theta': NOT_NEGATIVE, 'unroll': _count(1), 'looped': FLAG,
    'remat': TEXT, 'products': TEXT,
  },
  'levels[*]': {
    'hidden': _count(1), 'slots': _count(0), 'rank': _count(0),
    'update_period': _count(1, model_config.INFINITE),
    # Also texts such as '5 days', see `schedule.checks`.
    'sleep_period': ANY, 'context_sleep_period': ANY, 'beside': FLAG,
  },
  'levels[*].night': {
    **_NIGHT, **_OPTIMIZER, 'sequences': _count(1), 'draws': _count(1),
  },
  'levels[*].night.teachers[*]': {'teacher': TEXT, 'prompts': TEXT, **_TEACHER},
  'levels[*].night.imitation': _IMITATION,
  'levels[*].night.adaptive': _ADAPTIVE,
  'pretrain': {
    'restore': TEXT, 'base_model': TEXT, 'dtype': TEXT, 'steps': _count(0),
  },
  'pretrain.optimizer': _OPTIMIZER,
  'wake': {
    'steps': _count(1), 'epochs': NOT_NEGATIVE, 'micro_batches': _count(1),
    'block_tokens': _count(0), 'depth[*]': SHARE,
    'final': SHARE,
  },
  # 0: the level is not changed awake, as in configs/documents.py.
  'wake.optimizers[*]': _OPTIMIZER | {'learning_rate': RATE_OR_0},
  'wake.kl_penalty': _PENALTY,
  'wake.second_kl_penalty': _PENALTY,
  'fine_tune': _OPTIMIZER,
  'lora': {'rank': _count(1), 'targets[*]': TEXT},
  'lora.optimizer': _OPTIMIZER,
  'ewc': {'weight': NOT_NEGATIVE, 'decay': SHARE, 'batches': _count(1)},
  'lwf': {'weight': NOT_NEGATIVE, 'temperature': POSITIVE},
  'anchor_kl': {
    'weight': NOT_NEGATIVE, 'texts': _count(1), 'sequences': _count(1),
  },
  'projected': {'energy': SHARE, 'batches': _count(1)},
  'merge': {'rank': _count(1), 'targets[*]': TEXT},
  'merge.optimizer': _OPTIMIZER,
  'olora': {
    'rank': _count(1), 'targets[*]': TEXT, 'weight': NOT_NEGATIVE,
    'tasks': _count(1),
  },
  'olora.optimizer': _OPTIMIZER,
  'protoada': {
    'rank': _count(1), 'targets[*]': TEXT, 'threshold': Rule(float, -1, 1),
    'batches': _count(1), 'tasks': _count(1),
  },
  'protoada.optimizer': _OPTIMIZER,
  'cartridge': {
    'tokens': _count(1), 'tasks': _count(1), 'sequences': _count(1),
    'max_new': _count(0),
  },
  'cartridge.optimizer': _OPTIMIZER,
  'sparse': {'units': SHARE, 'used': SHARE, 'batches': _count(1)},
  'refresh': {'steps': _count(0)},
  'rollback': {'share': SHARE, 'batches': _count(1)},
  'sdft': {
    'decay': SHARE, 'beta': SHARE, 'sequences': _count(1), 'max_new': _count(0),
  },
  'opsd': {'beta': SHARE, 'sequences': _count(1), 'max_new': _count(0)},
  'grpo': {  # A group of one answer has no advantage.
    'prompts': _count(1), 'group': _count(2), 'beta': NOT_NEGATIVE,
    'max_new': _count(0),
  },
  'icl': {'width': _count(2)},
  'rag': {'width': _count(2), 'rows': _count(1)},
  'klda': {'features': _count(1), 'width': POSITIVE, 'ridge': POSITIVE},
  'inca': {'top_k': _count(1), 'ridge': POSITIVE},
  'tune': {'learning_rates[*]': RATE, 'experiences': _count(1)},
  'replay': {
    'store': TEXT, 'pretrain': _count(0), 'past': _count(0), 'day': _count(0),
    'own_texts': _count(0), 'about_people': _count(0),
  },
  'consolidate': _NIGHT,
  'consolidate.teachers[*]': {'teacher': TEXT, 'prompts': TEXT, **_TEACHER},
  'consolidate.imitation': _IMITATION,
  'consolidate.adaptive': _ADAPTIVE,
  'expert_optimizer': _OPTIMIZER,
  'dream': {
    'on': FLAG, 'order': TEXT, 'rounds': _count(1), 'start': TEXT,
    'candidates': _count(1), 'texts': _count(1), 'temperature': NOT_NEGATIVE,
    'whole': FLAG, 'novelty': FLAG, 'importance': TEXT, 'top': _count(0),
    'random': _count(0), 'repeats': _count(1), 'score': TEXT,
    'margin': NOT_NEGATIVE, 'old': _count(1), 'template_share': SHARE,
    'sequences': _count(1), 'reading': _count(0), 'num_updates': _count(1),
    'updates_per_round': _count(1), 'learning_rate': RATE,
  },
  'dream.trial': _ADAPTER,
  'dream.writer': _ADAPTER,
  'self_edit': _ADAPTER,
  'guard': {'on': FLAG, 'tolerance': SHARE},
  'ability': {
    'text': TEXT, 'text_tokens': _count(1), 'full_text_tokens': _count(1),
    'reading': TEXT, 'reading_questions': _count(1),
    'full_reading_questions': _count(1), 'prompts': _count(0),
    'max_new': _count(1), 'form': TEXT,
  },
  'questions': {
    'on': FLAG, 'per_sentence': _count(1), 'attempts': _count(1),
    'temperature': NOT_NEGATIVE, 'forms[*]': TEXT, 'about_subjects': _count(0),
  },
  'evaluate': {'chunk': _count(1), 'held_out_batches': _count(0)},
  'checkpoint': {
    'keep': _count(1), 'disk_budget_bytes': Rule(int, 0, also=(None,)),
    'every_seconds': NOT_NEGATIVE,
  },
  'compare': {'orders[*]': _count(0), 'memory_gib': NOT_NEGATIVE},
  'mesh': {
    'data': _count(1, -1), 'fsdp': _count(1), 'sequence': _count(1),
    'tensor': _count(1),
  },
}  # fmt: skip
RULES: Mapping[str, Rule] = {
  f'{section}.{field}' if section else field: rule
  for section, fields in _SECTIONS.items()
  for field, rule in fields.items()
}


def check(config: Mapping[str, Any]) -> None:
  """Checks the type and the range of every field.

  Args:
    config: as JSON returns it, with all sections in place.

  Raises:
    ConfigError: values are outside their ranges; lists the first ten.
  """
  wrong = [*_faults(config, '')]
  if wrong:
    more = len(wrong) - _NUM_SHOWN
    shown = wrong[:_NUM_SHOWN] + ([f'and {more} more.'] if more > 0 else [])
    raise errors.ConfigError('\n'.join(shown))


def rule_of(path: str) -> Rule | None:
  """Returns the rule of a field such as 'wake.optimizers[0].clip', if any."""
  return RULES.get(re.sub(r'\[\d+\]', '[*]', path))


def _faults(value: Any, path: str) -> Iterator[str]:
  """Yields a sentence for each field of a part of a config that is wrong."""
  is_list = isinstance(value, (list, tuple))
  rule = rule_of(path)
  if rule is None and isinstance(value, Mapping):
    for key, inner in value.items():
      yield from _faults(inner, f'{path}.{key}' if path else str(key))
  elif rule is None and is_list:
    for number, inner in enumerate(value):
      yield from _faults(inner, f'{path}[{number}]')
  elif rule is None and rule_of(f'{path}[0]'):
    yield f'config.{path} is {value!r}: expected a list or tuple.'
  elif not (rule or ANY).allows(value):
    expected = (rule or ANY).expected(value)
    yield f'config.{path} is {value!r}: expected {expected}.'

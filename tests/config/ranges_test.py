"""Every field of every config has a type and a range, which are checked."""

import copy
import json
import math
import re

import pytest

from configs import base
from sleep_jax.config import checks, files, ranges, schema

LISTS = ('seeds', 'strategies', 'tune.learning_rates')


def _plain(config):
  """Returns a config as JSON returns it."""
  return json.loads(config.to_json_best_effort())


def _leaves(value, path=''):
  """Yields path and value of every field that is no dict or list."""
  if isinstance(value, dict):
    for key, inner in value.items():
      yield from _leaves(inner, f'{path}.{key}' if path else key)
  elif isinstance(value, list):
    for number, inner in enumerate(value):
      yield from _leaves(inner, f'{path}[{number}]')
  else:
    yield path, value


def _with(plain, path, value):
  """Returns a copy of a config with another value at a path."""
  plain = copy.deepcopy(plain)
  *parents, last = re.findall(r'\w+', path)
  inner = plain
  for part in parents:
    inner = inner[int(part) if part.isdigit() else part]
  inner[int(last) if last.isdigit() else last] = value
  return plain


def _outside(rule):
  """Returns values that a rule for numbers must refuse."""
  values = [True, '1', None, [1], math.nan, math.inf, -math.inf]
  if rule.kind is int:
    values += [1.5, 2.0]
  if rule.least > -math.inf:
    values.append(rule.least if rule.open_least else rule.least - 2)
  if rule.most < math.inf:
    values.append(rule.most if rule.open_most else rule.most + 1)
  return [x for x in values if x not in rule.also or x is True]


def _fields():
  """Returns every field of all configs, with one config that has it."""
  found = {}
  for name in files.names():
    plain = _plain(files.load(name))
    for path, value in _leaves(plain):
      found.setdefault(re.sub(r'\d+', '0', path), (path, plain, value))
  return found.values()


def test_every_number_and_flag_of_all_configs_has_a_rule():
  for path, _, value in _fields():
    if isinstance(value, (bool, int, float)):
      rule = ranges.rule_of(path)
      assert rule is not None, f'{path} has no row in config/ranges.py'
      assert rule.allows(value), path


def test_every_number_outside_its_range_is_refused_with_its_full_name():
  tried = 0
  for path, plain, value in _fields():
    if isinstance(value, bool) or not isinstance(value, (int, float)):
      continue
    for outside in _outside(ranges.rule_of(path)):
      name = re.escape(f'config.{path} is {outside!r}: expected')
      with pytest.raises(ValueError, match=name):
        checks.check(_with(plain, path, outside))
      tried += 1
  assert tried > 500


def test_every_flag_and_text_of_another_type_is_refused():
  plain = _plain(base.get_config())
  tried = 0
  for path, _ in _leaves(plain):
    rule = ranges.rule_of(path)
    if rule is not None and rule.kind in (bool, str):
      for wrong in (1, 1.5, None, 'yes' if rule.kind is bool else True):
        with pytest.raises(ValueError, match=re.escape(f'config.{path} is')):
          ranges.check(_with(plain, path, wrong))
        tried += 1
  assert tried > 100


def test_every_known_key_of_a_config_has_a_rule():
  """Also of the keys that no config sets, such as those of optional fields."""
  of_any_kind = re.compile(r'data\.(path|settings\.)|model\.\w+_scaling')
  paths = []
  for dataset in schema.DATASETS:
    paths += [*_known(schema.schema({'data': {'dataset': dataset}}))]
  missing = {
    path
    for path in paths
    if not ranges.rule_of(path)
    and not ranges.rule_of(f'{path}[0]')
    and not of_any_kind.match(path)
  }
  assert not missing


def _known(schema, path=''):
  if isinstance(schema, bool):
    yield path
  elif isinstance(schema, list):
    yield from _known(schema[0], f'{path}[0]')
  else:
    for key, inner in schema.items():
      yield from _known(inner, f'{path}.{key}' if path else key)


@pytest.mark.parametrize(
  ('path', 'value', 'message'),
  [
    (
      'expert_optimizer.learning_rate', math.nan,
      'config.expert_optimizer.learning_rate is nan: expected a finite number, '
      'above 0 and at most 1',
    ),
    ('data.batch_size', 0, 'is 0: expected a whole number, 1 or more'),
    ('wake.steps', 2**31, r'is 2147483648: .* 1 or more and at most 2,147,483'),
    ('expert_optimizer.b2', 1, 'b2 is 1: .* 0 or more and below 1'),
    ('mesh.data', 0, "mesh.data is 0: expected .*, 1 or more or -1"),
    ('consolidate.teachers[1].draws', 0, r'teachers\[1\].draws is 0: expected'),
    ('consolidate.teachers[0].cut_share', 1.5, 'share is 1.5: .* at most 1'),
    ('levels[0].sleep_period', 'day', "is 'day': .* 'experience', a number of"),
    ('levels[0].update_period', 1.0, r'levels\[0\].update_period is 1.0: '),
    ('consolidate.priority', -1.0, 'priority is -1.0: expected .* 0 or more'),
    ('consolidate.on_policy', 1.0, 'on_policy is 1.0: .* below 1'),
    ('consolidate.beta', -0.1, 'beta is -0.1: .* 0 or more and at most 1'),
    ('consolidate.beta', 1.5, 'beta is 1.5: .* 0 or more and at most 1'),
    ('consolidate.imitation.stop_likelihood', -1.0, '-1.0: .* 0 or more'),
    ('consolidate.block_vocab', 0, 'block_vocab is 0: .* 1 or more'),
    ('wake.kl_penalty.weight', -1.0, 'weight is -1.0: .* 0 or more'),
    ('wake.kl_penalty.bos_share', 2.0, 'bos_share is 2.0: .* at most 1'),
    ('dream.margin', math.nan, 'config.dream.margin is nan'),
    ('dream.texts', 0, 'config.dream.texts is 0'),
    ('dream.trial.rank', 0, 'config.dream.trial.rank is 0'),
    ('dream.temperature', -1.0, 'config.dream.temperature is -1.0'),
    ('dream.on', 1, 'config.dream.on is 1: expected True or False'),
    ('seeds', 3, 'config.seeds is 3: expected a list or tuple'),
    ('strategies', 'sleep', "config.strategies is 'sleep': expected a list"),
    ('wake.steps', [3], r'config.wake.steps is \[3\]: expected a whole number'),
    ('data.settings.num_days', 0, 'config.data.settings.num_days is 0'),
  ],
)  # fmt: skip
def test_the_error_names_field_value_and_what_is_expected(path, value, message):
  plain = _plain(base.get_config())
  plain['data']['settings']['num_days'] = 3
  with pytest.raises(ValueError, match=message):
    checks.check(_with(plain, path, value))


def test_all_wrong_fields_are_listed_at_once():
  plain = _plain(base.get_config())
  for path in ('wake.steps', 'replay.day', 'guard.tolerance'):
    plain = _with(plain, path, -1)
  with pytest.raises(ValueError) as caught:
    checks.check(plain)
  assert [line.split()[0] for line in str(caught.value).split('\n')] == [
    'config.wake.steps', 'config.replay.day', 'config.guard.tolerance'
  ]  # fmt: skip


@pytest.mark.parametrize('path', LISTS)
def test_a_list_without_entries_is_refused(path):
  plain = _with(_plain(base.get_config()), path, [])
  with pytest.raises(ValueError, match=f'config.{path} is empty'):
    checks.check(plain)


def test_a_rate_of_0_is_for_levels_that_do_not_change_awake():
  plain = _plain(base.get_config())
  checks.check(_with(plain, 'wake.optimizers[0].learning_rate', 0.0))
  with pytest.raises(ValueError, match='fine_tune.learning_rate is 0.0'):
    checks.check(_with(plain, 'fine_tune.learning_rate', 0.0))

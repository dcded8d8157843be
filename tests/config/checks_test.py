"""A config that says too much, too little or nonsense is told so in words."""

import json

import ml_collections
import pytest

from configs import (
  base,
  cost,
  dream,
  facts,
  facts_literal,
  intents,
  jsonl,
  levels,
  seeding,
  smoke,
)  # fmt: skip
from sleep_jax.config import checks as config_checks
from sleep_jax.config import files
from sleep_jax.model import config as config_lib
from sleep_jax.schedule import capacity, events
from sleep_jax.schedule import checks as schedule_checks
from sleep_jax.sleep import settings_checks

WAKE = dict(
  steps=3,
  optimizers=(),
  micro_batches=1,
  block_tokens=0,
  kl_penalty=dict(weight=0.0, sequences=1, draws=1),
)


def _plain(config):
  return json.loads(config.to_json_best_effort())


@pytest.mark.parametrize(
  'config', [base, facts, facts_literal, intents, jsonl, levels, smoke]
)
def test_our_own_configs_are_sound(config):
  config_checks.check(_plain(config.get_config()))


@pytest.mark.parametrize(
  ('place', 'key', 'said'),
  [
    ('', 'consolidte', 'config.consolidte is no key .* config.consolidate'),
    ('consolidate', 'num_update', 'nearest .* config.consolidate.num_updates'),
    ('data', 'contxt', 'nearest .* config.data.context'),
    ('data.settings', 'num_day', 'nearest .* config.data.settings.num_days'),
    ('model', 'vocab_size', 'config.model.vocab_size is no key'),
    (
      'pretrain.optimizer',
      'rate',
      'nearest .* config.pretrain.optimizer.learning_rate',
    ),
    ('mesh', 'tensors', 'nearest .* config.mesh.tensor'),
    ('checkpoint', 'folder', 'config.checkpoint.folder is no key'),
    ('guard', 'tolerence', 'nearest .* config.guard.tolerance'),
    ('tokenizer', 'size', 'nearest .* config.tokenizer.vocab_size'),
  ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(place, key, said):
  config = base.get_config()
  section = files.find(config, place) if place else config
  section[key] = 1
  with pytest.raises(ValueError, match=said):
    config_checks.check(_plain(config))


@pytest.mark.parametrize(
  ('shards', 'said'),
  [
    (
      5,
      '5 devices, .* the 24 places of config.data.context: .* 25, or .* to 4',
    ),
    (8, '8 devices, .* 12 places of config.consolidate.max_length: .* 16, or'),
  ],
)
def test_rows_that_devices_cannot_share_out_are_named(shards, said):
  config = base.get_config()
  config.data.context = 24
  config.mesh.sequence = shards
  with pytest.raises(ValueError, match=said):
    config_checks.check(_plain(config))


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    (dict(levels=(dict(hiden=3),)), r'config.levels\[0\].hiden is no key.*hid'),
    (dict(levels=3), 'config.levels is 3: expected a list'),
    (dict(model=3), 'config.model is 3: expected a dict of width'),
    (dict(wake=dict(steps=3)), 'config.wake.optimizers is missing'),
    (
      dict(wake=WAKE | dict(optimizers=())),
      'optimizers has 0 entries, but 1 levels move',
    ),
    (
      dict(wake=WAKE | dict(steps=0, optimizers=(dict(learning_rate=1.0),))),
      'config.wake.steps is 0: set it to 1',
    ),
    (dict(seeds=()), 'config.seeds and config.strategies need one'),
    (
      dict(expert_optimizer=dict(learning_rate=1.0, warmup=9, decay_steps=8)),
      'config.expert_optimizer: warmup 9 leaves nothing of decay_steps 8',
    ),
  ],
)
def test_what_does_not_fit_is_named(change, said):
  plain = _plain(base.get_config()) | json.loads(json.dumps(change))
  with pytest.raises(ValueError, match=said):
    config_checks.check(plain)


def test_a_warm_up_longer_than_the_night_is_named():
  config = base.get_config()
  config.consolidate.num_updates = 20
  config.expert_optimizer = dict(learning_rate=1.0, warmup=20)
  with pytest.raises(ValueError, match='expert_optimizer: warmup 20 .* 20, '):
    config_checks.check(_plain(config))


def test_an_unknown_world_is_told_which_there_are():
  config = base.get_config()
  config.data.dataset = 'fact'
  with pytest.raises(ValueError, match="'fact': expected one of .*'intents'"):
    config_checks.check(_plain(config))


def test_every_key_of_the_base_config_is_needed_or_has_a_default():
  """Taking any key away raises a sentence about it, or changes nothing."""
  plain = _plain(base.get_config())
  for section in plain:
    less = {k: v for k, v in plain.items() if k != section}
    with pytest.raises(ValueError, match=f'config.{section}|world is None'):
      config_checks.check(less)


@pytest.mark.parametrize(
  ('name', 'value'),
  [
    ('wake.steps', 1),
    ('levels[1].slots', 7),
    ('list[0]', 2),
  ],
)
def test_a_dotted_name_finds_its_value(name, value):
  config = ml_collections.ConfigDict(
    dict(wake=dict(steps=1), levels=(dict(slots=0), dict(slots=7)), list=(2,))
  )
  assert files.find(config, name) == value


@pytest.mark.parametrize(
  ('name', 'said'),
  [
    ('wake.step', 'config.wake.step is no key .* config.wake.steps'),
    ('wake.steps.x', "config.wake.steps is 1: it has no key 'x'"),
    ('levels[2].slots', r'config.levels has 1 entries, from \[0\]'),
    ('levels[0].slot', r'the nearest .* is config.levels\[0\].slots'),
    ('wake[0]', r'config.wake is no list'),
  ],
)
def test_a_name_of_nothing_is_told_what_is_near(name, said):
  config = ml_collections.ConfigDict(
    dict(wake=dict(steps=1), levels=(dict(slots=0),))
  )
  with pytest.raises(ValueError, match=said):
    files.find(config, name)


def test_a_config_file_that_is_missing_lists_those_there_are(tmp_path):
  (tmp_path / 'mine.py').write_text('')
  with pytest.raises(FileNotFoundError, match='no such file.*are: mine.py'):
    files.load(str(tmp_path / 'main.py'))


@pytest.mark.parametrize(
  'name', [f'seeding.py:{row}' for row in seeding.names()]
  + [f'dream.py:{row}' for row in dream.names()]
  + [f'cost.py:{step}' for step in cost.STEPS]
  + ['banks.py', 'context.py', 'documents.py', 'facts.py', 'passages.py',
     'smoke.py'],
)  # fmt: skip
def test_every_config_makes_a_night(name):
  config = files.load(f'configs/{name}')
  plain = json.loads(config.to_json_best_effort())
  config_checks.check(plain)
  made = settings_checks.make_settings(**plain['consolidate'])
  assert made.rounds >= 1
  levels = [config_lib.Level(**level) for level in plain['levels']]
  schedule_checks.check_periods(levels)
  steps = events.steps_per_experience(levels, config.wake.steps)
  plan = events.make_events(
    levels, steps=steps,
    num_experiences=plain['data']['settings'].get('num_days', 10),
  )  # fmt: skip
  overflow = 'none' if made.into == 'base' else made.full
  capacity.audit(levels, plan, overflow=overflow)


def test_a_row_that_is_none_is_named():
  with pytest.raises(ValueError, match='no_such: expected one of full, '):
    files.load('configs/seeding.py:no_such')


def test_the_last_step_of_the_cost_is_what_facts_does():
  last, whole = cost.get_config(), facts.get_config()
  assert _plain(last)['consolidate'] == _plain(whole)['consolidate']
  assert last.expert_optimizer == whole.expert_optimizer
  first = cost.get_config('first')
  assert first.consolidate.num_updates > whole.consolidate.num_updates
  with pytest.raises(ValueError, match='none: expected one of first, '):
    cost.get_config('none')

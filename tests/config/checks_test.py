"""Checks of a config name what is unknown, missing or inconsistent."""

import json

import pytest

from configs import base, cost, dream, facts, seeding
from configs.small import table1, table3
from sleep_jax import errors
from sleep_jax.config import checks as config_checks
from sleep_jax.config import files, schema
from sleep_jax.model import config as config_lib
from sleep_jax.schedule import capacity, events
from sleep_jax.schedule import checks as schedule_checks
from sleep_jax.sleep import sender_settings, settings_checks
from sleep_jax.strategies import registry

WAKE = dict(
  steps=3,
  optimizers=(),
  micro_batches=1,
  block_tokens=0,
  kl_penalty=dict(weight=0.0, sequences=1, draws=1),
)


def _plain(config):
  """Returns a config as JSON returns it."""
  return json.loads(config.to_json_best_effort())


@pytest.mark.parametrize(
  ('section', 'key', 'message'),
  [
    ('', 'consolidte', 'config.consolidte is not a key .* config.consolidate'),
    ('consolidate', 'num_update', 'nearest .* config.consolidate.num_updates'),
    ('data', 'contxt', 'nearest .* config.data.context'),
    ('data.settings', 'num_day', 'nearest .* config.data.settings.num_days'),
    ('model', 'vocab_size', 'config.model.vocab_size is not a key'),
    (
      'pretrain.optimizer',
      'rate',
      'nearest .* config.pretrain.optimizer.learning_rate',
    ),
    ('mesh', 'tensors', 'nearest .* config.mesh.tensor'),
    ('checkpoint', 'folder', 'config.checkpoint.folder is not a key'),
    ('guard', 'tolerence', 'nearest .* config.guard.tolerance'),
    ('model', 'router_spread', 'router_spread was removed after revision a95'),
    ('consolidate', 'average_decay', 'average_decay was removed after revis'),
    ('tokenizer', 'size', 'nearest .* config.tokenizer.vocab_size'),
  ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(
  section, key, message
):
  config = base.get_config()
  found = files.find(config, section) if section else config
  found[key] = 1
  with pytest.raises(ValueError, match=message):
    config_checks.check(_plain(config))


@pytest.mark.parametrize(
  ('num_devices', 'message'),
  [
    (
      5,
      '5 devices, .* 24 positions of config.data.context: .* 25, or .* to 4',
    ),
    (
      8,
      '8 devices, .* 12 positions of config.consolidate.max_length: .* 16, or',
    ),
  ],
)
def test_lengths_that_the_sequence_axis_does_not_divide_are_named(
  num_devices, message
):
  config = base.get_config()
  config.data.context = 24
  config.mesh.sequence = num_devices
  with pytest.raises(ValueError, match=message):
    config_checks.check(_plain(config))


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(levels=(dict(hiden=3),)), r'config.levels\[0\].hiden is not .*hid'),
    (dict(levels=3), 'config.levels is 3: expected a list'),
    (dict(model=3), 'config.model is 3: expected a dict of width'),
    (dict(model='dict(width=8)'), "In a flag write {'name': value}"),
    (dict(wake=dict(steps=3)), 'config.wake.optimizers is missing'),
    (
      dict(wake=WAKE | dict(optimizers=())),
      'optimizers has 0 entries, but 1 levels are trained',
    ),
    (
      dict(wake=WAKE | dict(steps=0, optimizers=(dict(learning_rate=1.0),))),
      'config.wake.steps is 0: expected .* 1 or more',
    ),
    (dict(seeds=[0, 1, 0]), r'config.seeds is \[0, 1, 0\]: .* twice'),
    (
      dict(expert_optimizer=dict(learning_rate=float('nan'))),
      'config.expert_optimizer.learning_rate is nan: expected a finite',
    ),
    (
      dict(tune=dict(learning_rates=[1.0, float('inf')], experiences=1)),
      r'config.tune.learning_rates\[1\] is inf',
    ),
    (dict(seeds=()), 'config.seeds is empty: expected one'),
    (
      dict(expert_optimizer=dict(learning_rate=1.0, warmup=9, decay_steps=8)),
      'config.expert_optimizer: warmup is 9 steps, .* is 8',
    ),
  ],
)
def test_inconsistent_values_are_named(change, message):
  plain = _plain(base.get_config()) | json.loads(json.dumps(change))
  with pytest.raises(ValueError, match=message):
    config_checks.check(plain)


@pytest.mark.parametrize('night', [dict(full='absorb'), dict(into='base')])
@pytest.mark.parametrize('of_a_level', [False, True])
def test_16_bit_weights_that_a_night_trains_are_refused(night, of_a_level):
  c = base.get_config()
  c.strategies = ('sleep',)
  c.pretrain.dtype = 'bfloat16'
  c.pretrain.base_model = 'somewhere'
  config_checks.check(_plain(c))
  if of_a_level:
    c.levels = (c.levels[0] | dict(night=night), *c.levels[1:])
  else:
    c.consolidate.update(night)
  with pytest.raises(ValueError, match="dtype is 'bfloat16'.*which trains it"):
    config_checks.check(_plain(c))


def test_a_warmup_as_long_as_a_night_is_named():
  config = base.get_config()
  config.consolidate.num_updates = 20
  config.expert_optimizer = dict(learning_rate=1.0, warmup=20)
  with pytest.raises(
    ValueError, match='expert_optimizer: warmup is 20 .* is 20'
  ):
    config_checks.check(_plain(config))


def test_every_section_of_the_base_config_is_required():
  plain = _plain(base.get_config())
  plain['strategies'] += registry.settings()  # Which alone need their sections.
  for section in plain:
    rest = {k: v for k, v in plain.items() if k != section}
    if section in schema.OPTIONAL_SECTIONS:
      config_checks.check(rest)  # A session of an earlier version lacks it.
      continue
    with pytest.raises(ValueError, match=f'config.{section}'):
      config_checks.check(rest)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(form='html'), "ability.form is 'html': expected one of"),
    (dict(prompts=51), 'ability.prompts is 51: 50 requests are built in'),
    (dict(text_tokens=9, full_text_tokens=8), 'text_tokens is 9, above'),
    (
      dict(reading_questions=4, full_reading_questions=3),
      'reading_questions is 4, above config.ability.full_reading_questions, 3',
    ),
    (dict(max_new=0), 'ability.max_new is 0: expected'),
    (dict(prompts=-1), 'ability.prompts is -1: expected'),
    (dict(texts=1), 'ability.texts is not a key'),
  ],
)
def test_impossible_sets_of_an_ability_are_named(changes, message):
  plain = _plain(base.get_config())
  plain['ability'] |= changes
  with pytest.raises(ValueError, match=message):
    config_checks.check(plain)


@pytest.mark.parametrize(
  'name', files.names()
  + [f'seeding:{row}' for row in seeding.names()]
  + [f'dream:{row}' for row in dream.names()]
  + [f'cost:{step}' for step in cost.STEPS]
  + [f'small/table1:{row}' for row in table1.names()]
  + [f'small/table3:{row}' for row in table3.names()],
)  # fmt: skip
def test_every_config_passes_its_checks_and_has_a_schedule(name):
  config = files.load(name)
  plain = _plain(config)
  config_checks.check(plain)
  assert settings_checks.make_settings(**plain['consolidate']).rounds >= 1
  levels = [*map(config_lib.make_level, plain['levels'])]
  schedule_checks.check_periods(levels)
  steps = events.steps_per_experience(levels, config.wake.steps)
  plan = events.make_events(
    levels, steps=steps,
    num_experiences=plain['data']['settings'].get('num_days', 10),
  )  # fmt: skip
  overflow = sender_settings.overflow(plain, events.sleepers(levels))
  capacity.audit(levels, plan, overflow=overflow)


def test_the_last_step_of_the_cost_study_is_the_facts_study():
  last, facts_config = cost.get_config(), facts.get_config()
  assert _plain(last)['consolidate'] == _plain(facts_config)['consolidate']
  assert last.expert_optimizer == facts_config.expert_optimizer
  first = cost.get_config('first')
  num_updates = facts_config.consolidate.num_updates
  assert first.consolidate.num_updates > num_updates
  with pytest.raises(ValueError, match='none: expected a step, one of first, '):
    cost.get_config('none')


def test_a_part_of_the_depth_is_refused_where_levels_have_their_own_blocks():
  c = base.get_config()
  c.wake.depth = (0.5, 1.0)
  config_checks.check(_plain(c))
  c.model.arrangement = 'depth'
  with pytest.raises(errors.ConfigError, match=r'wake.depth is \(0.5, 1.0\)'):
    config_checks.check(_plain(c))


def test_an_unknown_kind_of_replay_is_refused():
  c = base.get_config()
  c.replay.store = 'answers'
  message = "replay.store is 'answers': expected one of .*'rows'"
  with pytest.raises(ValueError, match=message):
    config_checks.check(_plain(c))

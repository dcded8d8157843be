"""A full bank is absorbed into the base of its level, and the run continues."""

import jax
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.runs import expert_history
from tests import testing, tiny_study

BASE = 'blocks/levels/2/base/mlp/down'
BANK = 'blocks/levels/2/experts/B'


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  config = tiny_study.config(prompts=('old', 'day'))
  config.data.settings.num_days = 3
  fast, own = config.levels
  night = dict(num_updates=6, updates_per_round=2, learning_rate=1e-2)
  config.levels = fast, own | dict(slots=2, night=night)
  config.consolidate.full = 'absorb'
  made = tiny_study.TinyStudy(config)
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


@pytest.fixture(scope='module')
def run(study, tmp_path_factory):
  return study.run('sleep', tmp_path_factory.mktemp('run'))


def test_the_bank_is_emptied_before_the_night_that_finds_it_full(run):
  nights = run[1]['nights']
  found = [(n['experience'], n['phase'], n['slot']) for n in nights]
  assert found == [
    (1, 'consolidate', 0), (2, 'consolidate', 1), (3, 'merge', None),
    (3, 'consolidate', 0),
  ]  # fmt: skip
  absorption = nights[2]
  assert absorption['updates'] == 6 and absorption['merged'] == [None, 0, 1]
  assert {*absorption['known']} == {'before', 'after'}


def test_the_base_moved_and_one_slot_is_in_use(study, run):
  weights, first = run[0].weights, study.initial_model.weights
  assert np.asarray(weights.active_NE).tolist() == [[0, 0], [1, 0]]
  moved = np.abs(np.asarray(weights.params[BASE]) - first.params[BASE])
  assert moved.max() > 0
  # The second slot is as untrained as the ones that nothing was put in.
  bank_LERD = np.asarray(weights.params[BANK])
  assert np.abs(bank_LERD[:, 0]).max() > 0 == np.abs(bank_LERD[:, 1]).max()


def test_the_history_says_that_the_base_holds_the_first_nights(run):
  history = run[1]['ledger']
  assert expert_history.holders(history) == {(2, None): [1, 2], (2, 0): [4]}
  assert expert_history.num_experts(history, 2) == (0, 1)
  with pytest.raises(errors.UsageError, match='the base of level 2, which can'):
    expert_history.expert_to_forget(history, 1)
  assert expert_history.expert_to_forget(history, 4) == ((2, 0), '')


def test_an_interrupted_absorption_ends_like_an_unbroken_one(
  study, run, tmp_path
):
  state, _ = study.run_in_pieces('sleep', tmp_path, every=5)
  assert testing.same(*map(jax.device_get, (run[0].weights, state.weights)))


def test_only_the_slowest_level_absorbs_its_bank():
  periods = (1, 'experience'), ('infinite', '2 days')
  config = tiny_study.config(*periods, prompts=('old', 'day'))
  config.consolidate.full = 'absorb'
  with pytest.raises(errors.ConfigError, match='only the slowest level, 3, ab'):
    tiny_study.TinyStudy(config).programs('sleep')

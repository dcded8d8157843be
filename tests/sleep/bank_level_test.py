"""A bank level collects experts, hands them over, and never moves its base."""

import jax
import numpy as np
import pytest

from sleep_jax.runs import expert_history
from tests import testing, tiny_study

PERIODS = (1, 'experience'), ('infinite', '2 days')
BANK = 'blocks/levels/2/base/'


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  config = tiny_study.config(*PERIODS)
  config.data.settings.num_days = 4
  fast, bank, slow = config.levels
  night = dict(num_updates=6, updates_per_round=2, draws=12, learning_rate=2e-2)
  config.levels = fast, bank | dict(night=night), slow
  made = tiny_study.TinyStudy(config)
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


@pytest.fixture(scope='module')
def run(study, tmp_path_factory):
  return study.run('sleep', tmp_path_factory.mktemp('run'))


def test_nights_of_each_level_have_their_own_length(run):
  nights = run[1]['nights']
  found = [(n['experience'], n['sender'], n['updates']) for n in nights]
  assert found == [
    (1, 1, 4), (2, 1, 4), (2, 2, 6), (3, 1, 4), (4, 1, 4), (4, 2, 6)
  ]  # fmt: skip


def test_the_bank_is_empty_after_its_night_and_its_base_never_moved(study, run):
  state = run[0]
  active_NE = np.asarray(state.weights.active_NE)
  assert active_NE.sum(1).tolist() == [0, 0, 2]
  before = study.initial_model.weights.params
  for path, leaf in state.weights.params.items():
    if path.startswith(BANK):
      np.testing.assert_array_equal(leaf, before[path])
  assert '2' not in state.opt and '2' not in state.anchor


def test_the_slow_level_learned_from_the_experts_of_the_bank(study, run):
  params = run[0].weights.params
  before = study.initial_model.weights.params
  written = np.asarray(params['blocks/levels/3/experts/B'])
  changed = written - np.asarray(before['blocks/levels/3/experts/B'])
  assert (np.abs(changed).max((0, 2, 3)) > 0).tolist() == [True] * 2 + [
    False
  ] * (changed.shape[1] - 2)


def test_the_history_follows_nights_through_the_handovers(run):
  history = run[1]['ledger']
  assert expert_history.holders(history) == {
    (3, 0): [1, 2, 3],
    (3, 1): [4, 5, 6],
  }
  assert expert_history.num_experts(history, 3) == (0, 0, 2)
  place, warning = expert_history.expert_to_forget(history, 2)
  assert place == (3, 0) and 'with nights [1, 3]' in warning


def test_an_interrupted_chain_ends_like_an_unbroken_one(study, run, tmp_path):
  state, record = study.run_in_pieces('sleep', tmp_path, every=7)
  assert testing.same(*map(jax.device_get, (run[0].weights, state.weights)))
  assert len(record['nights']) == 6

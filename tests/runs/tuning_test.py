"""A learning rate that diverges is never chosen."""

import contextlib
import json

import pytest

from configs import base
from sleep_jax import errors
from sleep_jax.evaluate import retention
from sleep_jax.runs import compatibility, inputs, tuning
from sleep_jax.strategies import registry
from tests import tiny_study


class Factory:
  """Opens runs of scripted accuracy; a rate without one diverges."""

  def __init__(self, accuracy):
    self._accuracy, self._rate = accuracy, None

  @contextlib.contextmanager
  def open_run(self, strategy, made, folder, *, rate, num_experiences):
    assert folder.name == f'rate_{rate:g}' and num_experiences == 2
    self._rate = rate
    yield self

  def run(self):
    if self._rate not in self._accuracy:
      raise errors.DivergedError(f'day_1: the loss is nan at {self._rate}.')
    return None, {'evaluations': self._accuracy[self._rate]}


@pytest.fixture
def choose(monkeypatch, tmp_path):
  """Returns a function that chooses among rates of scripted accuracy."""

  class Inputs:
    seed = 0
    initial_model = None

  made = Inputs()
  made.stream = type('Stream', (), {'experiences': [1, 2]})
  monkeypatch.setattr(inputs, 'read_dataset', lambda *args, **options: None)
  monkeypatch.setattr(inputs, 'make', lambda *args: made)
  monkeypatch.setattr(inputs, 'with_evaluator', lambda config, made, num: made)
  monkeypatch.setattr(tuning.dataclasses, 'replace', lambda made, **_: made)
  monkeypatch.setattr(
    retention, 'summarize',
    lambda acc: acc if isinstance(acc, dict) else {'acc': acc, 'la': None},
  )  # fmt: skip

  def choose(accuracy, progress=None, *, name='sft', **changes):
    config = base.get_config()
    config.update_from_flattened_dict(changes)
    (strategy,) = registry.make(name, num_levels=2)
    return tuning.choose_rate(
      config, strategy, made, Factory(accuracy), folder=tmp_path,
      own_folder=tmp_path,
      progress=progress or tiny_study.RecordingProgress(),
    )  # fmt: skip

  return choose


def test_the_best_of_the_rates_that_do_not_diverge_is_chosen(choose, tmp_path):
  progress = tiny_study.RecordingProgress()
  # 3e-4 diverges; the others have no accuracy above 0.
  assert choose({1e-3: None, 3e-3: 0.0}, progress) == 1e-3
  assert (
    'sft: rate 0.0003 diverges: day_1: the loss is nan'
    in (progress.messages[0])
  )
  kept = json.loads((tmp_path / 'tuning/sft/chosen.json').read_text())
  assert kept['chosen'] == 1e-3 and list(kept['diverged']) == ['0.0003']


def test_of_equal_final_accuracies_the_one_that_learned_more_is_chosen(choose):
  accuracy = {
    3e-4: {'acc': 0.1, 'la': 0.1}, 1e-3: {'acc': 0.1, 'la': 0.4},
    3e-3: {'acc': 0.0, 'la': 0.9},
  }  # fmt: skip
  assert choose(accuracy) == 1e-3


def test_if_all_rates_diverge_the_study_stops(choose, tmp_path):
  with pytest.raises(
    errors.DivergedError,
    match='each of config.tune.learning_rates diverges .* lowest, 0.0003: day_1'
    '.* Add lower rates',
  ):
    choose({})
  assert not (tmp_path / 'tuning/sft/chosen.json').exists()


def test_a_rate_is_chosen_again_for_other_rates_or_settings(choose):
  rates, weight = 'tune.learning_rates', 'ewc.weight'
  chosen = lambda best, **changes: choose({best: 1.0}, name='ewc', **changes)
  assert chosen(1e-3) == 1e-3
  assert chosen(3e-3) == 1e-3  # Nothing has changed.
  assert chosen(3e-3, **{weight: 2.0}) == 3e-3
  assert chosen(1e-3, **{weight: 2.0, rates: (1e-3, 1e-4)}) == 1e-3


def test_trials_of_a_rate_depend_on_the_settings_of_their_strategy(tmp_path):
  trial = tmp_path / 'tuning' / 'ewc' / f'{compatibility.TRIAL}0.001'
  assert compatibility.section(trial) == 'ewc'
  assert compatibility.section(tmp_path / 'seed_0' / 'ewc') == 'ewc'

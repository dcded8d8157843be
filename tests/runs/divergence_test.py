"""A phase that diverges stops, names its settings, and keeps the last state."""

import dataclasses
import json
import math
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from sleep_jax import errors, types
from sleep_jax.runs import compatibility, divergence, study
from sleep_jax.runs import context as context_lib
from sleep_jax.storage import checkpoint_reading
from sleep_jax.strategies import pretrain, registry
from tests import testing, tiny_study

one_device = tiny_study.one_device
NAN = float('nan')
VOCAB = 64  # Twice its logarithm is 8.3.


class NoCheckpoints:
  """Stands for checkpoints of which there are none yet."""

  def latest_progress(self):
    return None


@pytest.fixture
def monitor():
  """Returns a monitor of the day of a run that sleeps."""
  (strategy,) = registry.make('sleep', num_levels=2)
  plain = json.loads(base.get_config().to_json_best_effort())
  made = divergence.Monitor(
    VOCAB, divergence.advice(plain, strategy), NoCheckpoints()
  )
  made.begin('wake', 'sleep: day_3')
  return made


def test_a_loss_that_is_not_finite_is_named_with_phase_step_and_setting(
  monitor,
):
  monitor.observe('wake step 6', [2.5, 3.5])
  with pytest.raises(errors.DivergedError) as caught:
    monitor.observe('wake step 7', [NAN])
  message = str(caught.value)
  assert message.startswith(
    'sleep: day_3, wake step 7: the loss is nan (last losses: 2.5, 3.5, nan). '
  )
  assert 'No state was saved before.' in message
  assert 'config.wake.optimizers[0].learning_rate (0.001)' in message
  assert '--accept_changed_rates' in message


@pytest.mark.parametrize('value', [NAN, math.inf, np.array([1.0, -math.inf])])
def test_other_numbers_must_be_finite_as_well(monitor, value):
  with pytest.raises(errors.DivergedError, match='the gradient norm is'):
    monitor.observe('wake step 7', [2.0], gradient_norm=value)


def test_a_loss_explodes_if_it_is_high_five_times_in_a_row(monitor):
  monitor.observe('wake step 5', [4.0, 9.0, 9.0, 9.0, 9.0])
  assert monitor.is_high
  monitor.observe('wake step 6', [8.0])
  assert not monitor.is_high
  monitor.observe('wake step 10', [9.0] * 4)
  with pytest.raises(errors.DivergedError, match=r'above 8.32 five times'):
    monitor.observe('wake step 11', [9.0])


def test_a_phase_that_begins_with_a_high_loss_may_go_on(monitor):
  monitor.observe('wake step 9', [20.0, *[30.0] * 9])
  assert not monitor.is_high
  with pytest.raises(errors.DivergedError, match='above 40 five times'):
    monitor.observe('wake step 14', [41.0] * 5)


def test_the_first_loss_is_known_after_a_restart(monitor):
  monitor.observe('wake step 1', [20.0])
  restarted = divergence.Monitor(VOCAB, monitor._advice, NoCheckpoints())
  restarted.restore(json.loads(json.dumps(monitor.to_save())))
  restarted.begin('wake', 'sleep: day_3')
  restarted.observe('wake step 10', [30.0] * 9)
  restarted.begin('wake', 'sleep: day_4')  # It has a first loss of its own.
  restarted.observe('wake step 1', [2.0])
  with pytest.raises(errors.DivergedError, match='above 8.32'):
    restarted.observe('wake step 10', [30.0] * 9)


def test_a_phase_may_not_end_with_a_high_loss(monitor):
  monitor.observe('wake step 4', [4.0, 9.0])
  with pytest.raises(errors.DivergedError, match='at the end'):
    monitor.end(None)


@pytest.mark.parametrize(
  ('scores', 'message'),
  [
    (dict(held_out_loss=NAN), 'loss on held-out text is nan'),
    (dict(held_out_loss=1.0, kl_initial=math.inf), 'initial model is inf'),
    (dict(log_scores={'1': -2.0, '2': NAN}), 'log-likelihood .* is nan'),
  ],
)
def test_an_evaluation_of_a_model_that_returns_nan_is_no_score(
  monitor, scores, message
):
  monitor.check_scores({'held_out_loss': 2.0, 'log_scores': {'1': -1.0}})
  with pytest.raises(errors.DivergedError, match=message):
    monitor.check_scores(scores)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(nothing=[NAN, -1.0]), 'practice score without a dream is nan'),
    (dict(entropy=[2.0, NAN]), 'entropy of the writer is nan'),
    (dict(gain=[[0.1, 0.2], [NAN, 0.0]]), 'no trial of round 2 has a finite'),
  ],
)
def test_dreams_that_diverge_stop_the_night(monitor, change, message):
  found = dict(
    nothing=[-1.0, -1.0], entropy=[2.0, 2.0], gain=[[0.1, NAN], [0.3, 0.0]],
    tried=[[True, True], [True, False]],
  )  # fmt: skip
  monitor.begin('dream', 'sleep: day_3, night 2 (dream)')
  monitor.check_dreams({k: np.array(v) for k, v in found.items()})
  with pytest.raises(errors.DivergedError, match=message) as caught:
    monitor.check_dreams({k: np.array(v) for k, v in (found | change).items()})
  assert 'config.dream.trial.learning_rate (0.005)' in str(caught.value)


@pytest.mark.parametrize(
  ('name', 'kind', 'field'),
  [
    ('sleep', 'consolidate', 'config.expert_optimizer.learning_rate (0.016)'),
    ('sleep', 'merge', 'config.expert_optimizer.learning_rate (0.016)'),
    ('sleep', 'dream', 'config.dream.learning_rate (0.004)'),
    ('seal', 'edit', 'config.self_edit.learning_rate (0.001'),
    ('sft', 'wake', 'config.tune.learning_rates (chosen: 0.25)'),
    ('sleep', 'wake', 'config.wake.kl_penalty.weight (0.3)'),
  ],
)
def test_every_kind_of_phase_has_settings_to_look_at(name, kind, field):
  config = base.get_config()
  config.wake.kl_penalty.weight = 0.3
  plain = json.loads(config.to_json_best_effort())
  (strategy,) = registry.make(name, num_levels=2)
  rate = 0.25 if strategy.tuned else None
  assert field in divergence.advice(plain, strategy, rate)[kind]
  own = pretrain.make(3)
  advice = divergence.advice(plain, own)['wake']
  assert 'config.pretrain.optimizer.learning_rate (0.003)' in advice


class Poisoned:
  """Programs of which one call, counted from 1, spoils its result."""

  def __init__(self, programs, name, call, spoil):
    self._programs, self._name = programs, name
    self._call, self._spoil, self._calls = call, spoil, 0

  def __getattr__(self, name):
    method = getattr(self._programs, name)
    if name != self._name:
      return method

    def call(*args, **options):
      self._calls += 1
      found = method(*args, **options)
      return self._spoil(*found) if self._calls >= self._call else found

    return call


def _spoil_loss(state, metrics):
  return state, metrics | {'loss': metrics['loss'] * NAN}


def _spoil_weights(state, metrics):
  path, *_ = state.weights.params
  spoiled = {path: state.weights.params[path] * NAN}
  weights = state.weights.with_params(spoiled)
  return state.replace(weights=weights), metrics


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
  """Returns a study of two days of four steps, and an unbroken run of it."""
  folder = tmp_path_factory.mktemp('divergence')
  made = tiny_study.TinyStudy(tiny_study.config())
  made.make_initial_model(folder / 'pretrain')
  state, record = made.run('sleep', folder / 'run')
  return made, jax.device_get(state), record


def _run(tiny, folder, poison=None, **options):
  """Runs the study with a program that spoils results, if any."""
  programs = tiny.programs
  if poison is not None:
    tiny.programs = lambda name: Poisoned(programs(name), *poison)
  try:
    return tiny.run('sleep', folder, **options)
  finally:
    tiny.programs = programs


@pytest.mark.parametrize(
  ('poison', 'cycles', 'message'),
  [
    (('wake', 6, _spoil_loss), 1,
     r'experience 2 .*, wake step 2: the loss is nan .* state, cycle 1, is '
     r'kept.*wake.optimizers\[0\].learning_rate \(0.01\)'),
    # The last step of the first day: no later loss would show it.
    (('wake', 4, _spoil_weights), 0,
     'experience 1 .*, wake step 4: the weights have values that are not fini'),
    (('seed', 4, _spoil_loss), 1,
     r'night 2 \(consolidate\), update 4: the loss is nan .* cycle 1, is kept.'
     r'*config.expert_optimizer.learning_rate \(0.01\)'),
  ],
)  # fmt: skip
def test_a_phase_that_diverges_keeps_the_last_good_state(
  tiny, tmp_path, poison, cycles, message
):
  made, unbroken, record = tiny
  with pytest.raises(errors.DivergedError, match=message):
    _run(made, tmp_path, poison)
  saved = sorted((tmp_path / 'checkpoints').glob('*s/*_*'))
  assert len(saved) == cycles
  # It fails in the same way, from there.
  again = (poison[0], poison[1] - {'wake': 4, 'seed': 2}[poison[0]] * cycles)
  with pytest.raises(errors.DivergedError, match=message):
    _run(made, tmp_path, (*again, poison[2]))
  state, found = _run(made, tmp_path)
  assert testing.same(jax.device_get(state), unbroken)
  assert tiny_study.without_times(found) == tiny_study.without_times(record)


def test_nothing_is_saved_while_the_loss_is_high(tiny, tmp_path):
  made, unbroken, _ = tiny

  def raise_loss(state, metrics):
    return state, metrics | {'loss': metrics['loss'] * 0 + 1e3}

  calls = []
  with pytest.raises(context_lib.Interrupted, match='not saved, because the l'):
    _run(
      made, tmp_path, ('wake', 3, raise_loss), save_seconds=0,
      stop=lambda: calls.append(0) or len(calls) == 3,
    )  # fmt: skip
  progress = checkpoint_reading.latest_progress(str(tmp_path / 'checkpoints'))
  assert progress['event'] == 2  # Saved after the second step.
  state, _ = _run(made, tmp_path)
  assert testing.same(jax.device_get(state), unbroken)


def test_pretraining_with_a_rate_that_overflows_stops(tmp_path):
  c = tiny_study.config()
  c.pretrain.optimizer.update(learning_rate=1e38, clip=0.0, warmup=0)
  made = tiny_study.TinyStudy(c)
  with pytest.raises(
    errors.DivergedError,
    match=r'pretrain: pretraining, wake step [23]: .*'
    r'config.pretrain.optimizer.learning_rate \(1e\+38\)',
  ):
    made.make_initial_model(tmp_path)
  assert not [*(tmp_path / 'checkpoints').glob('*/*_*')]


def test_only_parts_that_are_trained_decide_whether_a_state_is_good(monitor):
  one = jnp.ones(2)
  weights = types.Weights(params={'a': one}, active_NE=jnp.zeros((1, 1)))
  state = _State(weights, {'1': {'mu': one}}, {}, {}, None)
  monitor.check_state(state)
  spoiled = dataclasses.replace(state, opt={'1': {'mu': one * NAN}})
  with pytest.raises(errors.DivergedError, match='optimizer states have'):
    monitor.check_state(spoiled)


@dataclasses.dataclass
class _State:
  """The fields of a state that are checked."""

  weights: object
  opt: dict
  sums: dict
  strategy: dict
  night: object


def test_a_changed_rate_needs_consent_and_is_recorded(
  one_device, tmp_path_factory, tmp_path
):
  finished = tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'sleep')
  tmp_path = pathlib.Path(shutil.copytree(finished, tmp_path / 'run'))
  changed = tiny_study.config()
  changed.expert_optimizer.learning_rate = 5e-3
  with pytest.raises(
    errors.WorkdirError,
    match='expert_optimizer.learning_rate: 0.01 there, 0.005 now(.|\n)*'
    '--accept_changed_rates',
  ):
    study.Study(changed, tmp_path)
  progress = tiny_study.RecordingProgress()
  study.Study(
    changed, tmp_path, accept_changed_rates=True, progress=progress
  ).run()
  (line,) = [x for x in progress.messages if x.startswith('accepted: ')]
  assert '0.01 there, 0.005 now' in line
  study.Study(changed, tmp_path)  # From now on it belongs to this config.
  about = json.loads((tmp_path / 'about.json').read_text())
  assert about['accepted'] == [line.removeprefix('accepted: ')]
  # Anything else is refused in either case.
  changed.wake.steps = 5
  with pytest.raises(errors.WorkdirError, match='config.wake.steps: 4 there'):
    study.Study(changed, tmp_path, accept_changed_rates=True)


def test_a_checkpoint_is_not_bound_to_rates():
  plain = json.loads(base.get_config().to_json_best_effort())
  other = json.loads(json.dumps(plain))
  other['wake']['optimizers'][0]['learning_rate'] = 0.5
  other['pretrain']['optimizer']['clip'] = 0.5
  same = compatibility.without_rates
  assert same(plain) == same(other)
  other['pretrain']['optimizer']['b2'] = 0.5
  assert same(plain) != same(other)

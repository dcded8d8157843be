"""Stops a phase whose numbers are not finite, or whose loss explodes.

A phase that diverges raises `errors.DivergedError`. Nothing of it is saved, so
the last good state stays on disk. The losses are those that the loop fetches
anyway; the state itself is checked before it is saved and where a phase ends.

A loss explodes if it is above twice the logarithm of the vocabulary size, the
loss of a model that knows nothing, and above twice the first loss of its phase,
in five updates in a row or at the end of the phase. See docs/method.md, "What
counts as diverged".
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors
from sleep_jax import state as state_lib
from sleep_jax.config import files
from sleep_jax.runtime import processes
from sleep_jax.schedule import events
from sleep_jax.storage import checkpoints as checkpoints_lib
from sleep_jax.strategies import strategy as strategy_lib

_TIMES = 2.0  # Factor on log(vocabulary size) and on the phase's first loss.
_IN_A_ROW = 5
_NUM_SHOWN = 4  # Losses that an error lists.


class Monitor:
  """Watches the losses of a run, one phase after the other.

  Attributes:
    is_high: whether the latest loss is above the limit. No state is saved then.
  """

  def __init__(
    self,
    vocab_size: int,
    advice: Mapping[str, str],
    checkpoints: checkpoints_lib.Checkpoints,
  ):
    """Watches nothing yet.

    Args:
      vocab_size: of the model.
      advice: what to look at, by kind of phase, see `advice`.
      checkpoints: of the run.
    """
    self._floor = _TIMES * math.log(vocab_size)
    self._advice, self._checkpoints = advice, checkpoints
    self._phase, self._kind, self._where = '', events.WAKE, ''
    self._first: float | None = None
    self._losses: list[float] = []
    self._num_high = 0

  @property
  def is_high(self) -> bool:
    """Whether the latest loss is above the limit."""
    return self._num_high > 0

  def begin(self, kind: str, phase: str) -> None:
    """Begins a phase, or continues it after a restart.

    Args:
      kind: key of the advice.
      phase: names it in errors; different for every phase of a run.
    """
    if phase != self._phase:
      self._first = None
    self._kind, self._phase, self._where = kind, phase, ''
    self._losses, self._num_high = [], 0

  def observe(self, where: str, losses: Sequence[float], **others: Any) -> None:
    """Looks at the losses of one or several updates.

    Args:
      where: names the last of these updates.
      losses: nats per token, one per update.
      **others: further numbers or arrays that must be finite.

    Raises:
      DivergedError: a number is not finite, or the loss explodes.
    """
    self._where = where
    for loss in losses:
      self._losses = [*self._losses[1 - _NUM_SHOWN :], loss]
      if not math.isfinite(loss):
        raise self.error(f'the loss is {loss}')
      if self._first is None:
        self._first = loss
      limit = max(self._floor, _TIMES * self._first)
      self._num_high = self._num_high + 1 if loss > limit else 0
      if self._num_high == _IN_A_ROW:
        raise self.error(f'the loss has been above {limit:.3g} five times')
    for name, value in others.items():
      if not np.all(np.isfinite(value)):
        raise self.error(f'the {name.replace("_", " ")} is {_worst(value)}')

  def end(self, state: state_lib.State) -> None:
    """Ends a phase; its state must be good.

    Raises:
      DivergedError: the last loss is above the limit, or see `check_state`.
    """
    if self.is_high:
      raise self.error('the loss is above its limit at the end')
    self.check_state(state)

  def check_scores(self, scores: Mapping[str, Any]) -> None:
    """Checks the losses of an evaluation.

    The accuracy of a model that returns NaN looks like that of a wrong answer.

    Args:
      scores: see `Evaluator.evaluate`.

    Raises:
      DivergedError: a loss is not finite.
    """
    losses = {
      'loss on held-out text': scores.get('held_out_loss'),
      'divergence from the initial model': scores.get('kl_initial'),
      'log-likelihood of answers': [*scores.get('log_scores', {}).values()],
    }
    for name, value in losses.items():
      if value is not None and not np.all(np.isfinite(value)):
        raise self.error(f'the {name} is {_worst(value)}')

  def check_dreams(self, found: Mapping[str, Any]) -> None:
    """Checks the scores and losses of the dreams of a night.

    Args:
      found: what `DreamRounds.dream` returns, fetched.

    Raises:
      DivergedError: a loss is not finite, or no trial of a round has a score.
    """
    self.observe(
      '', (), practice_score_without_a_dream=found['nothing'],
      entropy_of_the_writer=found['entropy'],
    )  # fmt: skip
    for number, (gain, tried) in enumerate(
      zip(found['gain'], found['tried'], strict=True), 1
    ):
      if np.any(tried) and not np.any(np.isfinite(gain[tried])):
        raise self.error(f'no trial of round {number} has a finite score')

  def check_state(self, state: state_lib.State) -> None:
    """Checks that all parameters and optimizer states are finite.

    Raises:
      DivergedError: some are not; names which.
    """
    finite = processes.fetch(_are_finite(_trained(state)))
    wrong = [name for name, is_finite in finite.items() if not is_finite]
    if wrong:
      raise self.error(f'{" and ".join(wrong)} have values that are not finite')

  def error(self, found: str) -> errors.DivergedError:
    """Returns the error of the present phase.

    Args:
      found: what is wrong, as a clause.
    """
    phase = self._phase or 'The state'
    place = ', '.join(filter(None, [phase, self._where]))
    losses = ', '.join(f'{loss:.4g}' for loss in self._losses)
    shown = f' (last losses: {losses})' if losses else ''
    saved = self._checkpoints.latest_progress()
    kept = 'No state was saved before'
    further = ''
    if saved is not None:
      series, number, _ = saved
      kept = f'The last good state, {series[:-1]} {number}, is kept'
      further = ', and --restore_cycle=N to go further back'
    return errors.DivergedError(
      f'{place}: {found}{shown}. The phase stops and is not saved. {kept}. '
      f'Look at {self._advice[self._kind]}. To continue with another rate, '
      'warmup or clip, set it in the same command; sleep-jax run also needs '
      f'--accept_changed_rates{further}.'
    )

  def to_save(self) -> dict[str, Any]:
    """Returns what a checkpoint keeps of the present phase."""
    return {'phase': self._phase, 'first': self._first}

  def restore(self, saved: Mapping[str, Any]) -> None:
    """Continues from `to_save`."""
    self._phase, self._first = saved.get('phase', ''), saved.get('first')


def advice(
  config: Mapping[str, Any],
  strategy: strategy_lib.Strategy,
  rate: float | None = None,
) -> dict[str, str]:
  """Returns which settings make each kind of phase diverge, with their values.

  Args:
    config: as JSON returns it.
    strategy: of the run.
    rate: its tuned learning rate; None if it has none.
  """

  def optimizer(place, settings):
    more = (
      f'.warmup ({settings.get("warmup", 0)}) and .clip '
      f'({settings.get("clip", 1.0)})'
    )
    if rate is not None:
      return f'config.tune.learning_rates (chosen: {rate:g}), {place}{more}'
    return f'{place}.learning_rate ({settings["learning_rate"]:g}), {more}'

  awake = []
  for owner in strategy.owners:
    section = strategy_lib.optimizer_section(owner)
    awake.append(optimizer(f'config.{section}', files.find(config, section)))
  for name in ('kl_penalty', 'second_kl_penalty'):
    penalty = config['wake'].get(name, {}).get('weight')
    if penalty and strategy.sleeps:
      awake.append(f'config.wake.{name}.weight ({penalty:g})')
  rate = None
  night = optimizer('config.expert_optimizer', config['expert_optimizer'])
  imitation = config['consolidate']['imitation']['alpha']
  if imitation < 1:
    night += f', and config.consolidate.imitation.alpha ({imitation:g})'
  dream, edit = config['dream'], config['self_edit']
  adapters = ', '.join(
    f'config.dream.{name}.learning_rate ({dream[name]["learning_rate"]:g})'
    for name in ('trial', 'writer')
  )
  return {
    events.WAKE: '; '.join(awake) or 'the initial model',
    events.EVALUATE: 'the initial model and the rates of earlier phases',
    events.CONSOLIDATE: night,
    events.MERGE: night,
    events.DREAM: (
      f'config.dream.learning_rate ({dream["learning_rate"]:g}), {adapters}'
    ),
    events.EDIT: (
      f'config.self_edit.learning_rate ({edit["learning_rate"]:g}; or the one '
      f'chosen of config.tune.learning_rates), {adapters}'
    ),
  }


def _trained(state: state_lib.State) -> dict[str, Any]:
  """Returns the parts of a state that training changes."""
  parts: dict[str, Any] = {
    'the weights': state.weights.trainable,
    'optimizer states': (state.opt, state.sums),
  }
  if state.strategy:
    parts["the strategy's own arrays"] = state.strategy
  if state.night is not None:
    parts['the weights of the night'] = state.night.fresh
    parts['optimizer states of the night'] = state.night.opt
    parts['the due update'] = (state.night.sender_next, state.night.opt_next)
  return parts


@jax.jit
def _are_finite(parts: dict[str, Any]) -> dict[str, jax.Array]:
  """Returns whether all numbers of each part are finite."""

  def are_finite(tree):
    floats = [
      leaf
      for leaf in jax.tree.leaves(tree)
      if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    found = [jnp.all(jnp.isfinite(leaf)) for leaf in floats]
    return jnp.all(jnp.stack(found)) if found else jnp.array(True)

  return {name: are_finite(tree) for name, tree in parts.items()}


def _worst(value: Any) -> float:
  """Returns the first number that is not finite."""
  flat = np.ravel(np.asarray(value, float))
  return float(flat[~np.isfinite(flat)][0])

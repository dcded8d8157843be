"""Measures the ability of a model every morning, against its initial model.

The initial model is measured once, on the full sets, when a run starts. What it
answered is kept in the work directory, so every strategy of a seed and every
part of an interrupted run is compared with the same.
"""

import dataclasses
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sleep_jax import errors, types
from sleep_jax.evaluate import (
  ability,
  asking,
  everyday_prompts,
  reading,
  text_windows,
)  # fmt: skip
from sleep_jax.runtime import processes
from sleep_jax.storage import workdir

FORMS = ('auto', 'chat', 'plain')
_RECORD, _STATES = 'first.json', 'first_states.npy'


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is measured; see configs/base.py for the units.

  Attributes:
    text: file of ordinary text; '' leaves this part out.
    text_tokens: predicted tokens each morning.
    full_text_tokens: those at the start and at the end of a run.
    reading: file of questions with their passages; '' leaves this part out.
    reading_questions: each morning.
    full_reading_questions: at the start and at the end of a run.
    prompts: everyday requests; 0 leaves this part out.
    max_new: most tokens of an answer to a request.
    form: 'chat': in the model's chat template; 'plain': as question and answer;
      'auto': in its chat template if it has one.
  """

  text: str = ''
  text_tokens: int = 4000
  full_text_tokens: int = 20_000
  reading: str = ''
  reading_questions: int = 40
  full_reading_questions: int = 300
  prompts: int = 0
  max_new: int = 32
  form: str = 'auto'

  def __post_init__(self):
    if self.form not in FORMS:
      raise errors.ConfigError(
        f'config.ability.form is {self.form!r}: expected one of {FORMS}.'
      )
    most = len(everyday_prompts.REPORTED)
    if self.prompts > most:
      raise errors.ConfigError(
        f'config.ability.prompts is {self.prompts}: {most} requests are built '
        'in (sleep_jax/evaluate/everyday_prompts.py): expected at most that.'
      )
    for part, whole in (
      ('text_tokens', 'full_text_tokens'),
      ('reading_questions', 'full_reading_questions'),
    ):
      small, large = getattr(self, part), getattr(self, whole)
      if small > large:
        raise errors.ConfigError(
          f'config.ability.{part} is {small}, above config.ability.{whole}, '
          f'{large}: the morning is measured on the first part of the full '
          'set. Raise the latter or lower the former.'
        )

  @property
  def on(self) -> bool:
    """Whether anything is measured."""
    return bool(self.text or self.reading or self.prompts)


@dataclasses.dataclass(frozen=True)
class Given:
  """What is read before a run starts, so that bad input is found early.

  Attributes:
    settings: see `Settings`.
    form: how the model is asked.
    text, reading: the full sets, or None.
    requests: everyday requests.
  """

  settings: Settings
  form: asking.Form
  text: Sequence[ability.Target] | None
  reading: Sequence[reading.Question] | None
  requests: Sequence[str]

  @property
  def fingerprint(self) -> str:
    """Equal for equal sets and forms only."""
    return asking.fingerprint(
      self.form.fingerprint, self.settings.max_new, self.text, self.reading,
      self.requests, reading.WORDING,
    )  # fmt: skip


def load(
  settings: Settings, tokenizer: types.Tokenizer, form: asking.Form
) -> Given:
  """Reads what the settings name.

  Raises:
    MissingFileError, StorageError, DataError: a file cannot be used.
  """
  text = questions = None
  if settings.text:
    text = text_windows.load(
      settings.text, tokenizer, settings.full_text_tokens
    )
  if settings.reading:
    questions = reading.load(
      settings.reading, tokenizer, settings.full_reading_questions
    )
  requests = everyday_prompts.REPORTED[: settings.prompts]
  return Given(settings, form, text, questions, requests)


class AbilityEvaluator:
  """Measures the models of one seed.

  Args:
    model, first, tokenizer: the initial model: network, weights, tokenizer.
    given: what it is measured on.
    folder: keeps what the initial model answered.
    has_end: whether the run has a last day. A session has not, so its full sets
      are measured at the start only.

  Attributes:
    has_end: as given.
  """

  def __init__(
    self,
    model: types.Model,
    first: types.Weights,
    tokenizer: types.Tokenizer,
    given: Given,
    folder: workdir.Folder,
    *,
    has_end: bool = True,
  ):
    self.has_end = has_end
    self._model, self._first, self._tokenizer = model, first, tokenizer
    self._given, self._folder = given, folder
    self._sets: ability.Sets | None = None
    self._before: ability.Measured | None = None
    self._initial: dict[str, Any] | None = None

  def initial(self) -> dict[str, Any]:
    """Returns the record of the initial model on the full sets; see `evaluate`.

    Raises:
      WorkdirError: the folder is of other sets, or damaged.
    """
    if self._initial is None:  # Of all strategies of a seed.
      with _Timer() as timer:
        self._prepare()
        record = self._record(self._first, self._before, full=True)
      self._initial = record | timer.times
    return dict(self._initial)

  def evaluate(self, weights: types.Weights, *, full: bool) -> dict[str, Any]:
    """Returns what a model can do, and what changed since the initial model.

    Args:
      weights: of the model.
      full: whether it is measured on the full sets, too.

    Returns:
      What `ability.compare` returns for the sets of a morning; 'full', the same
      for the full sets or None; and the 'seconds' and 'cpu_seconds' it took.
    """
    with _Timer() as timer:
      self._prepare()
      sets = self._sets if full else self._sets.first_part(*self._sizes)
      record = self._record(weights, self._measure(weights, sets), full=full)
    return record | timer.times

  @property
  def _sizes(self) -> tuple[int, int]:
    settings = self._given.settings
    return settings.text_tokens, settings.reading_questions

  def _measure(self, weights, sets: ability.Sets) -> ability.Measured:
    return ability.measure(
      self._model, weights, self._tokenizer, self._given.form, sets,
      apart=self._sizes[1],
    )  # fmt: skip

  def _record(self, weights, measured, *, full: bool) -> dict[str, Any]:
    compare = lambda before, after: ability.compare(
      self._model, self._first, weights, before, after
    )
    part = compare(
      self._before.first_part(*self._sizes), measured.first_part(*self._sizes)
    )
    whole = None
    if full:  # The everyday answers are the same ones.
      whole = compare(
        dataclasses.replace(self._before, states_MD=None),
        dataclasses.replace(measured, states_MD=None),
      )
      if 'everyday' in part:
        whole['everyday'] = part['everyday']
    return {**part, 'full': whole}

  def _prepare(self) -> None:
    """Reads what the initial model did, or measures it."""
    if self._before is not None:
      return
    # All processes decide alike, before the first one writes.
    exists = processes.any_of(((self._folder / _RECORD).exists(),))[0]
    if exists:
      self._restore()
    else:
      self._measure_first()

  def _measure_first(self) -> None:
    given, everyday = self._given, None
    if given.requests:
      everyday = ability.write_answers(
        self._model, self._first, given.form, given.requests,
        max_new=given.settings.max_new,
      )  # fmt: skip
    # Its states are known from its answers.
    alone = ability.Sets(given.text, None, given.reading)
    before = self._measure(self._first, alone)
    if everyday is not None:
      before = dataclasses.replace(before, states_MD=everyday.states_MD)
    self._sets = dataclasses.replace(alone, everyday=everyday)
    self._before = before
    if processes.is_first():
      self._save(everyday, before)

  def _save(
    self, everyday: ability.Answers | None, before: ability.Measured
  ) -> None:
    nats_M, decode = before.text_nats_M, self._tokenizer.decode
    if everyday is not None:
      file = io.BytesIO()
      np.save(file, np.asarray(everyday.states_MD, np.float32))
      workdir.write_bytes(self._folder / _STATES, file.getvalue())
    workdir.write_json(self._folder / _RECORD, {
      'fingerprint': self._given.fingerprint,
      'prompts': everyday and everyday.prompts,
      'answers': everyday and everyday.answers,
      'texts': everyday and [decode(answer) for answer in everyday.answers],
      'text_nats': None if nats_M is None else nats_M.tolist(),
      'reading': before.texts,
    })  # fmt: skip

  def _restore(self) -> None:
    file = self._folder / _RECORD
    try:
      saved = json.loads(file.read_text())
      everyday = None
      if saved['answers'] is not None:
        states = io.BytesIO((self._folder / _STATES).read_bytes())
        everyday = ability.Answers(
          saved['prompts'], saved['answers'], np.load(states)
        )
      found, nats, texts = (
        saved[name] for name in ('fingerprint', 'text_nats', 'reading')
      )
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
      raise errors.WorkdirError(
        f'{file} or {_STATES} beside it is damaged ({error}): delete both, and '
        'the initial model is measured again.'
      ) from error
    if found != self._given.fingerprint:
      raise errors.WorkdirError(
        f'{file} is of other texts, questions or requests than those of '
        'config.ability now: a file has changed, or this is another version of '
        'sleep_jax. Restore the files, or choose another work directory.'
      )
    contained_N = exact_N = None
    if texts is not None:
      contained_N, exact_N = reading.score(self._given.reading, texts)
    self._sets = ability.Sets(self._given.text, everyday, self._given.reading)
    self._before = ability.Measured(
      None if nats is None else np.array(nats, np.float32),
      everyday and everyday.states_MD, texts, contained_N, exact_N,
    )  # fmt: skip


class _Timer:
  """Measures wall time, and processor time of all threads.

  Attributes:
    times: 'seconds' and 'cpu_seconds'.
  """

  def __enter__(self) -> '_Timer':
    self._start = time.perf_counter(), time.process_time()
    return self

  def __exit__(self, *args: object) -> None:
    self.times = {
      'seconds': time.perf_counter() - self._start[0],
      'cpu_seconds': time.process_time() - self._start[1],
    }

"""A conversation that sleeps: what was said today is a document of the night.

A day is what has been said since the last sleep. To sleep is to write it to the
folder of days and to let the life go on, which begins where it stood (see
`lifecycle`), so that a conversation is a study like any other.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from sleep_jax.data import chat_template, detokenizer
from sleep_jax.interop import open_model
from sleep_jax.model import streaming
from sleep_jax.runs import expert_history, study
from sleep_jax.storage import checkpoint_reading
from sleep_jax.storage import workdir as workdir_lib

_DAYS, _LIFE, _TODAY = 'days', 'life', 'today.json'


@dataclasses.dataclass
class ChatSession:
  """What is said, to whom, and how it is remembered.

  Args:
    config: of the life; see configs/chat.py.
    workdir: keeps the days, the life, and what was said today.
    model: Hugging Face directory of who has not lived yet.
    max_new: tokens of an answer, at most.
    temperature: 0: the likeliest words.
    seed: of drawing.

  Raises:
    FileNotFoundError, ValueError: the model, its template, or what the work
      directory holds cannot be read; or that is in a bucket.
  """

  config: ml_collections.ConfigDict
  workdir: str
  model: str
  max_new: int = 256
  temperature: float = 0.0
  seed: int = 0

  def __post_init__(self):
    self._home = workdir_lib.path(self.workdir)
    if workdir_lib.in_bucket(self._home):
      raise ValueError(
        f'{self.workdir} is in a bucket: a conversation is kept on the machine '
        'it is held on. Give --workdir a path on disk.'
      )
    (self._home / _DAYS).mkdir(parents=True, exist_ok=True)
    self.messages: list[dict[str, str]] = _said(self._home / _TODAY)
    self._open()
    self._template = chat_template.ChatTemplate(self.model, self._opened.end_tokens)

  @property
  def days(self) -> int:
    """Days that are over; the night of the last one may still be under way."""
    return len(list((self._home / _DAYS).glob('*.jsonl')))

  def say(self, text: str) -> Iterator[str]:
    """The model's answer to a message, in pieces as they come.

    Whoever stops listening keeps what was said so far.

    Raises:
      ValueError: the template refuses the conversation; nothing was said.
    """
    asked = [*self.messages, {'role': 'user', 'content': text}]
    prompt = self._template.encode(asked)
    self.messages = asked
    said, made = detokenizer.Detokenizer(self._opened.tokenizer), ''
    opened, key = self._opened, jax.random.key(self.seed + len(self.messages))
    try:
      for (token,) in streaming.stream(
        opened.model, self._ready, [prompt], key, max_new=self.max_new,
        ends=opened.end_tokens, temperature=self.temperature,
      ):  # fmt: skip
        piece = '' if token is None else said.add(token)
        made += piece
        yield piece
      piece = said.end()
      made += piece
      yield piece
    finally:
      self.messages.append({'role': 'assistant', 'content': made})
      self.save()

  def sleep(self) -> list[dict[str, Any]]:
    """A night about what was said today; returns the life's nights so far.

    Where nothing was said, it goes on with a night that was interrupted.

    Raises:
      ValueError: nothing was said, and no night is under way.
    """
    if not self.messages:
      if self._unslept:
        return self.live()
      raise ValueError('Nothing was said today: there is nothing to sleep on.')
    told = '\n'.join(
      f'{m["role"]}: {m["content"].strip()}' for m in self.messages
    )
    day = self._home / _DAYS / f'day_{self.days + 1:04d}.jsonl'
    part = day.with_suffix('.part')
    part.write_text(json.dumps({'text': told}) + '\n')
    part.rename(day)  # From here on the day is lived, whatever happens.
    self.messages = []
    self.save()
    return self.live()

  def live(self) -> list[dict[str, Any]]:
    """Lives through all days that were written; returns the nights."""
    (run,) = self._life().run()
    self._open()
    return run['nights']

  def forget(self, night: int, sure: Callable[[str], bool]) -> bool:
    """Switches the expert off that holds a night.

    Args:
      sure: asked, with a text that says where the night is, if it is not alone
        or not where it was slept.

    Returns:
      Whether it was done.

    Raises:
      ValueError: no expert holds that night, or another night is under way.
    """
    rows = self._opened.expert_history
    level, slot = expert_history.holder(rows, night)
    others = [
      n for n in expert_history.holders(rows)[level, slot] if n != night
    ]
    if others or expert_history.original_slot(rows, night) != (level, slot):
      also = f', with nights {others}: they would go too' if others else ''
      where = f'Night {night} is now in expert {slot} of level {level}{also}.'
      if not sure(where):
        return False
    self._life().forget(level, slot)
    self._open()
    return True

  def _life(self) -> study.Study:
    """The study that this conversation is."""
    config = self.config.copy_and_resolve_references()
    with config.unlocked():
      config.data.path = str(self._home / _DAYS)
      config.pretrain.base_model = self.model
      config.strategies = ('sleep',)
      config.seeds = (self.seed,)
    return study.Study(config, str(self._home / _LIFE))

  def status(self) -> str:
    """What is on, and which night lives where."""
    rows = [
      f'night {row["night"]}: level {row["level"]}, expert {row["slot"]}, '
      f'{row["event"]}'
      for row in self._opened.expert_history
    ]
    today = (
      f'{len(self.messages)} messages since the last of {self.days} nights'
    )
    if self._unslept:
      today += ', which is not over: /sleep goes on with it'
    return '\n'.join([today, *rows])

  def save(self) -> None:
    """Keeps what was said today."""
    part = self._home / f'{_TODAY}.part'
    part.write_text(json.dumps(self.messages))
    part.rename(self._home / _TODAY)

  @property
  def _unslept(self) -> bool:
    return self._opened.num_nights < self.days

  def _open(self):
    life = self._home / _LIFE
    saved = life / f'seed_{self.seed}' / 'sleep' / 'checkpoints'
    lived = checkpoint_reading.exists(str(saved))
    self._opened = open_model.open_model(
      str(life) if lived else self.model, seed=self.seed
    )
    self._ready = streaming.ready(self._opened.model, self._opened.weights)


def _said(path) -> list[dict[str, str]]:
  """What was said today, as `save` left it."""
  if not path.is_file():
    return []
  try:
    return json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(
      f'{path} is no JSON ({error}): it holds what was said today. Repair it, '
      'or delete it to begin the day anew.'
    ) from error

"""Defines a dataset: text for pretraining, experiences, probes and dream tasks.

A dataset holds plain text and no tokens, so it works with every tokenizer, and
the text that a model reads can be inspected.
"""

import dataclasses
import importlib.util
from collections.abc import Mapping, Sequence

Message = tuple[str, str]  # Role and content of one turn.


@dataclasses.dataclass(frozen=True)
class Row:
  """One text to train on.

  Attributes:
    text: the whole text.
    response_start: character at which the response starts; None for plain text.
    answer_start: character at which the first answer of a plain text starts,
      if the dataset knows it. No stored prompt extends to it; with 0 no prompt
      of the text is stored.
    target_start: character of a plain text from which tokens are targets; the
      text before it is only read.
    subject: characters [start, end) of the person or thing the text is about.
    messages: turns of a conversation, of which the last is learned. `text` is
      the same in the plain format; a model with a chat template reads the
      messages instead. Empty for other rows.
    ends: whether the text is over. If not, its end is not learned, and the
      model may go on.
    where: source of the row for error messages, such as 'file:line'.
  """

  text: str
  response_start: int | None = None
  answer_start: int | None = None
  target_start: int = 0
  subject: tuple[int, int] | None = None
  messages: tuple[Message, ...] = ()
  ends: bool = True
  where: str = 'a row'


@dataclasses.dataclass(frozen=True)
class Probe:
  """A fixed question with one correct answer.

  Attributes:
    prompt: the question; prompt and answer are tokenized separately.
    answer: the correct answer.
    candidates: key into `Dataset.candidates`, or None if the answer cannot be
      ranked.
    reference: what `Dataset.text_score` compares generated texts with; empty:
      the answer.
    where: source of the probe for error messages.
  """

  prompt: str
  answer: str
  candidates: str | None = None
  reference: str = ''
  where: str = 'a probe'


@dataclasses.dataclass(frozen=True)
class Choice:
  """A way to learn that a dream can choose.

  Attributes:
    text: text by which a dream chooses it.
    lessons: indices of the task's lessons that it trains on.
    rate: its learning rate, as a multiple of a trial's.
    share: its number of steps, as a fraction of a trial's.
  """

  text: str
  lessons: tuple[int, ...]
  rate: float = 1.0
  share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Task:
  """What a night dreams about.

  Attributes:
    documents: texts of the experience, each with its subject.
    practice: questions about the documents on which dreams are tried. No probe
      of the dataset asks them in any wording.
    choices: the texts that a dream may consist of; if empty, a dream is free
      text to learn from.
    lessons: rows that choices train on; only the response has targets.
  """

  documents: list[Row]
  practice: list[Probe]
  choices: list[Choice] = dataclasses.field(default_factory=list)
  lessons: list[Row] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class TextScore:
  """A score of the texts that a model generates after a probe.

  Attributes:
    name: of a function of `evaluate.text_scores`.
    samples: texts generated for each probe.
    temperature: of sampling; 0 takes the most likely token.
    max_new: most tokens of a text; 0: as many as the longest answer has.
    package: that computes it; where it is not installed, the score is left out.
  """

  name: str
  samples: int = 1
  temperature: float = 0.0
  max_new: int = 0
  package: str = ''

  @property
  def is_available(self) -> bool:
    """Whether the package that computes the score is installed."""
    return not self.package or bool(importlib.util.find_spec(self.package))


@dataclasses.dataclass(frozen=True)
class Dataset:
  """All text that a stream is built from.

  Attributes:
    name: name of the dataset.
    pretrain: pretraining rows.
    held_out: rows like those of pretraining that are never trained on.
    experiences: (name, rows) in the order of training.
    probes: scored probes by key: 'pretrain', '1', '2', ... (the number of the
      experience, not its name). A key without probes is absent.
    template_probes: the same facts in the wordings of the templates.
    open_probes: the questions of `probes`, each preceded by its document. They
      measure what can be answered with the text at hand.
    open_tail: whether an open probe that exceeds the context loses the
      beginning of its document, instead of being refused.
    guard: probes of pretraining facts that are not among the scored ones.
    templates: self-study templates with one '{}'; the answer follows the
      template.
    candidates: sets of (text, since); `since` is the experience that taught the
      candidate, 0 for pretraining.
    tasks: dream tasks by the key of the experience; a key without is absent.
    dream_templates: prompts of dreams about a document, with one '{}' for its
      subject.
    score: how probes are scored: 'greedy', 'rank' or 'forced'.
    text_score: how texts that are generated after probes are scored beside
      that, or None.
    whole: experience -> its rows together with those that were held out of it;
      absent where none were.
    parts: experience -> name of the growing file of which it is a part.
  """

  name: str
  pretrain: Sequence[Row]
  held_out: Sequence[Row]
  experiences: list[tuple[str, Sequence[Row]]]
  probes: dict[str, list[Probe]]
  template_probes: dict[str, list[Probe]] = dataclasses.field(
    default_factory=dict
  )
  open_probes: dict[str, list[Probe]] = dataclasses.field(default_factory=dict)
  open_tail: bool = False
  guard: list[Probe] = dataclasses.field(default_factory=list)
  templates: list[str] = dataclasses.field(default_factory=list)
  candidates: dict[str, list[tuple[str, int]]] = dataclasses.field(
    default_factory=dict
  )
  tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
  dream_templates: list[str] = dataclasses.field(default_factory=list)
  score: str = 'greedy'
  text_score: TextScore | None = None
  whole: Mapping[str, Sequence[Row]] = dataclasses.field(default_factory=dict)
  parts: Mapping[str, str] = dataclasses.field(default_factory=dict)

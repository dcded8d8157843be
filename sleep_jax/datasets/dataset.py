"""What a world is: plain text to be born with, to live through, to be asked.

Worlds hold no tokens, so one world serves any tokenizer, and a person can
read exactly what the model reads.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
  """One piece of text to learn from.

  Attributes:
    text: the whole text.
    response_start: character where the response begins; None: plain text.
    answer_start: character where the first answer begins, for plain text
      whose world knows it; no stored prompt reaches it.
    told_from: character where plain text begins to be a target; what stands
      before is only read.
    subject: characters [start, end) of whom or what the text is about.
    where: the place it comes from, for error messages: 'file:line'.
  """

  text: str
  response_start: int | None = None
  answer_start: int | None = None
  target_start: int = 0
  subject: tuple[int, int] | None = None
  where: str = 'a row'


@dataclasses.dataclass(frozen=True)
class Probe:
  """A frozen question with one right answer.

  Attributes:
    prompt, answer: texts, tokenised apart and joined.
    candidates: key into `World.candidates`; None: cannot be ranked.
    stem: the wording is one that self-study stems use, too.
    where: the place it comes from, for error messages.
  """

  prompt: str
  answer: str
  candidates: str | None = None
  is_template: bool = False
  where: str = 'a probe'


@dataclasses.dataclass(frozen=True)
class Choice:
  """A way to learn that a dream may choose.

  Attributes:
    text: how it is said.
    lessons: places in the task's lessons, which it learns from.
    rate: its learning rate, in units of a trial's.
    share: of a trial's steps, those that it takes.
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
    practice: questions about them that no probe of the world asks, in any
      wording: what a dream is tried on.
    choices: what a dream may say; none: it is a text to learn from.
    lessons: what choices learn from: a row counts from its response on.
  """

  documents: list[Row]
  practice: list[Probe]
  choices: list[Choice] = dataclasses.field(default_factory=list)
  lessons: list[Row] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Everything that a stream is made from.

  Attributes:
    name: of the world.
    birth: rows known from birth.
    held_out: rows like those of birth that are never trained on.
    experiences: (name, rows) in the order of living.
    probes: what is scored; keys 'birth', '1', '2', ... (place of the
      experience, not its name). A key without probes is absent.
    stem_probes: the same facts in the wordings that the stems use.
    open_probes: the same questions as `probes`, each behind its document:
      what can be answered with the text at hand.
    guard: probes of birth that are not among the scored ones.
    stems: self-study templates with one '{}'; the answer follows the end.
    tasks: what there is to dream about, by experience; a key without is absent.
    dreams: what a dream is asked about a document, likewise with one '{}'.
    candidates: sets of (text, since), since = experience that taught it.
    score: how probes are scored: 'greedy', 'rank' or 'forced'.
  """

  name: str
  pretrain: list[Row]
  held_out: list[Row]
  experiences: list[tuple[str, list[Row]]]
  probes: dict[str, list[Probe]]
  template_probes: dict[str, list[Probe]] = dataclasses.field(
    default_factory=dict
  )
  open_probes: dict[str, list[Probe]] = dataclasses.field(default_factory=dict)
  guard: list[Probe] = dataclasses.field(default_factory=list)
  templates: list[str] = dataclasses.field(default_factory=list)
  candidates: dict[str, list[tuple[str, int]]] = dataclasses.field(
    default_factory=dict
  )
  tasks: dict[str, Task] = dataclasses.field(default_factory=dict)
  dream_templates: list[str] = dataclasses.field(default_factory=list)
  score: str = 'greedy'

"""Settings of a night: teachers, prompts, and how much is rehearsed.

`settings_checks.make_settings` builds them from a config and checks them.

References: 2606.03979 v2 section 3.3; docs/method.md, "Whose knowledge".
"""

import dataclasses

TEACHERS = ('anchor', 'first', 'next', 'now', 'context')
PROMPTS = ('old', 'day', 'own_texts')
CLEARED, UPDATED = 'cleared', 'updated'
EXPERT, BASE = 'expert', 'base'
RANDOM, SENDER = 'random', 'sender'
ERROR, MERGE, ABSORB = 'error', 'merge', 'absorb'


@dataclasses.dataclass(frozen=True)
class Teacher:
  """A teacher, its prompts, and how many sequences it contributes.

  Attributes:
    teacher: 'anchor' (the sender as at its last waking), 'first' (the initial
      model, on its own texts), 'next' (after the due
      update), 'now' (before it; the literal teacher of v2) or 'context' (as
      'now', with the document in its prompt, which the student does not have).
    prompts: 'old' (from before the sender's last waking), 'day' (since), or
      'own_texts' (whole texts that the initial model wrote; nothing is
      sampled).
    sequences: rows of this teacher per update.
    draws: sequences that it writes per round.
    bos_share, pretrain_share, splice_share, cut_share, template_share: shares
      of its prompts, see `replay.prompts.draw`.
    skip_repeated: whether 'old' prompts that are also among those of the day,
      or name the subject of one, are left out, so that an answer that changed
      is not taught back.
    max_length, max_new: of its sequences, in place of those of `Settings`; 0
      for the same. Shorter ones save the padding of short answers.
  """

  teacher: str
  prompts: str
  sequences: int
  draws: int
  bos_share: float = 0.0
  pretrain_share: float = -1.0
  splice_share: float = 0.0
  cut_share: float = 0.0
  template_share: float = 0.0
  max_length: int = 0
  max_new: int = 0
  skip_repeated: bool = False

  @property
  def name(self) -> str:
    """Names the pair of teacher and prompts, for example 'next_day'."""
    return f'{self.teacher}_{self.prompts}'

  @property
  def reads(self) -> bool:
    """Whether it has the document in its prompt."""
    return self.teacher == 'context'

  @property
  def writes(self) -> bool:
    """Whether it samples; the texts of the initial model are there already."""
    return self.prompts != 'own_texts'


@dataclasses.dataclass(frozen=True)
class Imitation:
  """The reward for completing a teacher's text as the teacher did.

  Attributes:
    alpha: weight of distillation; the reward has 1 - alpha. 1: no imitation.
    gamma: weight of the judge in the reward; closeness has 1 - gamma.
    threshold: largest edit distance that counts as close, as a share of the
      longer text.
    cuts: sequences of each teacher that are cut for an update.
    completions: sampled by the student for each of them (a group).
    judge: compares meanings, see `judges.make`.
    stop_likelihood: nats per token by which the teachers' log-likelihood of the
      student's completions may fall during a night before the night ends.
    stop_repetition: by how much the student's completions may repeat
      themselves more than the teachers' texts before the night ends, as a
      share of neighbouring token pairs.
  """

  alpha: float
  gamma: float
  threshold: float
  cuts: int
  completions: int
  judge: str
  stop_likelihood: float
  stop_repetition: float

  @property
  def on(self) -> bool:
    """Whether completions are sampled and rewarded."""
    return self.alpha < 1


@dataclasses.dataclass(frozen=True)
class Adaptive:
  """When a night ends by itself, see `night_length`.

  Attributes:
    on: whether it does; `num_updates` is then its largest length.
    min_updates: its smallest length.
    tolerance: divergence on new rehearsals, nats per token, below which it
      ends.
    patience: rounds without an improvement of 1% after which it ends.
    decay: last share of the night, in which the learning rate falls.
  """

  on: bool
  min_updates: int
  tolerance: float
  patience: int
  decay: float


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of a night.

  Attributes:
    teachers: see `Teacher`.
    num_updates: updates of the fresh expert per night; the largest number if
      the night is adaptive.
    micro_batches: number of parts that an update reads its rows in, see
      `gradient_accumulation`.
    updates_per_round: updates between two samplings of rehearsals.
    priority: exponent of a sequence's last divergence in its probability to be
      drawn for an update; 0: uniform.
    sender_after_sleep: 'cleared' (back to its anchor) or 'updated'.
    into: what is trained: a fresh 'expert', or the receiver's own 'base' (no
      expansion).
    start: what a fresh expert starts from: 'random' units that add nothing, or
      a copy of the units of the 'sender' that write most, so that the night
      starts from what the sender does. A merge copies those of its two experts.
    full: what happens when a bank is full: 'error' (refused before the run),
      'merge' two of its experts, or 'absorb' all of them into the base of the
      slowest level.
    on_policy: share of rows that the student wrote (lambda of GKD).
    on_policy_after: share of the night before the student starts to write.
    beta: of the divergence; 0 is KL(teacher || student).
    temperature: of sampling; the divergence always uses 1.
    max_length: of a rehearsal sequence, tokens.
    max_new: generated tokens per sequence.
    prompt_width: longest prompt, tokens.
    block_tokens, block_vocab: largest number of tokens, and of vocabulary
      entries, whose logits the divergence computes at a time.
    imitation: see `Imitation`.
    adaptive: see `Adaptive`; None if the length is fixed.
    stored_answers: whether the answers of prompts are stored, and learned
      instead of what a teacher writes.
  """

  teachers: tuple[Teacher, ...]
  num_updates: int
  micro_batches: int
  updates_per_round: int
  priority: float
  sender_after_sleep: str
  into: str
  full: str
  on_policy: float
  on_policy_after: float
  beta: float
  temperature: float
  max_length: int
  max_new: int
  prompt_width: int
  block_tokens: int
  block_vocab: int
  imitation: Imitation
  start: str = RANDOM
  adaptive: Adaptive | None = None
  stored_answers: bool = False

  def of_teacher(self, teacher: Teacher) -> 'Settings':
    """Returns the settings with the lengths of a teacher's sequences."""
    return dataclasses.replace(
      self,
      max_length=teacher.max_length or self.max_length,
      max_new=teacher.max_new or self.max_new,
    )

  @property
  def reads(self) -> bool:
    """Whether a teacher has documents in its prompts."""
    return any(teacher.reads for teacher in self.teachers)

  @property
  def rounds(self) -> int:
    """Number of rounds of a night."""
    return self.num_updates // self.updates_per_round

  @property
  def rows(self) -> int:
    """Number of sequences that one update reads."""
    return self._completions + sum(t.sequences for t in self.teachers)

  @property
  def tokens(self) -> int:
    """Number of tokens that one update reads, padding included."""
    return self.max_length * self._completions + sum(
      self.of_teacher(t).max_length * t.sequences for t in self.teachers
    )

  @property
  def _completions(self) -> int:
    """Number of the student's completions that one update reads."""
    m = self.imitation
    return len(self.teachers) * m.cuts * m.completions if m.on else 0

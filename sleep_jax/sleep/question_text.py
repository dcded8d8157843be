"""Which sentences of a day are asked about, and which questions are usable.

Plain text work. A text is divided into passages: a sentence and, where it needs
them, the ones before it. A passage may have a subject, which is a name, or the
user who speaks. The rules are for texts whose names are capitalized; openings
and little words are English.

References: 2506.06266 (self-study prompts about each part of a document);
1901.02262 and others (a question is kept if it is answered from its text).
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

USER = 'I'  # Subject of what a user says of himself or herself.
_SPEAKER = re.compile(r'^(user|assistant|system): ?', re.IGNORECASE)
_END = re.compile(r'(?<=[.!?])["\')\]]*\s+')
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_NAME = re.compile(r"[^\W\d_a-z][\w'’-]*(?: [^\W\d_a-z][\w'’-]*)*")
# A name that is not the first word of a sentence.
_INSIDE = re.compile(r"(?<=[\w,;] )[^\W\d_a-z][\w'’-]*")
_FIRST_PERSON = frozenset('i my me mine myself we our us'.split())
_PRONOUNS = frozenset(
  'he she it they his her its their this these that'.split()
)
_LITTLE_WORDS = _FIRST_PERSON | _PRONOUNS | frozenset(
  'a an the of in on at by for to from with and or but is are was were be been '
  'am has have had does do did there here him them who what where when which '
  'whom whose why how as since than then if so very too also not no nor never '
  'nobody everybody everyone someone all any some more most much many one you '
  'your will would can could should may might must about into over after '
  'before i’m i\'m it’s it\'s just only up out'.split()
)  # fmt: skip
_NEGATIONS = frozenset("not n't no never nobody".split())
_PREPOSITIONS = frozenset('in at from to on for by of with as near'.split())
_LONGEST, _MAX_BACK = 400, 2  # Characters of a sentence; sentences before it.
_MAX_ANSWERS = 4  # Words of a sentence that are asked for: the last ones.
# How a question may begin: with the subject in its slot, as the user would ask,
# or without a subject.
NAMED = (
  'What does {}', 'Where does {}', "What is {}'s", 'Who is {}', 'What has {}',
  'What kind of',
)  # fmt: skip
FIRST_PERSON = (
  'What do I', 'What is my', 'Which', 'How do I', 'Where do I', 'What kind of',
)  # fmt: skip
OTHER = ('What', 'When', 'Where', 'Which')


@dataclasses.dataclass(frozen=True)
class Passage:
  """A sentence that is asked about.

  Attributes:
    text: the sentence, with those before it that it needs.
    sentence: the sentence.
    subject: whom or what it is about: a name, `USER`, or '' if unknown.
    is_told: whether the user of a conversation says it.
  """

  text: str
  sentence: str
  subject: str
  is_told: bool = False

  @property
  def openings(self) -> tuple[str, ...]:
    """How a question about it may begin."""
    if self.subject == USER:
      return FIRST_PERSON
    if not self.subject:
      return OTHER
    return tuple(opening.format(self.subject) for opening in NAMED)

  @property
  def answers(self) -> tuple[str, ...]:
    """The words that a question may ask for, in order.

    New information tends to stand at the end of a sentence.
    """
    rest = self.sentence
    if self.subject and self.subject != USER:
      rest = rest.replace(self.subject, ' ')
    return tuple(dict.fromkeys(content_words(rest)))[-_MAX_ANSWERS:]


def passages(texts: Iterable[str]) -> list[Passage]:
  """Returns the passages of some texts, each once.

  A sentence that was cut, because a text is a window of a longer one, is left
  out if another text has the whole. Of a conversation in lines ('user: ...'),
  what the user says is asked about.
  """
  found: dict[str, Passage] = {}
  texts = list(texts)
  known = _Words(
    names={m.group() for text in texts for m in _INSIDE.finditer(text)},
    small={word for text in texts for word in _WORD.findall(text)},
  )
  for text in texts:
    for passage in _passages(text, known):
      found.setdefault(passage.sentence, passage)
  ordered = list(found.values())
  return [
    one for one in ordered
    if not any(
      one is not other
      and (
        other.sentence.startswith(one.sentence)
        or other.sentence.endswith(one.sentence)
      )
      for other in ordered
    )
  ]  # fmt: skip


def content_words(text: str) -> list[str]:
  """Returns the words of a text without little words."""
  return [w for w in _WORD.findall(text) if w.casefold() not in _LITTLE_WORDS]


def is_name(text: str) -> bool:
  """Whether a text is capitalized words, and not only little ones ("The")."""
  return bool(_NAME.fullmatch(text)) and not _is_little(text)


def why_unusable(question: str, passage: Passage) -> str:
  """Returns why a question is of no use, or ''.

  Args:
    question: as it was written.
    passage: what it is about.
  """
  if not question.endswith('?') or '\n' in question:
    return 'no question'
  words = [word.casefold() for word in _WORD.findall(question)]
  pairs = list(zip(words, words[1:], strict=False))
  if len(set(pairs)) < len(pairs):
    return 'repeats itself'
  asked = content_words(question)
  shares = any(_has(asked, word) for word in content_words(passage.text))
  if passage.subject == USER:
    names_it = shares and bool(_FIRST_PERSON & set(words))
  elif passage.subject:
    names_it = passage.subject in question
  else:
    names_it = shares
  if not names_it:
    return 'names nothing of the text'
  # A name of the examples would be taught what the text says of another.
  known = {_without_s(word) for word in _WORD.findall(passage.text)}
  names = {_without_s(word) for word in _INSIDE.findall(question)} - known
  return '' if all(map(_is_little, names)) else 'names another'


def why_unanswered(question: str, answer: str, passage: Passage) -> str:
  """Returns why the text does not answer a question, or ''.

  A question is answered if the answer has a word of the sentence that the
  question does not have, and no word that is in neither.

  Args:
    question: about the passage.
    answer: of the model with the passage in front.
    passage: what the question is about.
  """
  asked, answered = content_words(question), content_words(answer)
  if not _new_words(question, answer, passage):
    return 'nothing new'
  known = content_words(passage.text) + asked
  if not all(_has(known, word) for word in answered):
    return 'not in the text'
  lower = lambda text: set(text.casefold().replace("n't", " n't").split())
  if (lower(answer) - lower(passage.sentence)) & _NEGATIONS:
    return 'denies it'
  return ''


def asks_for(question: str, answer: str, passage: Passage) -> frozenset[str]:
  """Returns the words of the sentence that an answer adds to the question."""
  return frozenset(_new_words(question, answer, passage))


def spread(asked_for: Sequence[frozenset[str]], limit: int) -> list[int]:
  """Chooses questions so that each word of a sentence is asked for.

  Args:
    asked_for: words that each question about a sentence asks for.
    limit: most questions.

  Returns:
    The numbers of the chosen questions. The next one is the first of those with
    a word that the fewest before it ask for.
  """
  left, counts = list(range(len(asked_for))), collections.Counter[str]()
  chosen: list[int] = []
  rarest = lambda number: min(counts[word] for word in asked_for[number])
  while left and len(chosen) < limit:
    number = min(left, key=lambda n: (rarest(n), n))
    left.remove(number)
    chosen.append(number)
    counts.update(asked_for[number])
  return chosen


def _new_words(question, answer, passage):
  asked = content_words(question)
  answered = content_words(answer)
  return [
    word for word in passage.answers
    if _has(answered, word) and not _has(asked, word)
  ]  # fmt: skip


class _Words(NamedTuple):
  """Words of a day.

  Attributes:
    names: capitalized words that do not begin a sentence.
    small: all words as they are written.
  """

  names: set[str]
  small: set[str]

  def may_begin_name(self, word: str, is_alone: bool) -> bool:
    """Whether the first word of a sentence, always capitalized, is a name."""
    if _is_little(word) or word.casefold() in self.small:
      return False
    return not is_alone or word in self.names


def _passages(text, known):
  """Yields the passages of one text; `known` are the words of the day."""
  for lines, is_user in _turns(text):
    before: list[str] = []
    for sentence in _sentences(lines):
      subject = _subject(sentence, known, may_be_user=is_user)
      needed: list[str] = []
      if _first_word(sentence) in _PRONOUNS:
        needed = before[-_MAX_BACK:]
        found = [_subject(s, known, may_be_user=False) for s in needed]
        subject = subject or next((x for x in reversed(found) if x), '')
      is_told = len(sentence) <= _LONGEST and not sentence.endswith('?')
      if is_told and content_words(sentence):
        yield Passage(
          ' '.join([*needed, sentence]), sentence, subject, is_told=is_user
        )
      before.append(sentence)


def _turns(text):
  """Yields the text of each turn that is asked about; and if a user says it."""
  lines = text.split('\n')
  speakers = [_SPEAKER.match(line) for line in lines]
  if not any(speakers):
    yield text, False
    return
  roles = [match.group(1).lower() if match else None for match in speakers]
  first = next(role for role in roles if role)
  # A window may begin inside a turn: the next one is somebody else's.
  role = {'user': 'assistant', 'assistant': 'user'}.get(first, 'system')
  turn: list[str] = []
  for line, match, own in zip(lines, speakers, roles, strict=True):
    if match:
      if role == 'user':
        yield '\n'.join(turn), True
      role, turn, line = own, [], line[match.end() :]
    turn.append(line)
  if role == 'user':
    yield '\n'.join(turn), True


def _sentences(text):
  for line in text.split('\n'):
    for sentence in _END.split(line):
      if sentence := sentence.strip():
        yield sentence


def _subject(sentence, known, *, may_be_user):
  """Returns what a sentence is about: a name, `USER`, or ''.

  It is the first name that follows no preposition; else the user, if one
  speaks of himself or herself; else the first name.
  """
  found = []
  for match in _NAME.finditer(sentence):
    words, start = match.group().split(' '), match.start()
    if not start and not known.may_begin_name(words[0], len(words) == 1):
      words.pop(0)
    before = _WORD.findall(sentence[:start])[-1:]
    if words and not all(map(_is_little, words)):
      name = _without_s(' '.join(words))
      found.append((name, bool(before) and before[0] in _PREPOSITIONS))
  for name, follows_preposition in found:
    if not follows_preposition:
      return name
  spoken = {word.casefold() for word in _WORD.findall(sentence)}
  if may_be_user and spoken & _FIRST_PERSON:
    return USER
  return found[0][0] if found else ''


def _without_s(name):
  """Returns a name without its possessive ending ("Ada's")."""
  return re.sub(r"['’]s$", '', name)


def _is_little(word):
  return word.casefold() in _LITTLE_WORDS


def _first_word(sentence):
  return ''.join(_WORD.findall(sentence)[:1]).casefold()


def _has(words, word):
  """Whether a word is among others, in any of its forms."""
  return any(_is_form_of(other.casefold(), word.casefold()) for other in words)


def _is_form_of(one, other):
  """Whether two words begin alike and differ in a short ending at most."""
  short, long = sorted((one, other), key=len)
  same = 0
  while same < len(short) and short[same] == long[same]:
    same += 1
  needed = max(min(len(short), 4), len(short) - 2)
  return len(long) - len(short) <= 3 and same >= needed

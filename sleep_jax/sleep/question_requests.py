"""Requests about a sentence of a day, and how the sentence answers them.

A request names the subject of the sentence ("Tell me about Ada."), or, where
the user speaks of himself or herself, one of its words. The answer is what the
sentence says, as it would be said to the user: in the second person, and
without what only the user can say ("I heard that my neighbour Ada ..."). The
rules are English.

References: 2506.06266 (requests about a document that it answers itself).
"""

import re

from sleep_jax.sleep import question_text

_ABOUT = (
  'Tell me about {}.', 'What do you know about {}?',
  'What did I tell you about {}?', 'Who is {}?',
)  # fmt: skip
_USER_SAID = 'What did I say about {}?'
MOST = len(_ABOUT)
_SECOND_PERSON = {
  'i': 'you', 'me': 'you', 'my': 'your', 'mine': 'yours', 'am': 'are',
  'myself': 'yourself', "i'm": "you're", "i've": "you've", "i'll": "you'll",
  "i'd": "you'd",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z]+(?:['’][a-z]+)?")
_HAS_USER = re.compile(r'\b(?:I|me|my|our|we|us|you)\b', re.IGNORECASE)
# What stands before a name and ends where a clause about it begins: "I heard
# that", "By the way,", with "my old friend" or without it.
_LEADS_IN = re.compile(
  r'(?:.*(?:[,?!]|\bthat)|)\s*(?:(?:and|but|so)\s+)?'
  r'(?:(?:my|our)\s+(?:[\w-]+\s+){1,2})?',
  re.IGNORECASE,
)


def requests(passage: question_text.Passage, num: int) -> list[str]:
  """Returns requests that the sentence of a passage answers.

  Args:
    passage: what is asked about.
    num: most requests about its subject, at most `MOST`; 0 for none. There
      are none if the sentence does not name it. What the user says of himself
      or herself is asked for once by each of its words.
  """
  if not passage.subject or not num:
    return []
  if passage.subject == question_text.USER:
    return [_USER_SAID.format(word) for word in passage.answers]
  if passage.subject not in passage.sentence:
    return []  # 'It is old.' says nothing without the sentence before it.
  return [form.format(passage.subject) for form in _ABOUT[:num]]


def answer(passage: question_text.Passage) -> str:
  """Returns what the sentence of a passage says, as said to the user."""
  if passage.subject == question_text.USER:
    return in_second_person(passage.sentence)
  start = passage.sentence.find(passage.subject)
  before, rest = passage.sentence[:start], passage.sentence[start:]
  is_said = start > 0 and _HAS_USER.search(before)
  follows = rest[len(passage.subject) :]
  # At least a verb and what it is about.
  tells = follows.startswith(' ') and len(_WORD.findall(follows)) > 1
  return rest if is_said and tells and _LEADS_IN.fullmatch(before) else (
    passage.sentence
  )  # fmt: skip


def in_second_person(text: str) -> str:
  """Returns what the user says of himself or herself, as said to the user."""

  def change(match: re.Match[str]) -> str:
    word = match.group()
    other = _SECOND_PERSON.get(word.lower().replace('’', "'"))
    if other is None:
      return word
    before = text[: match.start()].rstrip()
    begins = not before or before[-1] in '.!?'
    return other.capitalize() if begins else other

  return _WORD.sub(change, text)

"""Requests about a sentence of a day, and how the sentence answers them.

A request names the subject of the sentence ("Tell me about Ada."), or, where
the user speaks of himself or herself, one of its words. It is answered by the
sentence. What a user says is said back in the second person, and without a
beginning that only the user can say ("I heard that my neighbour Ada ..."). The
rules are English.

References: 2506.06266 (requests about a document that it answers itself).
"""

import re

from sleep_jax.sleep import question_text

_ABOUT, _WHO = ('Tell me about {}.', 'What do you know about {}?'), 'Who is {}?'
ABOUT_PEOPLE = (*_ABOUT, _WHO)
# Of what a user tells, who speaks mostly of people.
_ABOUT_TOLD = (*_ABOUT, 'What did I tell you about {}?', _WHO)
_USER_SAID = 'What did I say about {}?'
MOST = len(_ABOUT_TOLD)
_SECOND_PERSON = {
  'i': 'you', 'i am': 'you are', 'i was': 'you were', "i'm": "you're",
  "i've": "you've", "i'll": "you'll", "i'd": "you'd", 'am i': 'are you',
  'was i': 'were you', 'me': 'you', 'my': 'your', 'mine': 'yours',
  'myself': 'yourself',
}  # fmt: skip
# Longer ones first. 'I' is a word of its own only in upper case.
_FIRST_PERSON = re.compile(
  r"(?<![\w.-])(?:I (?:am|was)\b|[Aa]m I\b|[Ww]as I\b|I['’](?:m|ve|ll|d)\b|I"
  r'|[Mm]yself|[Mm]ine|[Mm]e|[Mm]y)(?![\w-]|\.\w)'
)
_IS_TOLD_YOU = re.compile(r'\b(?:you|your|yours|yourself)\b', re.IGNORECASE)
# What may stand before a name and says nothing of it: "By the way,", "I heard
# that", "my old friend".
_LEADS_IN = re.compile(
  r'(?:(?:by the way|you know|oh|well|so|and|but|also|actually)\b,?\s*)*'
  r'(?:i (?:also |just |have |should )*(?:mention(?:ed)?|heard|learned|know|'
  r'was told|found out) that\s+)?(?:(?:my|our)\s+(?:[\w-]+\s+){1,2})?',
  re.IGNORECASE,
)


def requests(passage: question_text.Passage, num: int) -> list[str]:
  """Returns requests that the sentence of a passage answers.

  Args:
    passage: what is asked about.
    num: most requests about its subject, at most `MOST`, and two if no user
      says it; 0 for none. There are none if the sentence does not name it.
      What the user says of himself or herself is asked for once by each of its
      words, whatever `num` is.
  """
  if not passage.subject or not num:
    return []
  if passage.subject == question_text.USER:
    return [_USER_SAID.format(word) for word in passage.answers]
  if passage.subject not in passage.sentence:
    return []  # 'It is old.' says nothing without the sentence before it.
  forms = _ABOUT_TOLD if passage.is_told else _ABOUT
  return [form.format(passage.subject) for form in forms[:num]]


def restate(passage: question_text.Passage) -> str:
  """Returns what the sentence of a passage says, as said to the user."""
  sentence = passage.sentence
  if not passage.is_told:
    return sentence
  start = sentence.find(passage.subject)
  if passage.subject != question_text.USER and start > 0:
    before, rest = sentence[:start], sentence[start:]
    follows = rest[len(passage.subject) :]
    # At least a verb and what it is about.
    is_whole = follows.startswith(' ') and len(follows.split()) > 1
    if is_whole and _LEADS_IN.fullmatch(before):
      sentence = rest
  return in_second_person(sentence)


def in_second_person(text: str) -> str:
  """Returns what the user says of himself or herself, as said to the user.

  A text that speaks of 'you', which is the model, is returned as it is.
  """
  if _IS_TOLD_YOU.search(text):
    return text

  def change(match: re.Match[str]) -> str:
    other = _SECOND_PERSON[match.group().lower().replace('’', "'")]
    before = text[: match.start()].rstrip()
    begins = not before or before[-1] in '.!?'
    return other.capitalize() if begins else other

  return _FIRST_PERSON.sub(change, text)

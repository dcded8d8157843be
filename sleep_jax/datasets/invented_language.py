"""Languages that are drawn from a seed: a lexicon and a small grammar.

A sentence has a subject, a verb and an object. A language has one of the six
orders of the three, adjectives before or after their noun, affixes for plural,
object and both tenses, and a word of its own for each English word.
"""

import dataclasses
from collections.abc import Collection

import numpy as np

NOUNS = (
  'dog', 'cat', 'horse', 'goat', 'bird', 'farmer', 'baker', 'child', 'king',
  'sailor', 'doctor', 'teacher', 'tree', 'boat', 'stone', 'house',
)  # fmt: skip
VERBS = (
  'watch', 'follow', 'help', 'clean', 'paint', 'count', 'visit', 'wait for',
)  # fmt: skip
ADJECTIVES = ('old', 'small', 'red', 'quiet', 'tall', 'young', 'wet', 'strong')
_PLURALS = {'child': 'children'}
_CONSONANTS, _VOWELS = 'bdfghjklmnprstvz', 'aeiou'
_ORDERS = ('svo', 'sov', 'vso', 'vos', 'osv', 'ovs')


@dataclasses.dataclass(frozen=True)
class Phrase:
  """A noun, an adjective or '', and whether it is several."""

  noun: str
  adjective: str
  is_plural: bool

  def english(self) -> str:
    """Returns the phrase in English."""
    noun = self.noun
    if self.is_plural:
      noun = _PLURALS.get(noun, f'{noun}s')
    return ' '.join(filter(None, ('the', self.adjective, noun)))


@dataclasses.dataclass(frozen=True)
class Sentence:
  """Who does, or will do, what to whom."""

  subject: Phrase
  verb: str
  object: Phrase
  is_past: bool

  def english(self) -> str:
    """Returns the sentence in English."""
    first, *rest = self.verb.split()
    past = f'{first}d' if first.endswith('e') else f'{first}ed'
    verb = [past, *rest] if self.is_past else ['will', first, *rest]
    return ' '.join((self.subject.english(), *verb, self.object.english()))


def draw_sentence(rng: np.random.Generator) -> Sentence:
  """Draws a sentence; half of the phrases have an adjective."""

  def phrase() -> Phrase:
    adjective = str(rng.choice(ADJECTIVES)) if rng.random() < 0.5 else ''
    return Phrase(str(rng.choice(NOUNS)), adjective, bool(rng.random() < 0.5))

  return Sentence(
    phrase(), str(rng.choice(VERBS)), phrase(), bool(rng.random() < 0.5)
  )


@dataclasses.dataclass(frozen=True)
class Affix:
  """A syllable before or after a word."""

  text: str
  is_prefix: bool

  def join(self, word: str) -> str:
    """Returns the word with the affix."""
    return self.text + word if self.is_prefix else word + self.text


@dataclasses.dataclass(frozen=True)
class Language:
  """An invented language.

  Attributes:
    name: of the language.
    words: English noun, verb or adjective -> word.
    order: of subject, verb and object, such as 'sov'.
    adjective_first: whether an adjective precedes its noun.
    affixes: of 'plural', 'object', 'past' and 'future'.
  """

  name: str
  words: dict[str, str]
  order: str
  adjective_first: bool
  affixes: dict[str, Affix]

  def translate(self, sentence: Sentence) -> str:
    """Returns an English sentence in this language."""
    tense = 'past' if sentence.is_past else 'future'
    parts = {
      's': self._phrase(sentence.subject, is_object=False),
      'v': self.affixes[tense].join(self.words[sentence.verb]),
      'o': self._phrase(sentence.object, is_object=True),
    }
    return ' '.join(parts[part] for part in self.order)

  def _phrase(self, phrase: Phrase, *, is_object: bool) -> str:
    noun = self.words[phrase.noun]
    if phrase.is_plural:
      noun = self.affixes['plural'].join(noun)
    if is_object:
      noun = self.affixes['object'].join(noun)
    if not phrase.adjective:
      return noun
    pair = [self.words[phrase.adjective], noun]
    return ' '.join(pair if self.adjective_first else pair[::-1])


def draw_language(
  rng: np.random.Generator, used_names: Collection[str] = ()
) -> Language:
  """Draws a language: sounds, name, lexicon, order and affixes.

  Args:
    rng: draws everything.
    used_names: names of other languages, which it does not get.
  """
  consonants = rng.permutation([*_CONSONANTS])[:9]
  vowels = rng.permutation([*_VOWELS])[:4]
  syllable = lambda: str(rng.choice(consonants)) + str(rng.choice(vowels))
  name = ''
  while not name or name in used_names:
    name = (syllable() + syllable()).capitalize()
  english = [*NOUNS, *VERBS, *ADJECTIVES]
  words: dict[str, None] = {}
  while len(words) < len(english):
    words[syllable() + syllable()] = None
  affixes: dict[str, None] = {}
  while len(affixes) < 4:
    affixes[syllable()] = None
  return Language(
    name=name,
    words=dict(zip(english, words, strict=True)),
    order=str(rng.choice(_ORDERS)),
    adjective_first=bool(rng.random() < 0.5),
    affixes={
      kind: Affix(text, bool(rng.random() < 0.5))
      for kind, text in zip(
        ('plural', 'object', 'past', 'future'), affixes, strict=True
      )
    },
  )

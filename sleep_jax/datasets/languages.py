"""Dataset of languages that are learned one after the other.

An experience is a language: sentences with their English translations, and a
word list. The probes ask for the English of sentences that no row has. Without
a path the languages are invented (`invented_language`), so no model can know
them. With a path they are read from files as MTOB has them.

References: MTOB (2309.16575); the test with two languages in a row is CTNL of
2606.03979. Its languages are not here, and what it does beyond the order of the
two and chrF is not known to us.
"""

import glob
import os
from collections.abc import Iterator

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import (
  data_files,
  invented_language,
  json_lines,
  row_files,
)
from sleep_jax.datasets import dataset as dataset_lib

_USAGE = (
  'The languages dataset reads a folder with one folder for each language, '
  'learned in the order of their names, each with train*.json, test*.json and, '
  'if there is one, wordlist*.json: rows {"original", "translation"}, as in '
  'MTOB (Tanzer et al. 2023, 2309.16575: an encrypted archive in '
  'lukemelas/mtob on GitHub, which states its licences). Pass '
  '--config.data.path=FOLDER, or leave it out for invented languages.'
)
_FIELDS = ('original', 'translation')
_CANARY = 'big-bench-canary'  # The first row of a file of MTOB.
_NUM_GUARD = 64  # They are evaluated every night.
# chrF of translations to English.
_SCORE = dataset_lib.TextScore('chrf', package='sacrebleu')
_Pair = tuple[str, str, str]  # Text, its English, 'file:line'.


def make(
  *,
  path: str | None = None,
  english: str = 'translation',
  num_pretrain: int = 4,
  num_days: int = 2,
  sentences: int = 600,
  num_probes: int = 50,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of languages.

  Args:
    path: folder of languages; none invents them.
    english: of files, the field of a row that is English: 'original' or
      'translation'.
    num_pretrain: invented languages in the pretraining text. The model learns
      from them what a translation is.
    num_days: languages that are learned, one a day.
    sentences: pairs of each invented language.
    num_probes: most probes of each language.
    seed: draws languages, sentences and probes.
    stream_seed: if set, other languages are drawn for the experiences: a stream
      for tuning. Files have none.

  Raises:
    MissingFileError: the folder or a file of a language is missing.
    DataError: a row cannot be read (names file, line and field), there are too
      few languages, or a number is out of range.
  """
  for name, value, minimum in (
    ('num_pretrain', num_pretrain, 2), ('num_days', num_days, 1),
    ('sentences', sentences, 20), ('num_probes', num_probes, 1),
  ):  # fmt: skip
    if value < minimum:
      raise errors.DataError(
        f'languages: {name} is {value}: set it to {minimum} or more.'
      )
  if path:
    return _read(
      path,
      english,
      num_days,
      num_probes,
      seed,
      is_tuning=stream_seed is not None,
    )
  rng = np.random.default_rng([seed, 0])
  names: set[str] = set()
  pretrain, held_out, guard, prior = [], [], [], []
  for _ in range(num_pretrain):
    rows, asked = _invent(rng, names, sentences, num_probes, 'pretraining')
    # Of the pairs; the word list stays whole.
    pretrain += rows[sentences // 20 :]
    held_out += rows[: sentences // 20]
    share = -(-num_probes // num_pretrain)
    prior += asked[:share]
    guard += asked[share : share + _NUM_GUARD // num_pretrain]
  stream = 0 if stream_seed is None else 1 + stream_seed
  rng = np.random.default_rng([seed, 1, stream])
  experiences, probes = [], {'pretrain': prior}
  for day in range(1, num_days + 1):
    rows, asked = _invent(rng, names, sentences, num_probes, f'day {day}')
    experiences.append((f'language {day}', rows))
    probes[str(day)] = asked
  return dataset_lib.Dataset(
    name='languages', pretrain=pretrain, held_out=held_out,
    experiences=experiences, probes=probes, guard=guard, text_score=_SCORE,
  )  # fmt: skip


def _invent(
  rng: np.random.Generator,
  names: set[str],
  sentences: int,
  num_probes: int,
  when: str,
) -> tuple[list[dataset_lib.Row], list[dataset_lib.Probe]]:
  """Draws a language, and adds its name to those that are used.

  Returns:
    Rows, the sentences first; probes of other sentences.
  """
  language = invented_language.draw_language(rng, names)
  names.add(language.name)
  where = f'languages, {when}, {language.name}'
  drawn: dict[invented_language.Sentence, None] = {}
  while len(drawn) < sentences + num_probes:
    drawn[invented_language.draw_sentence(rng)] = None
  pairs = [
    (language.translate(sentence), sentence.english(), where)
    for sentence in drawn
  ]
  words = [(word, text, where) for text, word in language.words.items()]
  rows = [_row(language.name, *pair) for pair in pairs[:sentences] + words]
  return rows, [_probe(language.name, *pair) for pair in pairs[sentences:]]


def _prompt(language: str, text: str) -> str:
  return f'{language}: {text}\nEnglish:'


def _row(language: str, text: str, english: str, where: str) -> dataset_lib.Row:
  prompt = _prompt(language, text)
  return dataset_lib.Row(
    text=f'{prompt} {english}', response_start=len(prompt), where=where
  )


def _probe(
  language: str, text: str, english: str, where: str
) -> dataset_lib.Probe:
  return dataset_lib.Probe(
    prompt=_prompt(language, text), answer=f' {english}', where=where
  )


def _read(
  path: str,
  english: str,
  num_days: int,
  num_probes: int,
  seed: int,
  *,
  is_tuning: bool,
) -> dataset_lib.Dataset:
  """Reads the first languages of a folder."""
  if english not in _FIELDS:
    raise errors.DataError(
      f'languages: english is {english!r}: expected one of {_FIELDS}.'
    )
  if is_tuning:
    raise errors.DataError(
      'languages: files have no second stream to tune a learning rate on: name '
      'one rate in config.tune.learning_rates.'
    )
  if not os.path.isdir(path):
    raise errors.MissingFileError(f'languages: {path} is no folder. {_USAGE}')
  found = sorted(
    entry.name
    for entry in os.scandir(path)
    if entry.is_dir() and not entry.name.startswith('.')
  )
  if len(found) < num_days:
    raise errors.DataError(
      f'languages: {path} has {len(found)} folders of languages, but num_days '
      f'is {num_days}: add some, or lower data.settings.num_days. {_USAGE}'
    )
  rng = np.random.default_rng([seed, 2])
  experiences, probes = [], {}
  for day, name in enumerate(found[:num_days], 1):
    folder = os.path.join(path, name)
    pairs = [*_pairs(folder, 'train', english)]
    asked = [*_pairs(folder, 'test', english)]
    if glob.glob(os.path.join(glob.escape(folder), 'wordlist*')):
      pairs += _pairs(folder, 'wordlist', english)
    drawn = sorted(rng.permutation(len(asked))[:num_probes])
    experiences.append((name, [_row(name, *pair) for pair in pairs]))
    probes[str(day)] = [_probe(name, *asked[n]) for n in drawn]
  return dataset_lib.Dataset(
    name='languages', pretrain=[], held_out=[], experiences=experiences,
    probes=probes, text_score=_SCORE,
  )  # fmt: skip


def _pairs(folder: str, part: str, english: str) -> Iterator[_Pair]:
  """Yields the pairs of the files of a language that begin with `part`.

  Files whose name ends in _ek are from English to the language, and left out.
  """
  pattern = os.path.join(glob.escape(folder), f'{part}*')
  num = 0
  for file in data_files.find(pattern, _USAGE):
    if data_files.name(file).endswith('_ek'):
      continue
    for where, row in row_files.read(file):
      if _CANARY in row and not set(_FIELDS) & set(row):
        continue
      if part == 'wordlist' and isinstance(row.get('ke'), dict):
        pairs = _words(row['ke'], where)
      else:
        pairs = [_pair(row, english, where)]
      yield from pairs
      num += len(pairs)
  if not num:
    raise errors.DataError(f'languages: {pattern} holds no rows. {_USAGE}')


def _pair(row: dict, english: str, where: str) -> _Pair:
  """Returns a row; a test row of MTOB has the English in `ground_truth`."""
  text = _FIELDS[1 - _FIELDS.index(english)]
  if 'ground_truth' in row:
    text, english = 'original', 'ground_truth'
  return (
    json_lines.text_field(row, text, where).strip(),
    json_lines.text_field(row, english, where).strip(),
    where,
  )


def _words(words: dict, where: str) -> list[_Pair]:
  """Returns the pairs of a word list: word -> English, or [class, English]."""
  pairs = []
  for word, entry in words.items():
    value = entry[1] if isinstance(entry, list) and len(entry) > 1 else entry
    pairs.append(
      (word, json_lines.text_value(value, f'ke.{word}', where).strip(), where)
    )
  return pairs

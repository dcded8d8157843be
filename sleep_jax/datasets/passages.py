"""Passages and questions about them, as in SQuAD: read, then asked without.

Rows are one question each, with the passage it is about. An experience is one
passage or several (continued pretraining on all of them is one experience of
all). Answers are short, and a small model will hardly give one word for word:
so they are scored token by token, each after the right ones before it.

References: SQuAD (1606.05250); the passages and the sequence of eight of SEAL
(2506.10943, section 4 and appendix).
"""

from collections.abc import Sequence

import numpy as np

from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import json_lines, jsonl

_ABOUT = (
  'The passages world reads .jsonl or .jsonl.gz rows {"title", "context", '
  '"question", "answers": [...]}, such as SQuAD (Rajpurkar et al. 2016, CC '
  'BY-SA 4.0). Pass --config.data.path=FILE.'
)
# What a dream may be asked about a passage, after SEAL's prompts.
_DREAMS = (
  'What follows from the passage about {}:',
  'A question about {} and its answer:',
  'The passage about {} in other words:',
  'In short, the passage about {} says:',
)


def make(
  *,
  path: str | Sequence[str] | None,
  pretrain: str | Sequence[str] | None = None,
  num_days: int = 8,
  passages_per_day: int = 1,
  practice: int = 0,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """A world of passages.

  Args:
    path: file, folder, pattern or list of rows.
    birth: likewise, rows {"text"} known from birth; one in twenty is held out.
    num_days, passages_per_day: experiences, and passages in each.
    practice: questions of each passage that dreams are tried on and no probe
      asks; only passages with more questions than that are taken.
    seed: draws passages, their order, and which questions are practice.
    stream_seed: draws other passages than without: a stream to tune on.

  Raises:
    ValueError: names file, line and field of a row that cannot be read, or
      says how many passages there are.
  """
  for name, found, least in (
    ('num_days', num_days, 1),
    ('passages_per_day', passages_per_day, 1),
    ('practice', practice, 0),
  ):
    if found < least:
      raise ValueError(
        f'passages: {name} is {found}: set it to {least} or more.'
      )
  asked = {
    about: probes
    for about, probes in _read(path).items()
    if len(probes) > practice
  }
  order = np.random.default_rng([seed, 0]).permutation(len(asked))
  # A stream to tune on begins where the other ends.
  begin = 0 if stream_seed is None else num_days * passages_per_day
  needed = begin + num_days * passages_per_day
  if needed > len(asked):
    raise ValueError(
      f'passages: {num_days} days of {passages_per_day} passages'
      f'{" after those of the stream itself" if begin else ""} take {needed}, '
      f'but {path} has {len(asked)} with more than {practice} questions: lower '
      'num_days, passages_per_day or practice.'
    )
  known = list(asked)
  chosen = [known[place] for place in order[begin:needed]]
  rng = np.random.default_rng([seed, 1])
  born, held_out = jsonl.born(pretrain, rng) if pretrain else ([], [])
  dataset = dataset_lib.Dataset(
    name='passages',
    pretrain=born,
    held_out=held_out,
    experiences=[],
    probes={},
    dream_templates=list(_DREAMS),
    score='forced',
  )
  for day in range(1, num_days + 1):
    mine = chosen[(day - 1) * passages_per_day : day * passages_per_day]
    rows, probes, apart = [], [], []
    for title, context in mine:
      group = asked[title, context]
      lot = rng.permutation(len(group))
      apart += [group[place] for place in lot[:practice]]
      probes += [group[place] for place in sorted(lot[practice:])]
      rows.append(
        dataset_lib.Row(
          text=f'{title}\n{context}',
          subject=(0, len(title)),
          where=group[0].where,
        )
      )
    dataset.experiences.append((f'passage {day}', rows))
    dataset.probes[str(day)] = probes
    if practice:
      dataset.tasks[str(day)] = dataset_lib.Task(documents=rows, practice=apart)
  return dataset


def _read(
  path: str | Sequence[str] | None,
) -> dict[tuple[str, str], list[dataset_lib.Probe]]:
  """(title, passage) -> its questions, each once, in the order of the rows."""
  if not path:
    raise ValueError(f'passages: no data path is given. {_ABOUT}')
  found: dict[tuple[str, str], list[dataset_lib.Probe]] = {}
  asked: set[tuple[str, str]] = set()
  for file in jsonl.find(path):
    for where, row in json_lines.read(file):
      title, context, question = (
        json_lines.text(row, field, where).strip()
        for field in ('title', 'context', 'question')
      )
      if (title, question) in asked:
        continue
      asked.add((title, question))
      found.setdefault((title, context), []).append(
        dataset_lib.Probe(
          prompt=f'{title}\nQuestion: {question}\nAnswer:',
          answer=f' {_answer(row, where)}',
          where=where,
        )
      )
  return found


def _answer(row, where: str) -> str:
  answers = row.get('answers')
  if (
    not isinstance(answers, list)
    or not answers
    or not isinstance(answers[0], str)
    or not answers[0].strip()
  ):
    raise ValueError(
      f'{where}: field "answers" is {answers!r}: write a list that begins with '
      'the right answer as text.'
    )
  return answers[0].strip()

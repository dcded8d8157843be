"""Dataset of passages and questions about them, asked without the passage.

A row is one question with its passage. An experience is one passage or several;
continued pretraining on all passages is one experience with all of them. The
model trains on passages, and questions are asked without them. A small model
rarely generates an answer word for word, so answers are scored token by token,
each after the correct tokens before it ('forced').

References: SQuAD (1606.05250); the passages and the sequence of eight of SEAL
(2506.10943, section 4 and appendix).
"""

from collections.abc import Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import data_files, json_lines, jsonl, row_files
from sleep_jax.datasets import dataset as dataset_lib

_USAGE = (
  'The passages dataset reads .jsonl or .jsonl.gz rows {"title", "context", '
  '"question", "answers": [...]}, such as SQuAD (Rajpurkar et al. 2016, CC '
  'BY-SA 4.0). Pass --config.data.path=FILE.'
)
# Prompts of dreams about a passage, modelled on those of SEAL.
_DREAM_TEMPLATES = (
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
  """Returns a dataset of passages.

  Args:
    path: file, folder, pattern or list of rows.
    pretrain: likewise, rows {"text"} for pretraining; one in twenty is held
      out.
    num_days: number of experiences.
    passages_per_day: passages in each experience.
    practice: questions of each passage on which dreams are tried and that no
      probe asks; only passages with more questions than that are used.
    seed: draws passages, their order, and which questions are practice.
    stream_seed: if set, other passages are drawn: a stream for tuning.

  Raises:
    DataError: a row cannot be read (names file, line and field), or there are
      too few passages (says how many).
  """
  for name, value, minimum in (
    ('num_days', num_days, 1),
    ('passages_per_day', passages_per_day, 1),
    ('practice', practice, 0),
  ):
    if value < minimum:
      raise errors.DataError(
        f'passages: {name} is {value}: set it to {minimum} or more.'
      )
  probes_by_passage = {
    passage: probes
    for passage, probes in _read(path).items()
    if len(probes) > practice
  }
  order = np.random.default_rng([seed, 0]).permutation(len(probes_by_passage))
  # A stream for tuning starts where the scored stream ends.
  begin = 0 if stream_seed is None else num_days * passages_per_day
  needed = begin + num_days * passages_per_day
  if needed > len(probes_by_passage):
    raise errors.DataError(
      f'passages: {num_days} days of {passages_per_day} passages'
      f'{" after those of the stream itself" if begin else ""} need {needed}, '
      f'but {path} has {len(probes_by_passage)} with more than {practice} '
      'questions: lower num_days, passages_per_day or practice.'
    )
  passages = list(probes_by_passage)
  chosen = [passages[index] for index in order[begin:needed]]
  rng = np.random.default_rng([seed, 1])
  pretrain_rows, held_out = (
    jsonl.read_pretrain(pretrain, rng) if pretrain else ([], [])
  )
  dataset = dataset_lib.Dataset(
    name='passages',
    pretrain=pretrain_rows,
    held_out=held_out,
    experiences=[],
    probes={},
    dream_templates=list(_DREAM_TEMPLATES),
    score='forced',
  )
  for day in range(1, num_days + 1):
    of_day = chosen[(day - 1) * passages_per_day : day * passages_per_day]
    rows, probes, practice_probes = [], [], []
    for title, context in of_day:
      group = probes_by_passage[title, context]
      drawn = rng.permutation(len(group))
      practice_probes += [group[index] for index in drawn[:practice]]
      probes += [group[index] for index in sorted(drawn[practice:])]
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
      dataset.tasks[str(day)] = dataset_lib.Task(
        documents=rows, practice=practice_probes
      )
  return dataset


def _read(
  path: str | Sequence[str] | None,
) -> dict[tuple[str, str], list[dataset_lib.Probe]]:
  """Returns the probes of each (title, passage), in the order of the rows.

  A question that is repeated under the same title is used once.
  """
  if not path:
    raise errors.DataError(f'passages: no data path is given. {_USAGE}')
  probes: dict[tuple[str, str], list[dataset_lib.Probe]] = {}
  seen: set[tuple[str, str]] = set()
  for file in data_files.find(path, _USAGE):
    for where, row in row_files.read(file):
      title, context, question = (
        json_lines.text_field(row, field, where).strip()
        for field in ('title', 'context', 'question')
      )
      if (title, question) in seen:
        continue
      seen.add((title, question))
      probes.setdefault((title, context), []).append(
        dataset_lib.Probe(
          prompt=f'{title}\nQuestion: {question}\nAnswer:',
          answer=f' {_answer(row, where)}',
          where=where,
        )
      )
  return probes


def _answer(row, where: str) -> str:
  """Returns the first answer of a row."""
  answers = row.get('answers')
  if (
    not isinstance(answers, list)
    or not answers
    or not isinstance(answers[0], str)
    or not answers[0].strip()
  ):
    raise errors.DataError(
      f'{where}: field "answers" is {answers!r}: expected a list that starts '
      'with the correct answer as a non-empty string.'
    )
  return answers[0].strip()

"""Dataset of labelled texts; new classes arrive with each experience.

This is class-incremental classification without a classifier: the label is the
text that follows, and is ranked among all labels taught so far. Nothing in the
model depends on the number of classes.
"""

import os

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, json_lines, row_files

_USAGE = (
  'The intents dataset reads a folder with train, val and test (.jsonl or '
  '.jsonl.gz), rows {"text": ..., "label": ...}; for example CLINC150 (Larson '
  'et al. 2019, clinc/oos-eval on GitHub, CC BY 3.0) written as one JSON '
  'object per line. Pass --config.data.path=FOLDER.'
)
_GUARD_PER_CLASS = 4
_Split = dict[str, list[tuple[str, str]]]  # Label -> (text, 'file:line').


def make(
  *,
  path: str | None,
  pretrain_classes: int = 50,
  num_days: int = 10,
  classes_per_day: int = 10,
  texts_per_class: int = 10,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset.Dataset:
  """Returns a dataset of labelled texts.

  Args:
    path: folder of train, val and test.
    pretrain_classes: number of classes in the pretraining text.
    num_days: number of experiences.
    classes_per_day: new classes in each experience.
    texts_per_class: maximum number of scored probes of a class.
    seed: draws the order of classes and the probes.
    stream_seed: if set, the experiences get their classes in another order,
      pretraining is unchanged, and val is scored instead of test: a stream for
      tuning.

  Raises:
    MissingFileError: the folder lacks a file.
    DataError: a row cannot be read (names file, line and field), a number is
      below 1, there are too few classes, or a class has no text to score.
  """
  train, val, test = (
    _read_split(path, name) for name in ('train', 'val', 'test')
  )
  tuning = stream_seed is not None
  num_classes = pretrain_classes + num_days * classes_per_day
  if min(pretrain_classes, num_days, classes_per_day, texts_per_class) < 1:
    raise errors.DataError(
      f'intents: pretrain_classes {pretrain_classes}, num_days {num_days}, '
      f'classes_per_day {classes_per_day} and texts_per_class '
      f'{texts_per_class} must all be 1 or more.'
    )
  if num_classes > len(train):
    raise errors.DataError(
      f'intents: {pretrain_classes} pretraining classes and {num_days} days of '
      f'{classes_per_day} need {num_classes} classes, but {path} has '
      f'{len(train)}: lower one of the three.'
    )
  order = _permute(sorted(train), [seed, 0])
  pretrain, later = order[:pretrain_classes], order[pretrain_classes:]
  if tuning:
    later = _permute(later, [seed, 1, stream_seed])
  days = [
    later[day * classes_per_day : (day + 1) * classes_per_day]
    for day in range(num_days)
  ]
  shuffled_val = _shuffle(val, [seed, 2])
  scored = shuffled_val if tuning else _shuffle(test, [seed, 3])

  def make_rows(split: _Split, labels: list[str]) -> list[dataset.Row]:
    return [_row(*text, label) for label in labels for text in split[label]]

  def make_probes(split: _Split, labels: list[str], texts: slice):
    probes = []
    for label in labels:
      if not split.get(label):
        raise errors.DataError(
          f'intents: label {label!r} of {path} has no text in '
          f'{"val" if split is shuffled_val else "test"} to score: add some or '
          'remove the label.'
        )
      probes += [_probe(*text, label) for text in split[label][texts]]
    return probes

  scored_texts = slice(texts_per_class)
  # The guard takes val texts from the end, those scored in tuning come from
  # the start.
  guard = make_probes(shuffled_val, pretrain, slice(-_GUARD_PER_CLASS, None))
  scored_pretrain = make_probes(scored, pretrain, scored_texts)
  if tuning:
    prompts = {probe.prompt for probe in scored_pretrain}
    guard = [probe for probe in guard if probe.prompt not in prompts]
  return dataset.Dataset(
    name='intents',
    pretrain=make_rows(train, pretrain),
    held_out=make_rows(val, pretrain),
    experiences=[
      (f'day {day}', make_rows(train, labels))
      for day, labels in enumerate(days, 1)
    ],
    probes={
      'pretrain': scored_pretrain,
      **{
        str(day): make_probes(scored, labels, scored_texts)
        for day, labels in enumerate(days, 1)
      },
    },
    guard=guard,
    candidates={
      'label': [
        (_label_text(label), since)
        for since, labels in enumerate([pretrain, *days])
        for label in labels
      ]
    },
    score='rank',
  )


def _read_split(path: str | None, name: str) -> _Split:
  """Reads one file of the folder."""
  if not path:
    raise errors.DataError(f'intents: no data path is given. {_USAGE}')
  for suffix in ('.jsonl', '.jsonl.gz'):
    file = os.path.join(path, name + suffix)
    if os.path.exists(file):
      break
  else:
    raise errors.MissingFileError(
      f'intents: {path} has no {name}.jsonl or {name}.jsonl.gz. {_USAGE}'
    )
  texts: dict[str, list[tuple[str, str]]] = {}
  for where, row in row_files.read(file):
    label = json_lines.text_field(row, 'label', where)
    texts.setdefault(label, []).append(
      (json_lines.text_field(row, 'text', where), where)
    )
  if not texts:
    raise errors.DataError(f'intents: {file} holds no rows. {_USAGE}')
  return texts


def _permute(items: list, seed: list[int]) -> list:
  order = np.random.default_rng(seed).permutation(len(items))
  return [items[index] for index in order]


def _shuffle(split: _Split, seed: list[int]) -> _Split:
  """Shuffles the texts of each label.

  All labels are shuffled, so the order does not depend on which are used.
  """
  rng = np.random.default_rng(seed)
  return {
    label: [split[label][i] for i in rng.permutation(len(split[label]))]
    for label in sorted(split)
  }


def _label_text(label: str) -> str:
  return ' ' + label.replace('_', ' ')


def _prompt(text: str) -> str:
  return f'Text: {text}\nLabel:'


def _row(text: str, where: str, label: str) -> dataset.Row:
  prompt = _prompt(text)
  return dataset.Row(
    text=prompt + _label_text(label), response_start=len(prompt), where=where
  )


def _probe(text: str, where: str, label: str) -> dataset.Probe:
  return dataset.Probe(
    prompt=_prompt(text),
    answer=_label_text(label),
    candidates='label',
    where=where,
  )

"""Texts and their labels, some classes at birth and a few new ones each day.

Class-incremental classification without a classifier: the label is the text
that follows, ranked among all labels met so far, so nothing about the model
has to know how many classes there will be.
"""

import os

import numpy as np

from sleep_jax.datasets import dataset, json_lines

_ABOUT = (
  'The intents world reads a folder with train, val and test (.jsonl or '
  '.jsonl.gz), rows {"text": ..., "label": ...}; for example CLINC150 (Larson '
  'et al. 2019, clinc/oos-eval on GitHub, CC BY 3.0) written as one JSON '
  'object per line. Pass --config.data.path=FOLDER.'
)
_GUARD_PER_CLASS = 4
_Split = dict[str, list[tuple[str, str]]]  # Label -> (text, file:line).


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
  """A world of labelled texts.

  Args:
    path: folder of train, val and test.
    pretrain_classes: classes known from birth.
    num_days, classes_per_day: experiences, and new classes in each.
    texts_per_class: the most scored probes of a class.
    seed: draws the order of classes and the probes.
    stream_seed: draws the days' classes in another order, birth unchanged,
      and scores val instead of test: a stream to tune on.
  """
  train, val, test = (_split(path, name) for name in ('train', 'val', 'test'))
  tuning = stream_seed is not None
  needed = pretrain_classes + num_days * classes_per_day
  if min(pretrain_classes, num_days, classes_per_day, texts_per_class) < 1:
    raise ValueError(
      f'intents: pretrain_classes {pretrain_classes}, num_days {num_days}, '
      f'classes_per_day {classes_per_day} and texts_per_class '
      f'{texts_per_class} must all be 1 or more.'
    )
  if needed > len(train):
    raise ValueError(
      f'intents: {pretrain_classes} classes of birth and {num_days} days of '
      f'{classes_per_day} make {needed} classes, but {path} has {len(train)}: '
      'lower one of the three.'
    )
  order = _permuted(sorted(train), [seed, 0])
  born, later = order[:pretrain_classes], order[pretrain_classes:]
  if tuning:
    later = _permuted(later, [seed, 1, stream_seed])
  days = [
    later[day * classes_per_day : (day + 1) * classes_per_day]
    for day in range(num_days)
  ]
  shuffled_val = _shuffled(val, [seed, 2])
  scored = shuffled_val if tuning else _shuffled(test, [seed, 3])

  def rows(split: _Split, labels: list[str]) -> list[dataset.Row]:
    return [_row(*text, label) for label in labels for text in split[label]]

  def probes(split: _Split, labels: list[str], texts: slice):
    chosen = []
    for label in labels:
      if not split.get(label):
        raise ValueError(
          f'intents: label {label!r} of {path} has no text to be probed with '
          f'in {"val" if split is shuffled_val else "test"}: add some or '
          'remove the label.'
        )
      chosen += [_probe(*text, label) for text in split[label][texts]]
    return chosen

  asked = slice(texts_per_class)
  # From the end, so that tuning scores other texts of val than the guard.
  guard = probes(shuffled_val, born, slice(-_GUARD_PER_CLASS, None))
  scored_pretrain = probes(scored, born, asked)
  if tuning:
    prompts = {probe.prompt for probe in scored_pretrain}
    guard = [probe for probe in guard if probe.prompt not in prompts]
  return dataset.Dataset(
    name='intents',
    pretrain=rows(train, born),
    held_out=rows(val, born),
    experiences=[
      (f'day {day}', rows(train, labels)) for day, labels in enumerate(days, 1)
    ],
    probes={
      'pretrain': scored_pretrain,
      **{
        str(day): probes(scored, labels, asked)
        for day, labels in enumerate(days, 1)
      },
    },
    guard=guard,
    candidates={
      'label': [
        (_words(label), since)
        for since, labels in enumerate([born, *days])
        for label in labels
      ]
    },
    score='rank',
  )


def _split(path: str | None, name: str) -> _Split:
  """label -> [(text, where)] of one file of the folder."""
  if not path:
    raise ValueError(f'intents: no data path is given. {_ABOUT}')
  for suffix in ('.jsonl', '.jsonl.gz'):
    file = os.path.join(path, name + suffix)
    if os.path.exists(file):
      break
  else:
    raise FileNotFoundError(
      f'intents: {path} holds no {name}.jsonl or {name}.jsonl.gz. {_ABOUT}'
    )
  texts: dict[str, list[tuple[str, str]]] = {}
  for where, row in json_lines.read(file):
    label = json_lines.text(row, 'label', where)
    texts.setdefault(label, []).append(
      (json_lines.text(row, 'text', where), where)
    )
  if not texts:
    raise ValueError(f'intents: {file} holds no rows. {_ABOUT}')
  return texts


def _permuted(items: list, seed: list[int]) -> list:
  order = np.random.default_rng(seed).permutation(len(items))
  return [items[place] for place in order]


def _shuffled(split: _Split, seed: list[int]) -> _Split:
  """The texts of each label in a drawn order, whatever labels are chosen."""
  rng = np.random.default_rng(seed)
  return {
    label: [split[label][i] for i in rng.permutation(len(split[label]))]
    for label in sorted(split)
  }


def _words(label: str) -> str:
  return ' ' + label.replace('_', ' ')


def _prompt(text: str) -> str:
  return f'Text: {text}\nLabel:'


def _row(text: str, where: str, label: str) -> dataset.Row:
  prompt = _prompt(text)
  return dataset.Row(
    text=prompt + _words(label), response_start=len(prompt), where=where
  )


def _probe(text: str, where: str, label: str) -> dataset.Probe:
  return dataset.Probe(
    prompt=_prompt(text), answer=_words(label), candidates='label', where=where
  )

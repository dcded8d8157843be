"""ARC dataset: grids as text; a dream chooses how to learn from a task's pairs.

Each experience is one task. All of its training pairs but one are shown; the
last is the practice pair, on which dreams are tried. The test pairs are the
scored probes. A dream is a choice, as in SEAL: which augmentations of the shown
pairs to train on, on answers only or on all of the text, with which learning
rate and for how many steps. Pretraining text is other tasks with solutions, and
random choices for them, from which the model learns how choices are written.

References: ARC-AGI-1 (1911.01547; Apache-2.0); test-time training,
2411.07279; SEAL (2506.10943), section 4 and appendix.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import (
  arc_augmentations,
  data_files,
  json_lines,
  row_files,
)
from sleep_jax.datasets import dataset as dataset_lib

_USAGE = (
  'The arc dataset reads .jsonl or .jsonl.gz rows {"id", "train": [{"input", '
  '"output"}, ...], "test": [...]}, grids as lists of rows of digits '
  '(ARC-AGI-1, Chollet 2019, Apache-2.0). Pass --config.data.path=FILE.'
)
_DREAM_TEMPLATE = 'Learn task {}:'


def make(
  *,
  path: str | Sequence[str] | None,
  pretrain: str | Sequence[str] | None = None,
  num_days: int = 8,
  longest: int = 380,
  choices_per_task: int = 4,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of ARC tasks.

  Args:
    path: file, folder, pattern or list of rows.
    pretrain: likewise, tasks for pretraining; one in twenty is held out.
    num_days: number of experiences, one task each.
    longest: characters of the longest text; tasks that need more are left out.
    choices_per_task: random choices in the pretraining text for each of its
      tasks.
    seed: draws tasks and their order, recolourings, and the choices in the
      pretraining text.
    stream_seed: if set, other tasks are drawn: a stream for tuning.

  Raises:
    DataError: a row cannot be read (names file, line and field), or there are
      too few tasks (says how many).
  """
  for name, value in (('num_days', num_days), ('longest', longest)):
    if value < 1:
      raise errors.DataError(f'arc: {name} is {value}: set it to 1 or more.')
  tasks = [task for task in _read(path) if task.size <= longest]
  order = np.random.default_rng([seed, 0]).permutation(len(tasks))
  # A stream for tuning starts where the scored stream ends.
  begin = 0 if stream_seed is None else num_days
  if begin + num_days > len(tasks):
    raise errors.DataError(
      f'arc: {num_days} days{" after those of the stream" if begin else ""} '
      f'need {begin + num_days} tasks, but {path} has {len(tasks)} of at most '
      f'{longest} characters and with two pairs or more: lower num_days or '
      'raise longest (and data.context).'
    )
  rng = np.random.default_rng([seed, 1])
  names = {task.name for task in tasks}
  pretrain_tasks = (
    [task for task in _read(pretrain) if task.size <= longest]
    if pretrain
    else []
  )
  pretrain_rows: list[dataset_lib.Row] = []
  held_out: list[dataset_lib.Row] = []
  for number, task in enumerate(
    t for t in pretrain_tasks if t.name not in names
  ):
    (held_out if number % 20 == 19 else pretrain_rows).extend(
      _pretrain_rows(task, rng, choices_per_task)
    )
  dataset = dataset_lib.Dataset(
    name='arc',
    pretrain=pretrain_rows,
    held_out=held_out,
    experiences=[],
    probes={},
    dream_templates=[_DREAM_TEMPLATE],
    score='forced',
  )
  for day, index in enumerate(order[begin : begin + num_days], 1):
    task = tasks[index]
    *shown, practice_pair = task.pairs
    document = dataset_lib.Row(
      text=task.text(shown), subject=task.subject, where=task.where
    )
    dataset.experiences.append((task.name, [document]))
    dataset.probes[str(day)] = [
      _probe(task, task.pairs, test_pair) for test_pair in task.tests
    ]
    lessons, choices = _lessons_and_choices(task, shown, rng)
    dataset.tasks[str(day)] = dataset_lib.Task(
      documents=[document],
      practice=[_probe(task, shown, practice_pair)],
      choices=choices,
      lessons=lessons,
    )
  return dataset


class _Task:
  """One task: its pairs and their text.

  Attributes:
    where: 'file:line' of the task.
    name: its id.
    pairs: training pairs.
    tests: test pairs.
    subject: characters [start, end) of the name in the task's text.
    size: characters of the longest text that the task needs.
  """

  def __init__(self, where: str, row: dict):
    self.where = where
    self.name = json_lines.text_field(row, 'id', where)
    self.pairs = _pairs(row, 'train', where)
    self.tests = _pairs(row, 'test', where)
    header = f'Task {self.name}'
    self.subject = (len('Task '), len(header))
    longest_test = max(self.tests, key=lambda pair: len(_pair_text(*pair)))
    probe_pairs = [*self.pairs, longest_test]
    dream = (
      self.text(self.pairs[:-1])
      + _DREAM_TEMPLATE.format(self.name)
      + arc_augmentations.LONGEST_OPTION
    )
    self.size = max(len(self.text(probe_pairs)), len(dream))

  def text(self, pairs: Sequence[arc_augmentations.Pair]) -> str:
    """Returns the text of some pairs, after the task's name."""
    return f'Task {self.name}\n' + ''.join(_pair_text(*pair) for pair in pairs)


def _pairs(row, field, where) -> list[arc_augmentations.Pair]:
  """Returns the pairs in a field of a row."""
  values = row.get(field)
  if not isinstance(values, list) or not values:
    raise errors.DataError(
      f'{where}: field {field!r} is not a list of one or more pairs. {_USAGE}'
    )
  pairs = []
  for number, pair in enumerate(values):
    grids = []
    for side in ('input', 'output'):
      try:
        grid = np.array(pair[side], np.int64)
      except (TypeError, ValueError, KeyError) as error:
        raise errors.DataError(
          f'{where}: {field}[{number}] has no valid grid {side!r}: expected '
          'rows of digits, all of one length.'
        ) from error
      if grid.ndim != 2 or not grid.size or grid.min() < 0 or grid.max() > 9:
        raise errors.DataError(
          f'{where}: {field}[{number}].{side} is not a grid: expected rows of '
          'digits 0 to 9, all of one length.'
        )
      grids.append(grid)
    pairs.append((grids[0], grids[1]))
  return pairs


def _read(path) -> list[_Task]:
  """Returns the tasks that have a pair to show and one to practise on."""
  if not path:
    raise errors.DataError(f'arc: no data path is given. {_USAGE}')
  tasks = [
    _Task(where, row)
    for file in data_files.find(path, _USAGE)
    for where, row in row_files.read(file)
  ]
  return [task for task in tasks if len(task.pairs) > 1]


def _grid_text(grid: arc_augmentations.Grid) -> str:
  return '\n'.join(''.join(map(str, row)) for row in grid.tolist())


def _question_text(grid: arc_augmentations.Grid) -> str:
  return f'in\n{_grid_text(grid)}\nout\n'


def _pair_text(
  input_grid: arc_augmentations.Grid, output_grid: arc_augmentations.Grid
) -> str:
  return f'{_question_text(input_grid)}{_grid_text(output_grid)}\n'


def _probe(
  task: _Task,
  shown: Sequence[arc_augmentations.Pair],
  pair: arc_augmentations.Pair,
) -> dataset_lib.Probe:
  """Returns a probe of a pair that follows the shown pairs."""
  return dataset_lib.Probe(
    prompt=task.text(shown) + _question_text(pair[0]),
    answer=_grid_text(pair[1]),
    where=task.where,
  )


def _lessons_and_choices(
  task: _Task, shown: Sequence[arc_augmentations.Pair], rng: np.random.Generator
) -> tuple[list[dataset_lib.Row], list[dataset_lib.Choice]]:
  """Returns the lessons of a task and all choices among them.

  A lesson is a shown pair, after the other shown pairs, all transformed alike.
  Every lesson exists twice: only its answer has targets, or all of its text.
  """
  transforms = arc_augmentations.make_transforms(rng)
  rows: list[dataset_lib.Row] = []
  indices: dict[tuple[str, bool], list[int]] = {}
  for kind, of_kind in transforms.items():
    for transform, number in itertools.product(of_kind, range(len(shown))):
      pairs = [
        (transform(input_grid), transform(output_grid))
        for input_grid, output_grid in shown
      ]
      input_grid, output_grid = pairs.pop(number)
      prompt = task.text(pairs) + _question_text(input_grid)
      for answers_only in (True, False):
        indices.setdefault((kind, answers_only), []).append(len(rows))
        rows.append(
          dataset_lib.Row(
            text=prompt + _grid_text(output_grid),
            response_start=len(prompt) if answers_only else 0,
            where=task.where,
          )
        )
  choices = []
  for option in arc_augmentations.OPTIONS:
    kinds = ('plain', *option.augmentations)
    lessons = [indices[kind, option.answers_only] for kind in kinds]
    choices.append(
      dataset_lib.Choice(
        option.text, tuple(itertools.chain(*lessons)), option.rate, option.share
      )
    )
  return rows, choices


def _pretrain_rows(task, rng, num_choices: int) -> list[dataset_lib.Row]:
  """Returns a task with its solution, and the task with random choices."""
  solved = task.text([*task.pairs, task.tests[0]])
  rows = [dataset_lib.Row(text=solved, subject=task.subject, where=task.where)]
  *shown, _ = task.pairs
  prompt = task.text(shown) + _DREAM_TEMPLATE.format(task.name)
  options = arc_augmentations.OPTIONS
  for _ in range(num_choices):
    text = options[rng.integers(len(options))].text
    rows.append(
      dataset_lib.Row(
        text=prompt + text,
        target_start=len(prompt),
        subject=task.subject,
        where=task.where,
      )
    )
  return rows

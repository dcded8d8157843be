"""ARC: grids as text; a dream chooses how to learn from a task's own pairs.

An experience is one task. Its pairs but one are shown; that one is practice,
what dreams are tried on; the test pairs are asked in the end. A dream is a
choice, as in SEAL: which augmentations of the shown pairs to learn from, on
answers alone or on all of the text, how fast and how long. Birth is other
tasks, solved, and choices at random, so that the writer knows how one is said.

References: ARC-AGI-1 (1911.01547; Apache-2.0); test-time training,
2411.07279; SEAL (2506.10943), section 4 and appendix.
"""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from sleep_jax.datasets import arc_augmentations, json_lines, jsonl
from sleep_jax.datasets import dataset as dataset_lib

_ABOUT = (
  'The arc world reads .jsonl or .jsonl.gz rows {"id", "train": [{"input", '
  '"output"}, ...], "test": [...]}, grids as lists of rows of digits '
  '(ARC-AGI-1, Chollet 2019, Apache-2.0). Pass --config.data.path=FILE.'
)
_DREAM = 'Learn task {}:'
_RATES = {1.0: 'slowly', 3.0: 'fast'}
_SHARES = {0.5: 'shortly', 1.0: 'long'}


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
  """A world of ARC tasks.

  Args:
    path: file, folder, pattern or list of rows.
    birth: likewise, tasks known from birth; one in twenty is held out.
    num_days: experiences, one task each.
    longest: characters of the longest text; tasks that need more are left out.
    choices_per_task: random choices that birth tells about each of its tasks.
    seed: draws tasks and their order, colourings, and choices told at birth.
    stream_seed: draws other tasks than without: a stream to tune on.

  Raises:
    ValueError: names file, line and field of a row that cannot be read, or
      says how many tasks there are.
  """
  for name, value in (('num_days', num_days), ('longest', longest)):
    if value < 1:
      raise ValueError(f'arc: {name} is {value}: set it to 1 or more.')
  tasks = [task for task in _read(path) if task.size <= longest]
  order = np.random.default_rng([seed, 0]).permutation(len(tasks))
  # A stream to tune on begins where the other ends.
  begin = 0 if stream_seed is None else num_days
  if begin + num_days > len(tasks):
    raise ValueError(
      f'arc: {num_days} days{" after those of the stream" if begin else ""} '
      f'take {begin + num_days} tasks, but {path} has {len(tasks)} of at most '
      f'{longest} characters and with two pairs or more: lower num_days or '
      'raise longest (and data.context).'
    )
  rng = np.random.default_rng([seed, 1])
  named = {task.name for task in tasks}
  known = (
    [task for task in _read(pretrain) if task.size <= longest]
    if pretrain
    else []
  )
  born: list[dataset_lib.Row] = []
  held_out: list[dataset_lib.Row] = []
  for number, task in enumerate(t for t in known if t.name not in named):
    (held_out if number % 20 == 19 else born).extend(
      _told(task, rng, choices_per_task)
    )
  dataset = dataset_lib.Dataset(
    name='arc', pretrain=born, held_out=held_out, experiences=[], probes={},
    dream_templates=[_DREAM], score='forced',
  )  # fmt: skip
  for day, place in enumerate(order[begin : begin + num_days], 1):
    task = tasks[place]
    *shown, apart = task.pairs
    document = dataset_lib.Row(
      text=task.text(shown), subject=task.subject, where=task.where
    )
    dataset.experiences.append((task.name, [document]))
    dataset.probes[str(day)] = [
      _probe(task, task.pairs, asked) for asked in task.tests
    ]
    lessons, choices = _lessons(task, shown, rng)
    dataset.tasks[str(day)] = dataset_lib.Task(
      documents=[document], practice=[_probe(task, shown, apart)],
      choices=choices, lessons=lessons,
    )  # fmt: skip
  return dataset


@dataclasses.dataclass(frozen=True)
class _Option:
  """Augmentations, answers alone or all of a text, rate, share of steps."""

  augmentations: tuple[str, ...]
  alone: bool
  rate: float
  share: float

  @property
  def text(self) -> str:
    what = ' '.join(self.augmentations) or 'plain'
    on = 'answers' if self.alone else 'all'
    return f' {what}, {on}, {_RATES[self.rate]}, {_SHARES[self.share]}'


class _Task:
  """One task: its pairs, and how it is written."""

  def __init__(self, where: str, row: dict):
    self.where = where
    self.name = json_lines.text(row, 'id', where)
    self.pairs = _pairs(row, 'train', where)
    self.tests = _pairs(row, 'test', where)
    begun = f'Task {self.name}'
    self.subject = (len('Task '), len(begun))
    asked = [*self.pairs, max(self.tests, key=lambda pair: len(_both(*pair)))]
    dream = self.text(self.pairs[:-1]) + _DREAM.format(self.name) + _LONGEST
    self.size = max(len(self.text(asked)), len(dream))

  def text(self, pairs: Sequence[arc_augmentations.Pair]) -> str:
    return f'Task {self.name}\n' + ''.join(_both(*pair) for pair in pairs)


def _pairs(row, field, where) -> list[arc_augmentations.Pair]:
  found = row.get(field)
  if not isinstance(found, list) or not found:
    raise ValueError(
      f'{where}: field {field!r} holds no list of pairs. {_ABOUT}'
    )
  pairs = []
  for number, pair in enumerate(found):
    grids = []
    for side in ('input', 'output'):
      try:
        grid = np.array(pair[side], np.int64)
      except (TypeError, ValueError, KeyError) as error:
        raise ValueError(
          f'{where}: {field}[{number}] has no grid {side!r}: expected rows of '
          'digits, all of one length.'
        ) from error
      if grid.ndim != 2 or not grid.size or grid.min() < 0 or grid.max() > 9:
        raise ValueError(
          f'{where}: {field}[{number}].{side} is no grid: expected rows of '
          'digits 0 to 9, all of one length.'
        )
      grids.append(grid)
    pairs.append((grids[0], grids[1]))
  return pairs


def _read(path) -> list[_Task]:
  """Tasks with a pair to show and one to practise on."""
  if not path:
    raise ValueError(f'arc: no data path is given. {_ABOUT}')
  made = [
    _Task(where, row)
    for file in jsonl.find(path)
    for where, row in json_lines.read(file)
  ]
  return [task for task in made if len(task.pairs) > 1]


def _grid(grid: arc_augmentations.Grid) -> str:
  return '\n'.join(''.join(map(str, row)) for row in grid.tolist())


def _asked(grid: arc_augmentations.Grid) -> str:
  return f'in\n{_grid(grid)}\nout\n'


def _both(given: arc_augmentations.Grid, wanted: arc_augmentations.Grid) -> str:
  return f'{_asked(given)}{_grid(wanted)}\n'


def _probe(
  task: _Task,
  shown: Sequence[arc_augmentations.Pair],
  pair: arc_augmentations.Pair,
) -> dataset_lib.Probe:
  return dataset_lib.Probe(
    prompt=task.text(shown) + _asked(pair[0]), answer=_grid(pair[1]),
    where=task.where,
  )  # fmt: skip


def _options() -> list[_Option]:
  """All choices."""
  kinds = ('turn', 'flip', 'colours')
  subsets = [
    some
    for size in range(len(kinds) + 1)
    for some in itertools.combinations(kinds, size)
  ]
  return [
    _Option(some, alone, rate, share)
    for some in subsets
    for alone in (True, False)
    for rate in _RATES
    for share in _SHARES
  ]


_OPTIONS = _options()
_LONGEST = max((option.text for option in _OPTIONS), key=len)


def _lessons(
  task: _Task, shown: Sequence[arc_augmentations.Pair], rng: np.random.Generator
) -> tuple[list[dataset_lib.Row], list[dataset_lib.Choice]]:
  """Each shown pair behind the others, in every variant; and all choices."""
  variants: dict[str, list[arc_augmentations.Change]] = {
    'plain': [lambda grid: grid],
    'turn': arc_augmentations.TURNS,
    'flip': arc_augmentations.FLIPS,
    'colours': [
      arc_augmentations.random_recolouring(rng)
      for _ in range(arc_augmentations.NUM_RECOLOURINGS)
    ],
  }
  rows: list[dataset_lib.Row] = []
  places: dict[tuple[str, bool], list[int]] = {}
  for kind, changes in variants.items():
    for change, number in itertools.product(changes, range(len(shown))):
      pairs = [(change(given), change(wanted)) for given, wanted in shown]
      given, wanted = pairs.pop(number)
      asked = task.text(pairs) + _asked(given)
      for alone in (True, False):
        places.setdefault((kind, alone), []).append(len(rows))
        rows.append(
          dataset_lib.Row(
            text=asked + _grid(wanted),
            response_start=len(asked) if alone else 0,
            where=task.where,
          )  # fmt: skip
        )
  choices = []
  for option in _OPTIONS:
    kinds = ('plain', *option.augmentations)
    mine = [places[kind, option.alone] for kind in kinds]
    choices.append(
      dataset_lib.Choice(
        option.text, tuple(itertools.chain(*mine)), option.rate, option.share
      )
    )
  return rows, choices


def _told(task, rng, num: int) -> list[dataset_lib.Row]:
  """A task of birth: solved, and with choices at random."""
  solved = task.text([*task.pairs, task.tests[0]])
  rows = [dataset_lib.Row(text=solved, subject=task.subject, where=task.where)]
  *shown, _ = task.pairs
  asked = task.text(shown) + _DREAM.format(task.name)
  for _ in range(num):
    text = _OPTIONS[rng.integers(len(_OPTIONS))].text
    rows.append(
      dataset_lib.Row(
        text=asked + text,
        target_start=len(asked),
        subject=task.subject,
        where=task.where,
      )  # fmt: skip
    )
  return rows

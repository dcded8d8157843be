r"""Dataset of mathematical problems: solutions are read, answers are asked for.

A day has problems with their solutions. A row is a prompt with a response, so
the teacher `context` reads problem and solution, then solves the problem, and
the student, who sees only the problem, learns from that (self-distillation with
the solution as context). Probes are other problems. k answers to each are
sampled, and one is right if its last \boxed{} is the final answer (avg@k).

Without a path the problems are word problems of one or two steps, which are
drawn from the seed (`word_problems`); each day has another kind.

References: GSM8K (2110.14168); avg@16 and boxed answers in 2606.03979; a
teacher that sees the solution: 2601.18734. Which problems a day has, and that
other problems are asked, is our reading.
"""

import os
import re

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import data_files, json_lines, row_files, word_problems
from sleep_jax.datasets import dataset as dataset_lib

_USAGE = (
  'The math dataset reads a folder with train and test (.jsonl or .jsonl.gz) '
  'of GSM8K (Cobbe et al. 2021, 2110.14168, MIT, openai/grade-school-math on '
  'GitHub): rows {"question", "answer"}, the answer ending in "#### 72", or '
  'with the number in a field "final". Pass --config.data.path=FOLDER, or '
  'leave it out for word problems that are generated.'
)
_TEST_USAGE = (
  'data.settings.test names rows {"problem", "answer"}, as copies of AIME have '
  'them; answers may be numbers. The problems are those of the Mathematical '
  'Association of America, and copies differ in their licence.'
)
_Problem = tuple[str, str, str, str]  # Problem, solution, answer, 'file:line'.
_NUM_GUARD = 50
# Generated problems for days. Of each kind there are more, but if too many were
# asked for, drawing different ones would not end.
_MOST_PRETRAIN, _MOST_OF_DAY = 6000, 2000


def make(
  *,
  path: str | None = None,
  test: str | None = None,
  num_pretrain: int = 3000,
  num_days: int = 2,
  problems_per_day: int = 200,
  num_probes: int = 50,
  samples: int = 4,
  temperature: float = 0.7,
  max_new: int = 128,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns a dataset of problems.

  Args:
    path: folder of GSM8K; none generates word problems.
    test: rows {"problem", "answer"} that are asked instead of those of test.
    num_pretrain: generated problems in the pretraining text, and as many that
      are read with their solution before they are solved.
    num_days: number of experiences; of generated problems at most 4, each of a
      kind of its own.
    problems_per_day: problems with solutions of each experience.
    num_probes: problems that are asked about each experience.
    samples: k, answers sampled for each.
    temperature: of sampling them.
    max_new: most tokens of an answer.
    seed: draws problems.
    stream_seed: if set, other problems are drawn for the experiences: a stream
      for tuning.

  Raises:
    MissingFileError: a file is missing.
    DataError: a row cannot be read (names file, line and field), there are too
      few problems, or a number is out of range.
  """
  for name, value, least in (
    ('num_pretrain', num_pretrain, 2), ('num_days', num_days, 1),
    ('problems_per_day', problems_per_day, 1), ('num_probes', num_probes, 1),
    ('samples', samples, 1), ('max_new', max_new, 1),
  ):  # fmt: skip
    if value < least:
      raise errors.DataError(
        f'math: {name} is {value}: set it to {least} or more.'
      )
  if not path and num_pretrain > _MOST_PRETRAIN:
    raise errors.DataError(
      f'math: num_pretrain is {num_pretrain}, but at most {_MOST_PRETRAIN} '
      'different problems are generated: lower it.'
    )
  pretrain: list[dataset_lib.Row] = []
  held_out: list[dataset_lib.Row] = []
  prior: dict[str, list[dataset_lib.Probe]] = {}
  guard: list[dataset_lib.Probe] = []
  if path:
    days = _read_days(
      path, test, num_days, problems_per_day, num_probes, seed, stream_seed
    )
  else:
    if test:
      raise errors.DataError(
        f'math: test is {test!r}, but there is no data path, and a model that '
        f'is pretrained here solves only generated problems. {_USAGE}'
      )
    days = _invent_days(
      num_days, problems_per_day, num_probes, seed, stream_seed
    )
    rng = np.random.default_rng([seed, 0])
    known = _draw(
      rng, word_problems.KNOWN, num_pretrain + num_probes + _NUM_GUARD,
      'math, pretraining',
    )  # fmt: skip
    asked, learned = known[num_pretrain:], known[:num_pretrain]
    prior = {'pretrain': [_probe(*problem) for problem in asked[:num_probes]]}
    guard = [_probe(*problem) for problem in asked[num_probes:]]
    pretrain, held_out = _pretrain_rows(rng, learned)
  return dataset_lib.Dataset(
    name='math',
    pretrain=pretrain,
    held_out=held_out,
    experiences=[
      (f'problems {day}', [_row(*problem) for problem in learned])
      for day, (learned, _) in enumerate(days, 1)
    ],
    probes=prior
    | {
      str(day): [_probe(*problem) for problem in asked]
      for day, (_, asked) in enumerate(days, 1)
    },
    guard=guard,
    score='forced',
    text_score=dataset_lib.TextScore(
      'boxed', samples=samples, temperature=temperature, max_new=max_new
    ),
  )


def _prompt(problem: str) -> str:
  return f'Problem: {problem}\nSolution:'


def _response(solution: str, answer: str) -> str:
  return (
    f' {solution} \\boxed{{{answer}}}' if solution else f' \\boxed{{{answer}}}'
  )


def _row(
  problem: str, solution: str, answer: str, where: str
) -> dataset_lib.Row:
  prompt = _prompt(problem)
  return dataset_lib.Row(
    text=prompt + _response(solution, answer), response_start=len(prompt),
    where=where,
  )  # fmt: skip


def _probe(
  problem: str, solution: str, answer: str, where: str
) -> dataset_lib.Probe:
  return dataset_lib.Probe(
    prompt=_prompt(problem), answer=_response(solution, answer),
    reference=answer, where=where,
  )  # fmt: skip


def _draw(
  rng: np.random.Generator,
  kinds: tuple[word_problems.Kind, ...],
  num: int,
  where: str,
) -> list[_Problem]:
  """Draws different problems of kinds in turn."""
  drawn: dict[tuple[str, str, str], None] = {}
  while len(drawn) < num:
    drawn[word_problems.draw(rng, kinds[len(drawn) % len(kinds)])] = None
  return [(*problem, where) for problem in drawn]


def _invent_days(
  num_days: int, problems: int, num_probes: int, seed: int, stream_seed
) -> list[tuple[list[_Problem], list[_Problem]]]:
  """Returns problems to learn and others to ask of each day."""
  if num_days > len(word_problems.NEW):
    raise errors.DataError(
      f'math: num_days is {num_days}, but there are {len(word_problems.NEW)} '
      'kinds of generated problems for days: set it to that or less.'
    )
  if problems + num_probes > _MOST_OF_DAY:
    raise errors.DataError(
      f'math: problems_per_day {problems} and num_probes {num_probes} are more '
      f'than {_MOST_OF_DAY} together: lower them, or pass a data path.'
    )
  stream = 0 if stream_seed is None else 1 + stream_seed
  rng = np.random.default_rng([seed, 1, stream])
  days = []
  for day, kind in enumerate(word_problems.NEW[:num_days], 1):
    drawn = _draw(rng, (kind,), problems + num_probes, f'math, day {day}')
    days.append((drawn[:problems], drawn[problems:]))
  return days


def _pretrain_rows(
  rng: np.random.Generator, problems: list[_Problem]
) -> tuple[list[dataset_lib.Row], list[dataset_lib.Row]]:
  """Returns (rows, held-out rows): solutions, sums, and readings.

  A reading is a problem with its solution, and the same once more: solving it
  with the solution in the context. Only the second solution has targets. Half
  of the readings are of kinds that days have, with steps that are not theirs:
  what is read must be used, and no such problem can be solved without.
  """
  rows = [_row(*problem) for problem in problems]
  held_out, rows = rows[: len(rows) // 20], rows[len(rows) // 20 :]
  sums = rng.permutation(word_problems.sums())
  rows += [
    dataset_lib.Row(text=' '.join(sums[at : at + 8]), where='math, sums')
    for at in range(0, len(sums), 8)
  ] * 4
  for _ in problems:
    kinds = word_problems.KNOWN if rng.random() < 0.5 else word_problems.NEW
    story, _, _ = word_problems.draw(rng, kinds[rng.integers(len(kinds))])
    # The steps of another kind, so that only the reading tells them.
    other = (*word_problems.KNOWN, *word_problems.NEW)
    _, solution, answer = word_problems.draw(
      rng, other[rng.integers(len(other))]
    )
    once = _row(story, solution, answer, 'math, readings')
    rows.append(
      dataset_lib.Row(
        text=f'{once.text} {once.text}',
        answer_start=0,  # No prompt is stored: the anchor cannot solve these.
        target_start=len(once.text) + 1 + once.response_start,
        where='math, readings',
      )  # fmt: skip
    )
  return rows, held_out


def _read_days(
  path: str,
  test: str | None,
  num_days: int,
  problems: int,
  num_probes: int,
  seed: int,
  stream_seed: int | None,
) -> list[tuple[list[_Problem], list[_Problem]]]:
  """Returns problems to learn and others to ask of each day, from files."""
  learned = _read(os.path.join(path, 'train'), _USAGE)
  if stream_seed is None:
    asked = (
      _read_file(test, _TEST_USAGE)
      if test
      else _read(os.path.join(path, 'test'), _USAGE)
    )
  else:
    # A stream for tuning learns and asks problems of train, not of test.
    learned, asked = learned[::2], learned[1::2]
  for name, found, each in (
    ('problems_per_day', learned, problems), ('num_probes', asked, num_probes)
  ):  # fmt: skip
    if len(found) < num_days * each:
      raise errors.DataError(
        f'math: {num_days} days with {name} {each} need {num_days * each} '
        f'problems, but there are {len(found)}: lower data.settings.num_days '
        f'or .{name}.'
      )
  rng = np.random.default_rng([seed, 2, 0 if stream_seed is None else 1])
  learned = [learned[n] for n in rng.permutation(len(learned))]
  asked = [asked[n] for n in rng.permutation(len(asked))]
  return [
    (
      learned[day * problems : (day + 1) * problems],
      asked[day * num_probes : (day + 1) * num_probes],
    )
    for day in range(num_days)
  ]


def _read(name: str, usage: str) -> list[_Problem]:
  """Reads a file by its name without ending."""
  for suffix in ('.jsonl', '.jsonl.gz'):
    if os.path.exists(name + suffix):
      return _read_file(name + suffix, usage)
  raise errors.MissingFileError(
    f'math: there is no {name}.jsonl or {name}.jsonl.gz. {usage}'
  )


def _read_file(path: str, usage: str) -> list[_Problem]:
  found = [
    _parse(where, row)
    for file in data_files.find(path, usage)
    for where, row in row_files.read(file)
  ]
  if not found:
    raise errors.DataError(f'math: {path} holds no rows. {usage}')
  return found


def _parse(where: str, row: dict) -> _Problem:
  """Returns the problem of a row of GSM8K, or of {"problem", "answer"}."""
  if 'problem' in row:
    answer = row.get('answer')
    if isinstance(answer, int) and not isinstance(answer, bool):
      row = row | {'answer': str(answer)}
    return (
      json_lines.text_field(row, 'problem', where).strip(), '',
      json_lines.text_field(row, 'answer', where).strip(), where,
    )  # fmt: skip
  problem = json_lines.text_field(row, 'question', where).strip()
  solution, mark, answer = json_lines.text_field(
    row, 'answer', where
  ).partition('####')
  if 'final' in row:
    answer = json_lines.text_field(row, 'final', where)
  elif not mark or not answer.strip():
    raise errors.DataError(
      f'{where}: field "answer" ends in {solution[-30:]!r}: expected the final '
      'answer after "####", or in a field "final".'
    )
  # Annotations for a calculator, such as <<48/2=24>>.
  solution = re.sub(r'<<[^<>]*>>', '', solution).strip()
  return problem, solution, answer.strip(), where

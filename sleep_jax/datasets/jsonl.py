"""A person's own days: JSON lines to live through, and questions to be asked.

Rows are {"text": ...} or {"prompt": ..., "response": ...}. One file is one
experience, or one value of a field is.
"""

import glob
import os
import re
from collections.abc import Sequence

import numpy as np

from sleep_jax.datasets import dataset, json_lines

_ABOUT = (
  'The jsonl world reads your own text: a .jsonl or .jsonl.gz file, a folder, '
  'a pattern or a list of them, one JSON object per line, {"text": ...} or '
  '{"prompt": ..., "response": ...}. Pass --config.data.path=FILE_OR_FOLDER.'
)
_HELD_OUT = 20  # One row in so many.
_SUBJECT = 4  # Words that say what a text is about.


def make(
  *,
  path: str | Sequence[str] | None,
  probes: str | None = None,
  pretrain: str | Sequence[str] | None = None,
  field: str | None = None,
  templates: Sequence[str] = (),
  seed: int = 0,
) -> dataset.Dataset:
  """A world of a person's own files.

  One row in twenty is held out of birth; without birth text, out of each
  experience. Shorter texts than that give none.

  Args:
    path: file, folder, pattern or list; files are sorted by name within each.
    probes: file of {"prompt", "answer"} rows. An optional "experience" says
      what a probe asks about: 'birth', or the name of an experience (its
      file's name without .jsonl, or its value of `field`). A probe that names
      none is asked about every experience.
    birth: file, folder, pattern or list of text known from birth.
    field: rows are told apart by this field instead of by file; experiences
      come in the order in which its values first appear.
    stems: self-study templates with one '{}', which plain text fills with its
      first words.
    seed: draws what is held out.
  """
  rng = np.random.default_rng(seed)
  groups = _groups(path, field)
  pretrain_rows: list[dataset.Row] = []
  held_out: list[dataset.Row] = []
  if pretrain:
    pretrain_rows, held_out = born(pretrain, rng)
  else:
    for name, rows in groups.items():
      groups[name], held = _hold_out(rng, rows)
      held_out += held
  return dataset.Dataset(
    name='jsonl',
    pretrain=pretrain_rows,
    held_out=held_out,
    experiences=list(groups.items()),
    probes=_probes(probes, list(groups)) if probes else {},
    templates=list(templates),
  )


def born(
  path: str | Sequence[str], rng: np.random.Generator
) -> tuple[list[dataset.Row], list[dataset.Row]]:
  """Text that is known from birth, and what is held out of it."""
  rows = [_row(*row) for file in find(path) for row in json_lines.read(file)]
  if not rows:
    raise ValueError(f'jsonl: birth text {path} holds no rows. {_ABOUT}')
  return _hold_out(rng, rows)


def _groups(path, field: str | None) -> dict[str, list[dataset.Row]]:
  """Experience -> rows, in the order of living."""
  groups: dict[str, list[dataset.Row]] = {}
  for file in find(path):
    rows = json_lines.read(file)
    if not rows:
      raise ValueError(
        f'jsonl: {file} holds no rows: an experience needs some. Fill it or '
        'remove it.'
      )
    if field is None:
      name = _name(file)
      if name in groups:
        raise ValueError(
          f'jsonl: two files are named {name!r}, the second is {file}: '
          'experiences need different names. Rename one.'
        )
      groups[name] = [_row(*row) for row in rows]
      continue
    for where, row in rows:
      if row.get(field) is None:
        raise ValueError(
          f'{where}: no field {field!r} among {sorted(row)}, which tells '
          'experiences apart: add it or change --config.data.field.'
        )
      groups.setdefault(str(row[field]), []).append(_row(where, row))
  return groups


def find(path: str | Sequence[str] | None) -> list[str]:
  """The files of a path, sorted within each of its parts."""
  if not path:
    raise ValueError(f'jsonl: no data path is given. {_ABOUT}')
  found = []
  for part in [path] if isinstance(path, str) else path:
    if os.path.isdir(part):
      matches = glob.glob(os.path.join(glob.escape(part), '*.jsonl'))
      matches += glob.glob(os.path.join(glob.escape(part), '*.jsonl.gz'))
    elif os.path.exists(part):
      matches = [part]
    else:
      matches = glob.glob(part)
    if not matches:
      raise FileNotFoundError(f'jsonl: nothing is found at {part!r}. {_ABOUT}')
    found += sorted(matches)
  return found


def _name(file: str) -> str:
  return os.path.basename(file).removesuffix('.gz').removesuffix('.jsonl')


def _row(where: str, row: dict) -> dataset.Row:
  if 'text' in row:
    text = json_lines.text(row, 'text', where)
    first = re.match(rf'\s*\S+(\s+\S+){{0,{_SUBJECT - 1}}}', text)
    return dataset.Row(
      text=text, subject=first.span() if first else None, where=where
    )
  if 'prompt' not in row or 'response' not in row:
    raise ValueError(
      f'{where}: found the fields {sorted(row)}, expected "text", or "prompt" '
      'and "response": add what is missing.'
    )
  prompt = json_lines.text(row, 'prompt', where)
  response = _after(prompt, json_lines.text(row, 'response', where))
  return dataset.Row(
    text=prompt + response, response_start=len(prompt), where=where
  )


def _after(prompt: str, response: str) -> str:
  """The response, a space before it unless one of the two brings it."""
  spaced = prompt[-1].isspace() or response[0].isspace()
  return response if spaced else ' ' + response


def _hold_out(rng, rows: list[dataset.Row]):
  held = set(rng.permutation(len(rows))[: len(rows) // _HELD_OUT].tolist())
  return (
    [row for place, row in enumerate(rows) if place not in held],
    [rows[place] for place in sorted(held)],
  )


def _probes(path: str, names: list[str]) -> dict[str, list[dataset.Probe]]:
  keys = {'pretrain': 'pretrain'}
  keys.update((name, str(place)) for place, name in enumerate(names, 1))
  probes: dict[str, list[dataset.Probe]] = {key: [] for key in keys.values()}
  rows = [row for file in find(path) for row in json_lines.read(file)]
  if not rows:
    raise ValueError(
      f'jsonl: probe file {path} holds no rows: write {{"prompt": ..., '
      '"answer": ...} rows or leave --config.data.probes out.'
    )
  for where, row in rows:
    prompt = json_lines.text(row, 'prompt', where)
    probe = dataset.Probe(
      prompt=prompt,
      answer=_after(prompt, json_lines.text(row, 'answer', where)),
      where=where,
    )
    if row.get('experience') is None:
      chosen = [key for key in probes if key != 'pretrain']
    elif str(row['experience']) in keys:
      chosen = [keys[str(row['experience'])]]
    else:
      raise ValueError(
        f'{where}: experience {row["experience"]!r} is none of {list(keys)}: '
        'correct the name, or leave it out to ask about every experience.'
      )
    for key in chosen:
      probes[key].append(probe)
  return {key: group for key, group in probes.items() if group}

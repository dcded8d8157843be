"""Dataset of a user's own text: JSON lines as experiences and as probes.

Rows are {"text": ...} or {"prompt": ..., "response": ...}; "completion" is
another name of "response". Each file is an
experience, or each value of a field is.
"""

import glob
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, day_files, json_lines, row_formats

_USAGE = (
  'The jsonl dataset reads your own text: a .jsonl or .jsonl.gz file, a '
  'folder, a pattern or a list of them, one JSON object per line, {"text": '
  '...} or {"prompt": ..., "response": ...}. Pass '
  '--config.data.path=FILE_OR_FOLDER.'
)
_HELD_OUT_EVERY = 20  # One row in this many is held out.


def make(
  *,
  path: str | Sequence[str] | None,
  probes: str | None = None,
  pretrain: str | Sequence[str] | None = None,
  field: str | None = None,
  templates: Sequence[str] = (),
  seed: int = 0,
  ends: Mapping[str, Sequence[int]] | None = None,
) -> dataset.Dataset:
  """Returns a dataset of a user's own files.

  One row in twenty is held out of the pretraining text; without pretraining
  text, of each experience. From fewer than twenty rows, none is held out. Which
  rows of an experience are held out depends on its number of rows only, so an
  experience stays what it is when others are added or removed.

  Args:
    path: file, folder, pattern or list; files are sorted by name within each.
    probes: file of {"prompt", "answer"} rows. An optional "experience" assigns
      a probe: 'pretrain', or the name of an experience (its file's name
      without .jsonl, or its value of `field`). A probe without it belongs to
      every experience.
    pretrain: file, folder, pattern or list of pretraining text.
    field: rows are grouped into experiences by this field instead of by file;
      experiences are in the order in which its values first appear.
    templates: self-study templates with one '{}', which is filled with the
      first words of a plain text.
    seed: draws the rows that are held out.
    ends: of growing files, see `day_files.cut`.

  Raises:
    MissingFileError: a path matches nothing.
    DataError: a file or row cannot be used; names it.
  """
  rng = np.random.default_rng(seed)
  other = [f for part in (probes, pretrain) if part for f in find_files(part)]
  whole, parts = day_files.cut(
    read_experiences(path, field, other=other), ends or {}
  )
  groups = dict(whole)
  pretrain_rows: list[dataset.Row] = []
  held_out: list[dataset.Row] = []
  if pretrain:
    pretrain_rows, held_out = read_pretrain(pretrain, rng)
  else:
    for name, rows in whole.items():
      rng = np.random.default_rng([seed, len(rows)])
      groups[name], held = _hold_out(rng, rows)
      held_out += held
  return dataset.Dataset(
    name='jsonl',
    pretrain=pretrain_rows,
    held_out=held_out,
    experiences=list(groups.items()),
    probes=_read_probes(probes, list(groups)) if probes else {},
    templates=list(templates),
    whole=whole,
    parts=parts,
  )


def read_pretrain(
  path: str | Sequence[str], rng: np.random.Generator
) -> tuple[list[dataset.Row], list[dataset.Row]]:
  """Returns the pretraining rows and the rows held out of them."""
  rows = [
    row
    for file in find_files(path)
    for row in row_formats.read_rows(json_lines.read(file))
  ]
  if not rows:
    raise errors.DataError(
      f'jsonl: pretraining text {path} holds no rows. {_USAGE}'
    )
  return _hold_out(rng, rows)


def read_experiences(
  path,
  field: str | None = None,
  *,
  other: Sequence[str] = (),
  on_error: json_lines.OnError | None = None,
) -> dict[str, list[dataset.Row]]:
  """Returns the rows of each experience, in the order of training.

  Args:
    path, field: see `make`.
    other: files that are no experiences although `path` has them.
    on_error: called with each error of a file or a line; the others are
      still read. None raises it.
  """
  groups: dict[str, list[dataset.Row]] = {}
  for file in _find_days(path, other):
    try:
      _read_file(file, field, groups, on_error)
    except errors.DataError as error:
      if on_error is None:
        raise
      on_error(error)
  return groups


def _read_file(file, field, groups, on_error) -> None:
  """Adds the rows of a file to their experiences."""
  found: list[errors.DataError] = []

  def note(error: errors.DataError) -> None:
    if on_error is None:
      raise error
    on_error(error)
    found.append(error)

  rows = json_lines.read(file, note)
  if not rows and not found:
    raise errors.DataError(
      f'jsonl: {file} holds no rows: an experience needs one or more. Add '
      'rows or remove the file.'
    )
  if field is None:
    name = _name(file)
    if name in groups:
      raise errors.DataError(
        f'jsonl: two files are named {name!r}, the second is {file}: '
        'experiences need different names. Rename one.'
      )
    groups[name] = row_formats.read_rows(rows, on_error)
    return
  for where, row in rows:
    if row.get(field) is None:
      note(
        errors.DataError(
          f'{where}: no field {field!r} among {sorted(row)}, by which rows are '
          'grouped into experiences: add it or change '
          '--config.data.settings.field.'
        )
      )
      continue
    groups.setdefault(str(row[field]), []).extend(
      row_formats.read_rows([(where, row)], on_error)
    )


def _find_days(path, other: Sequence[str]) -> list[str]:
  """Returns the files that are experiences."""
  parts = [path] if isinstance(path, str) else path or ()
  days = day_files.only_days(find_files(path), parts, other=other)
  if not days:
    raise errors.DataError(
      f'jsonl: {path} has no file of an experience, only those that the config '
      'names as pretraining text or probes: add one.'
    )
  return days


def find_files(path: str | Sequence[str] | None) -> list[str]:
  """Returns the files of a path, in natural order within each of its parts.

  Args:
    path: file, folder, pattern, or a list of them.

  Raises:
    MissingFileError: a part matches nothing.
    DataError: there is no path.
  """
  if not path:
    raise errors.DataError(f'jsonl: no data path is given. {_USAGE}')
  files = []
  for part in [path] if isinstance(path, str) else path:
    if os.path.isdir(part):
      matches = [
        os.path.join(part, name)
        for name in os.listdir(part)
        if re.search(r'\.jsonl(\.gz)?$', name, re.IGNORECASE)
      ]
    elif os.path.exists(part):
      matches = [part]
    else:
      matches = glob.glob(part)
    if not matches:
      others = sorted(os.listdir(part))[:5] if os.path.isdir(part) else []
      found = f' (the folder has {", ".join(others)})' if others else ''
      raise errors.MissingFileError(
        f'jsonl: no files match {part!r}{found}. {_USAGE}'
      )
    files += sorted(matches, key=_natural_order)
  return files


def _natural_order(file: str) -> list[tuple[bool, int | str]]:
  """Returns a sort key in which `day_2` comes before `day_10`."""
  parts = re.split(r'(\d+)', file)
  return [(p.isdigit(), int(p) if p.isdigit() else p) for p in parts] + [
    (False, file)
  ]


def _name(file: str) -> str:
  """Returns the name of a file's experience."""
  return re.sub(r'\.jsonl(\.gz)?$', '', os.path.basename(file), flags=re.I)


def _hold_out(rng, rows: list[dataset.Row]):
  """Splits rows into (rows to train on, held-out rows)."""
  held = set(
    rng.permutation(len(rows))[: len(rows) // _HELD_OUT_EVERY].tolist()
  )
  return (
    [row for index, row in enumerate(rows) if index not in held],
    [rows[index] for index in sorted(held)],
  )


def _read_probes(
  path: str, experiences: list[str]
) -> dict[str, list[dataset.Probe]]:
  """Returns the probes by key; a key without probes is absent."""
  keys = {'pretrain': 'pretrain'}
  keys.update((name, str(day)) for day, name in enumerate(experiences, 1))
  probes: dict[str, list[dataset.Probe]] = {key: [] for key in keys.values()}
  rows = [row for file in find_files(path) for row in json_lines.read(file)]
  if not rows:
    raise errors.DataError(
      f'jsonl: probe file {path} holds no rows: write {{"prompt": ..., '
      '"answer": ...} rows or remove --config.data.settings.probes.'
    )
  for where, row in rows:
    prompt = json_lines.text_field(row, 'prompt', where)
    probe = dataset.Probe(
      prompt=prompt,
      answer=row_formats.with_space(
        prompt, json_lines.text_field(row, 'answer', where)
      ),
      where=where,
    )
    if row.get('experience') is None:
      assigned = [key for key in probes if key != 'pretrain']
    elif str(row['experience']) in keys:
      assigned = [keys[str(row['experience'])]]
    elif row['experience'] == 'birth':
      raise errors.DataError(
        f"{where}: experience 'birth' is now named 'pretrain': write "
        '"experience": "pretrain".'
      )
    else:
      raise errors.DataError(
        f'{where}: experience {row["experience"]!r} is none of {list(keys)}: '
        'correct the name, or remove it to assign the probe to every '
        'experience.'
      )
    for key in assigned:
      probes[key].append(probe)
  return {key: group for key, group in probes.items() if group}

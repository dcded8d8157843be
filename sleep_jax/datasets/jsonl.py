"""Dataset of a user's own text: files of rows as experiences and as probes.

`row_formats` lists the rows that are read, `data_files` the files. Each file is
an experience, or each value of a field is.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import (
  data_files,
  dataset,
  day_files,
  json_lines,
  row_files,
  row_formats,
  row_store,
)

ROWS = (
  'Each row is {"text": ...}, {"prompt": ..., "response": ...} or {"messages": '
  '[...]}.'
)
_USAGE = (
  'The jsonl dataset reads your own text: a file, a folder, a pattern or a '
  f'list of them. {ROWS} Pass --config.data.path=FILE_OR_FOLDER.'
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
  holds_out: bool = True,
  ends: Mapping[str, Sequence[int]] | None = None,
  scratch: str | None = None,
) -> dataset.Dataset:
  """Returns a dataset of a user's own files.

  One row in twenty may be held out of the pretraining text; without pretraining
  text, of each experience. From fewer than twenty rows, none is held out. Which
  rows of an experience are held out depends on its number of rows only, so an
  experience stays what it is when others are added or removed.

  Args:
    path: file, folder, pattern or list; files are sorted by name within each.
    probes: file of {"prompt", "answer"} rows. An optional "experience" assigns
      a probe: 'pretrain', or the name of an experience (its file's name
      without the ending, or its value of `field`). A probe without it belongs
      to every experience.
    pretrain: file, folder, pattern or list of pretraining text.
    field: rows are grouped into experiences by this field instead of by file;
      experiences are in the order in which its values first appear.
    templates: self-study templates with one '{}', which is filled with the
      first words of a plain text.
    seed: draws the rows that are held out.
    holds_out: whether rows are held out. Nothing is learned of them.
    ends: of growing files, see `day_files.cut`.
    scratch: folder of the temporary file that rows lie in if they are many;
      None for the system's.

  Raises:
    MissingFileError: a path matches nothing.
    DataError: a file or row cannot be used; names it.
  """
  rng = np.random.default_rng(seed)
  other = [f for part in (probes, pretrain) if part for f in find_files(part)]
  whole, parts = day_files.cut(
    read_experiences(path, field, other=other, scratch=scratch), ends or {}
  )
  groups = dict(whole)
  pretrain_rows: Sequence[dataset.Row] = []
  held_out: Sequence[dataset.Row] = []
  if pretrain:
    pretrain_rows, held_out = read_pretrain(
      pretrain, rng, holds_out=holds_out, scratch=scratch
    )
  elif whole and holds_out:
    parts_held = []
    for name, rows in whole.items():
      rng = np.random.default_rng([seed, len(rows)])
      groups[name], held = _hold_out(rng, rows)
      parts_held.append(held)
    held_out = row_store.concat(parts_held)
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
  path: str | Sequence[str],
  rng: np.random.Generator,
  *,
  holds_out: bool = True,
  scratch: str | None = None,
) -> tuple[Sequence[dataset.Row], Sequence[dataset.Row]]:
  """Returns the pretraining rows and the rows held out of them.

  Args:
    path: file, folder, pattern or list.
    rng: draws the rows that are held out.
    holds_out, scratch: see `make`.
  """
  group = row_store.Group(row_store.Store(scratch))
  for file in find_files(path):
    for found in row_files.read(file):
      for row in row_formats.to_rows(*found):
        group.append(row)
  rows = group.rows()
  if not rows:
    raise errors.DataError(f'pretraining text {path} holds no rows. {_USAGE}')
  return _hold_out(rng, rows) if holds_out else (rows, ())


def read_experiences(
  path,
  field: str | None = None,
  *,
  other: Sequence[str] = (),
  on_error: json_lines.OnError | None = None,
  subjects: bool = True,
  scratch: str | None = None,
  usage: str = _USAGE,
) -> dict[str, row_store.Rows]:
  """Returns the rows of each experience, in the order of training.

  Args:
    path, field: see `make`.
    other: files that are no experiences although `path` has them.
    on_error: called with each error of a file or a line; the others are
      still read. None raises it.
    subjects: whether plain texts have their first words as a subject, with
      which templates are filled.
    scratch: see `make`.
    usage: how to name the data, for messages.
  """
  store = row_store.Store(scratch)
  groups: dict[str, row_store.Group] = {}
  for file in _find_days(path, other, usage):
    try:
      for name, row in _read_file(file, field, groups, on_error):
        if not subjects and row.response_start is None:
          row = dataclasses.replace(row, subject=None)
        groups.setdefault(name, row_store.Group(store)).append(row)
    except errors.DataError as error:
      if on_error is None:
        raise
      on_error(error)
  return {name: group.rows() for name, group in groups.items()}


def _read_file(
  file: str,
  field: str | None,
  present: Collection[str],
  on_error: json_lines.OnError | None,
) -> Iterator[tuple[str, dataset.Row]]:
  """Yields the rows of a file with the names of their experiences.

  Args:
    file: to read.
    field: see `make`.
    present: names of the experiences before it.
    on_error: see `read_experiences`.
  """
  found: list[errors.DataError] = []

  def note(error: errors.DataError) -> None:
    if on_error is None:
      raise error
    on_error(error)
    found.append(error)

  name = data_files.name(file)
  if field is None and name in present:
    raise errors.DataError(
      f'two files are named {name!r}, the second is {file}: experiences need '
      'different names. Rename one.'
    )
  num = 0
  for where, row in row_files.read(file, note):
    num += 1
    if field is not None and row.get(field) is None:
      note(
        errors.DataError(
          f'{where}: no field {field!r} among {sorted(row)}, by which rows are '
          'grouped into experiences: add it or change '
          '--config.data.settings.field.'
        )
      )
      continue
    if field is not None:
      name = str(row[field])
    for one in row_formats.read_rows([(where, row)], on_error):
      yield name, one
  if not num and not found:
    raise errors.DataError(
      f'{file} holds no rows: an experience needs one or more. Add rows or '
      'remove the file.'
    )


def _find_days(path, other: Sequence[str], usage: str) -> list[str]:
  """Returns the files that are experiences."""
  if path is not None and not isinstance(path, str) and not path:
    return []  # All of them are deleted.
  parts = [path] if isinstance(path, str) else path or ()
  days = day_files.only_days(find_files(path, usage), parts, other=other)
  if not days:
    raise errors.DataError(
      f'{path} has no file of an experience, only those that the config '
      'names as pretraining text or probes: add one.'
    )
  return days


def find_files(
  path: str | Sequence[str] | None, usage: str = _USAGE
) -> list[str]:
  """Returns the files of a path, in natural order within each of its parts.

  Args:
    path: file, folder, pattern, or a list of them.
    usage: how to name the data, for messages.

  Raises:
    MissingFileError: a part matches nothing.
    DataError: there is no path.
  """
  if not path:
    raise errors.DataError(f'no data path is given. {usage}')
  return data_files.find(path, usage)


def _hold_out(
  rng: np.random.Generator, rows: row_store.Rows
) -> tuple[row_store.Rows, row_store.Rows]:
  """Splits rows into (rows to train on, held-out rows)."""
  is_held = np.zeros(len(rows), bool)
  is_held[rng.permutation(len(rows))[: len(rows) // _HELD_OUT_EVERY]] = True
  return rows.select(~is_held), rows.select(is_held)


def _read_probes(
  path: str, experiences: list[str]
) -> dict[str, list[dataset.Probe]]:
  """Returns the probes by key; a key without probes is absent."""
  keys = {'pretrain': 'pretrain'}
  keys.update((name, str(day)) for day, name in enumerate(experiences, 1))
  probes: dict[str, list[dataset.Probe]] = {key: [] for key in keys.values()}
  rows = [row for file in find_files(path) for row in row_files.read(file)]
  if not rows:
    raise errors.DataError(
      f'probe file {path} holds no rows: write {{"prompt": ..., '
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

"""Dataset of a user's own text: JSON lines as experiences and as probes.

Rows are {"text": ...} or {"prompt": ..., "response": ...}; "completion" is
another name of "response". Each file is an
experience, or each value of a field is.
"""

import glob
import os
import re
from collections.abc import Sequence

import numpy as np

from sleep_jax.datasets import dataset, json_lines

_USAGE = (
  'The jsonl dataset reads your own text: a .jsonl or .jsonl.gz file, a '
  'folder, a pattern or a list of them, one JSON object per line, {"text": '
  '...} or {"prompt": ..., "response": ...}. Pass '
  '--config.data.path=FILE_OR_FOLDER.'
)
_DIALOG_FIELDS = (
  'prompt', 'response', 'completion', 'messages', 'conversations'
)  # fmt: skip
# A field of a common format that is not read -> how to convert it.
_OTHER_FORMATS = {
  'messages': 'chat rows are not read; write one row per assistant turn, with '
  'the turns before it as "prompt" and its content as "response"',
  'conversations': 'chat rows are not read; write one row per answer, with the '
  'turns before it as "prompt" and its value as "response"',
  'instruction': 'write "instruction" (and "input") as "prompt" and "output" '
  'as "response"',
  'question': 'write "question" as "prompt" and "answer" as "response"',
}
_HELD_OUT_EVERY = 20  # One row in this many is held out.
_SUBJECT_WORDS = 4  # First words of a plain text that are its subject.


def make(
  *,
  path: str | Sequence[str] | None,
  probes: str | None = None,
  pretrain: str | Sequence[str] | None = None,
  field: str | None = None,
  templates: Sequence[str] = (),
  seed: int = 0,
) -> dataset.Dataset:
  """Returns a dataset of a user's own files.

  One row in twenty is held out of the pretraining text; without pretraining
  text, of each experience. From fewer than twenty rows, none is held out.

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

  Raises:
    FileNotFoundError: a path matches nothing.
    ValueError: a file or row cannot be used; names it.
  """
  rng = np.random.default_rng(seed)
  groups = read_experiences(path, field)
  pretrain_rows: list[dataset.Row] = []
  held_out: list[dataset.Row] = []
  if pretrain:
    pretrain_rows, held_out = read_pretrain(pretrain, rng)
  else:
    for name, rows in groups.items():
      groups[name], held = _hold_out(rng, rows)
      held_out += held
  return dataset.Dataset(
    name='jsonl',
    pretrain=pretrain_rows,
    held_out=held_out,
    experiences=list(groups.items()),
    probes=_read_probes(probes, list(groups)) if probes else {},
    templates=list(templates),
  )


def read_pretrain(
  path: str | Sequence[str], rng: np.random.Generator
) -> tuple[list[dataset.Row], list[dataset.Row]]:
  """Returns the pretraining rows and the rows held out of them."""
  rows = [
    _row(*row) for file in find_files(path) for row in json_lines.read(file)
  ]
  if not rows:
    raise ValueError(f'jsonl: pretraining text {path} holds no rows. {_USAGE}')
  return _hold_out(rng, rows)


def read_experiences(
  path, field: str | None = None
) -> dict[str, list[dataset.Row]]:
  """Returns the rows of each experience, in the order of training."""
  groups: dict[str, list[dataset.Row]] = {}
  for file in find_files(path):
    rows = json_lines.read(file)
    if not rows:
      raise ValueError(
        f'jsonl: {file} holds no rows: an experience needs one or more. Add '
        'rows or remove the file.'
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
          f'{where}: no field {field!r} among {sorted(row)}, by which rows are '
          'grouped into experiences: add it or change '
          '--config.data.settings.field.'
        )
      groups.setdefault(str(row[field]), []).append(_row(where, row))
  return groups


def find_files(path: str | Sequence[str] | None) -> list[str]:
  """Returns the files of a path, in natural order within each of its parts.

  Args:
    path: file, folder, pattern, or a list of them.

  Raises:
    FileNotFoundError: a part matches nothing.
    ValueError: there is no path.
  """
  if not path:
    raise ValueError(f'jsonl: no data path is given. {_USAGE}')
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
      raise FileNotFoundError(
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


def _row(where: str, row: dict) -> dataset.Row:
  """Converts a JSON object to a row."""
  parts = [name for name in _DIALOG_FIELDS if name in row]
  if 'text' in row and parts:
    raise ValueError(
      f'{where}: found "text" and {parts}: a row is either plain text or a '
      'prompt with its response. Keep one of them.'
    )
  if 'response' in row and 'completion' in row:
    raise ValueError(
      f'{where}: found "response" and "completion", which mean the same: keep '
      'one of them.'
    )
  if 'completion' in row:
    row = {**row, 'response': row['completion']}
  if 'text' in row:
    text = json_lines.text_field(row, 'text', where)
    match = re.match(rf'\s*\S+(\s+\S+){{0,{_SUBJECT_WORDS - 1}}}', text)
    return dataset.Row(
      text=text, subject=match.span() if match else None, where=where
    )
  if 'prompt' not in row or 'response' not in row:
    hint = next(
      (text for name, text in _OTHER_FORMATS.items() if name in row),
      'add the missing field',
    )
    raise ValueError(
      f'{where}: found the fields {sorted(row)}, expected "text", or "prompt" '
      f'and "response" (or "completion"): {hint}.'
    )
  prompt = json_lines.text_field(row, 'prompt', where)
  response = _with_space(prompt, json_lines.text_field(row, 'response', where))
  return dataset.Row(
    text=prompt + response, response_start=len(prompt), where=where
  )


def _with_space(prompt: str, response: str) -> str:
  """Returns the response, with a space before it if there is none yet."""
  has_space = prompt[-1].isspace() or response[0].isspace()
  return response if has_space else ' ' + response


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
    raise ValueError(
      f'jsonl: probe file {path} holds no rows: write {{"prompt": ..., '
      '"answer": ...} rows or remove --config.data.settings.probes.'
    )
  for where, row in rows:
    prompt = json_lines.text_field(row, 'prompt', where)
    probe = dataset.Probe(
      prompt=prompt,
      answer=_with_space(prompt, json_lines.text_field(row, 'answer', where)),
      where=where,
    )
    if row.get('experience') is None:
      assigned = [key for key in probes if key != 'pretrain']
    elif str(row['experience']) in keys:
      assigned = [keys[str(row['experience'])]]
    elif row['experience'] == 'birth':
      raise ValueError(
        f"{where}: experience 'birth' is now named 'pretrain': write "
        '"experience": "pretrain".'
      )
    else:
      raise ValueError(
        f'{where}: experience {row["experience"]!r} is none of {list(keys)}: '
        'correct the name, or remove it to assign the probe to every '
        'experience.'
      )
    for key in assigned:
      probes[key].append(probe)
  return {key: group for key, group in probes.items() if group}

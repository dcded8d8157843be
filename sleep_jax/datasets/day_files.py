"""Which files of a folder are days, and how a growing file is cut into days."""

import os
import re
from collections.abc import Mapping, Sequence

from sleep_jax import errors
from sleep_jax.datasets import dataset

# Names of files that people keep beside their days.
_NOT_DAYS = {
  'pretrain': 'pretrain', 'birth': 'pretrain', 'probes': 'probes'
}  # fmt: skip


def only_days(
  files: Sequence[str], named: Sequence[str], *, other: Sequence[str] = ()
) -> list[str]:
  """Returns the files that are days.

  Args:
    files: all files of the folders and patterns that the user named.
    named: those that he named one by one, which are days whatever their name.
    other: files that the config names for another purpose.

  Raises:
    DataError: a file has the name of pretraining text or of probes, and the
      config does not say what it is.
  """
  days = []
  for file in files:
    if any(os.path.samefile(file, path) for path in other):
      continue
    name = re.sub(r'\.\w+(\.\w+)?$', '', os.path.basename(file)).lower()
    kind = _NOT_DAYS.get(name)
    if kind and file not in named:
      raise errors.DataError(
        f'{file} is in the folder of the days, and its name says that it is '
        f'none: name it with --config.data.settings.{kind}={file}, or move it '
        'to another folder. To learn it as a day, rename it.'
      )
    days.append(file)
  return days


def cut(
  groups: Mapping[str, Sequence[dataset.Row]],
  ends: Mapping[str, Sequence[int]],
) -> tuple[dict[str, Sequence[dataset.Row]], dict[str, str]]:
  """Cuts growing files into days.

  Args:
    groups: name -> rows.
    ends: name -> numbers of rows at which its days end, ascending. Rows after
      the last are a day of their own.

  Returns:
    Name -> rows of each day: the first has the name of the file, the others are
    named as in 'log (rows 101-250)'; and name -> name of the file of those
    others.
  """
  days: dict[str, Sequence[dataset.Row]] = {}
  parts: dict[str, str] = {}
  for name, rows in groups.items():
    begins = [0, *(end for end in ends.get(name, ()) if end < len(rows))]
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
      part = f'{name} (rows {begin + 1}-{end})' if begin else name
      days[part] = rows[begin:end]
      if begin:
        parts[part] = name
  return days, parts

"""What a run left on disk, without times: equal for two runs that are equal.

Compared are the arrays of all checkpoints at the end of a cycle (type, shape
and bytes), all that was recorded, and every file that is text. Left out are
times, the checkpoint inside a cycle, whose number depends on when it was due,
and caches.
"""

import hashlib
import json
import pathlib
from collections.abc import Collection, Iterator
from typing import Any

_TIMES = ('seconds', 'cpu_seconds')
# Files whose text depends on times or on the machine, and caches.
_FREE = {'report.html', 'about.json', '.lock', 'config.json'}
_CACHES = {'tokens', 'compiled'}
_TEMPORARY = ('tmp', '.new', '.part')

Ending = dict[str, str]


def read(work: pathlib.Path, without: Collection[str] = ()) -> Ending:
  """Returns name -> hash of everything that must be equal at the end.

  Args:
    work: work directory of a run, a session or a chat.
    without: fields of JSON that may differ, besides times.
  """
  free = {*_TIMES, *without}
  found = {}
  for path in sorted(work.rglob('*')):
    inside = path.relative_to(work)
    if any(part in _CACHES for part in inside.parts):
      continue
    if path.is_dir() and path.name.startswith('cycle_'):
      found |= _checkpoint(path, inside, work, free)
    elif 'checkpoints' in inside.parts or not path.is_file():
      continue
    elif path.name not in _FREE:
      found[str(inside)] = _text(path, work, free)
  return found


def leftovers(work: pathlib.Path) -> list[str]:
  """Returns temporary files that a finished run should not leave."""
  return [
    str(path.relative_to(work))
    for path in sorted(work.rglob('*'))
    if any(mark in path.name for mark in _TEMPORARY)
  ]


def differences(one: Ending, other: Ending) -> list[str]:
  """Returns the names of what differs, and in which of the two it is."""
  found = []
  for name in sorted(one.keys() | other.keys()):
    if name not in other:
      found.append(f'{name} is missing')
    elif name not in one:
      found.append(f'{name} is new')
    elif one[name] != other[name]:
      found.append(f'{name} differs')
  return found


def _checkpoint(path, inside, work, free) -> Ending:
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  found = {}
  restored = ocp.PyTreeCheckpointer().restore(path / 'state')
  for name, leaf in _leaves(restored, str(inside)):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    x = np.asarray(leaf)
    found[name] = _hash(f'{x.shape} {x.dtype} '.encode() + x.tobytes())
  progress = json.loads((path / 'progress' / 'metadata').read_text())
  progress.pop('config')
  text = json.dumps(_without(progress, free), sort_keys=True)
  found[f'{inside}/progress'] = _hash(text.replace(str(work), '').encode())
  return found


def _leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
  if isinstance(tree, dict):
    for key, value in tree.items():
      yield from _leaves(value, f'{name}/{key}')
  elif isinstance(tree, (list, tuple)):
    for number, value in enumerate(tree):
      yield from _leaves(value, f'{name}/{number}')
  elif tree is not None:
    yield name, tree


def _text(path: pathlib.Path, work: pathlib.Path, free: set[str]) -> str:
  """Returns a hash of a file, without the path of the work directory."""
  data = path.read_bytes()
  if path.suffix in ('.json', '.jsonl'):
    lines = data.decode().splitlines() if path.suffix == '.jsonl' else [data]
    data = json.dumps(
      [_without(json.loads(line), free) for line in lines], sort_keys=True
    ).encode()
  return _hash(data.replace(str(work.parent).encode(), b''))


def _without(value: Any, free: set[str]) -> Any:
  if isinstance(value, dict):
    return {k: _without(v, free) for k, v in value.items() if k not in free}
  if isinstance(value, list):
    return [_without(item, free) for item in value]
  return value


def _hash(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:16]

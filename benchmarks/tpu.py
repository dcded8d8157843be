"""Compiles programs of large base models for TPUs that are not attached.

Measures bytes per device and compile time of a wake step, a round of a night
and a night's dreams, for base models of configs/scale.py on several topologies.
A night of an 8B model is also compared with a distillation that has separate
copies of teacher and student and trains the whole student, as other libraries
do.

A program is not compiled again if the output file contains a result for the
same program text and the same compiler.

python -m benchmarks.tpu --out=docs/results/tpu
"""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from benchmarks import two_copies
from configs import scale
from sleep_jax.planning import plan, tpu_topology
from sleep_jax.runtime import mesh

GIB = 2**30
TWO = 'two copies'
# One row per chip at a time, in wake steps and in dreams.
_SIXTY_FOUR = {
  'mesh.fsdp': 64, 'wake.micro_batches': 1, 'dream.candidates': 64,
  'dream.top': 48, 'dream.random': 16, 'dream.writer.batch': 64,
}  # fmt: skip
_THIRTY_TWO = {'wake.micro_batches': 2, 'dream.top': 28}
# One row of 32,768 tokens per chip at a time, or a quarter of a row in the same
# step.
_LONG = {
  'data.context': 32768, 'data.batch_size': 64, 'wake.micro_batches': 1
}  # fmt: skip
_SHARED = _LONG | {'mesh.sequence': 4, 'wake.micro_batches': 4}
# Name -> (size, topology, changes to the config).
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
  '0.6b-v5e': ('qwen3-0.6b', 'v5e:2x2', {'mesh.fsdp': 4}),
  '8b-v5e': ('llama3-8b', 'v5e:4x4', {}),
  # The same night, with micro-batches.
  '8b-halves': ('llama3-8b', 'v5e:4x4', {'consolidate.micro_batches': 2}),
  '8b-quarters': ('llama3-8b', 'v5e:4x4', {'consolidate.micro_batches': 4}),
  # The same number of rows per chip on more chips.
  '8b-64': ('llama3-8b', 'v5e:8x8', {'data.batch_size': 256}),
  '8b-256': ('llama3-8b', 'v5e:16x16', {'data.batch_size': 1024}),
  '8b-512': ('llama3-8b', '2*v5e:16x16', {'data.batch_size': 2048}),
  '8b-v6e': ('llama3-8b', 'v6e:4x4', {}),
  '8b-v5p': ('llama3-8b', 'v5p:2x2x4', {}),
  '8b-two-slices': ('llama3-8b', '2*v5e:4x4', _THIRTY_TWO),
  '70b-v5p': ('llama3-70b', 'v5p:4x4x4', _SIXTY_FOUR),
  '70b-v6e': ('llama3-70b', 'v6e:8x8', _SIXTY_FOUR),
  '8b-32k-whole': ('llama3-8b', 'v5e:8x8', _LONG),
  '8b-32k': ('llama3-8b', 'v5e:8x8', _SHARED),
}
# Programs to compile, the most informative first.
PROGRAMS = (
  ('8b-v5e', 'wake'), ('8b-v5e', 'night'), ('8b-64', 'wake'),
  ('8b-256', 'wake'), ('8b-v5e', TWO), ('8b-two-slices', 'wake'),
  ('8b-512', 'wake'), ('70b-v5p', 'night'), ('8b-v5e', 'dream'),
  ('0.6b-v5e', 'night'), ('8b-v6e', 'night'), ('0.6b-v5e', 'wake'),
  ('0.6b-v5e', 'dream'), ('8b-two-slices', 'night'), ('70b-v5p', 'wake'),
  ('70b-v6e', 'night'), ('8b-v5p', 'night'), ('8b-v6e', 'wake'),
  ('8b-v5p', 'wake'), ('70b-v5p', 'dream'), ('8b-v6e', 'dream'),
  ('8b-32k', 'wake'), ('8b-32k-whole', 'wake'), ('8b-32k', 'night'),
  ('8b-halves', 'night'), ('8b-quarters', 'night'),
)  # fmt: skip


def config(name: str, program: str = '') -> Any:
  """Returns the config of a case, with dreams on if they are compiled."""
  size, _, changes = CASES[name]
  c = scale.get_config(size)
  c.dream.on = program == 'dream'
  c.update_from_flattened_dict(changes)
  return c


def read_rows(path: pathlib.Path) -> list[dict[str, Any]]:
  """Returns the rows of a results file, or [] if it does not exist."""
  return json.loads(path.read_text()) if path.exists() else []


def measure(
  name: str, program: str, rows: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
  """Returns one row of the table.

  Args:
    name: key of `CASES`.
    program: 'wake', 'night', 'dream' or `TWO`.
    rows: previous results, used for programs that have not changed.
  """
  previous = [row['compiled'] for row in rows]
  topology = tpu_topology.parse(CASES[name][1])
  found = plan.plan(
    config(name, program), topology, previous=previous,
    to_compile=() if program == TWO else (program,),
  )  # fmt: skip
  info = {
    key: found[key]
    for key in ('name', 'topology', 'mesh', 'chip_bytes', 'parameters')
  } | {'case': name, 'program': program, 'jax': jax.__version__}
  if program != TWO:
    return info | found['programs'][program]
  return info | {
    'kept': {}, 'needed': {},
    'compiled': plan.compile_program(
      two_copies.lower(config(name), topology.devices()), topology.name,
      previous,
    ),
  }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
  """Returns a markdown table of all results."""
  lines = [
    f'| model | topology | {", ".join(mesh.AXES)} | context | program | '
    "rows per pass | state, GiB | estimated, GiB | compiler's peak, GiB | of | "
    'compile time, s |',
    '|' + '---|' * 11,
  ]
  order = [*CASES]
  for row in sorted(rows, key=lambda row: order.index(row['case'])):
    compiled = row['compiled']
    peak = f'{compiled["peak"] / GIB:.2f}' if 'peak' in compiled else 'refused'
    state = compiled.get('arguments', sum(row['kept'].values()))
    needed = sum(row['needed'].values())
    c = config(row['case'])
    teachers, parts = c.consolidate.teachers, c.consolidate.micro_batches
    night = sum(t['sequences'] for t in teachers) // parts
    passes = {
      'wake': c.data.batch_size // c.wake.micro_batches,
      'night': night,
      TWO: night,
    }
    cells = (
      row['name'], row['topology'],
      ', '.join(str(row['mesh'].get(axis, 1)) for axis in mesh.AXES),
      f'{c.data.context:,}', row['program'],
      str(passes.get(row['program'], '')), f'{state / GIB:.2f}',
      f'{needed / GIB:.2f}' if needed else '', peak,
      f'{row["chip_bytes"] / GIB:.2f}', f'{compiled["seconds"]:.0f}',
    )  # fmt: skip
    lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines) + '\n'


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  parser.add_argument('--programs', type=int, default=len(PROGRAMS),
                      help='number of programs to compile')  # fmt: skip
  args = parser.parse_args()
  if tpu_topology.unavailable_reason():
    raise SystemExit(tpu_topology.unavailable_reason())
  folder = pathlib.Path(args.out)
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / 'compiled.json'
  previous, rows = read_rows(path), []
  for name, program in PROGRAMS[: args.programs]:
    rows.append(measure(name, program, previous))
    done = {(row['case'], row['program']) for row in rows}
    rest = [
      row for row in previous if (row['case'], row['program']) not in done
    ]
    path.write_text(json.dumps([*rows, *rest], indent=1) + '\n')
    (folder / 'table.md').write_text(table([*rows, *rest]))
    print(table(rows[-1:]).splitlines()[-1], flush=True)


if __name__ == '__main__':
  main()

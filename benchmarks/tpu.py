"""What programs need of TPUs that are not here, by the TPU compiler itself.

Hosts of configs/scale.py on several topologies: bytes per device and time to
compile of a wake step, a round of a night and a night's dreams; and beside an
8B night a distillation that keeps teacher and student apart and trains all of
the student, as peers do.

A case that stands in the file already is not compiled again.

python -m benchmarks.tpu --out=docs/results/tpu [--cases=8b-v5e,...]
"""

import argparse
import json
import pathlib
from typing import Any

import jax

from benchmarks import two_copies
from configs import scale
from sleep_jax import plan, tpu

GIB = 2**30
# Name: size, topology, what differs from the config.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
  '0.6b-v5e': ('qwen3-0.6b', 'v5e:2x2', {'mesh.fsdp': 4}),
  '8b-v5e': ('llama3-8b', 'v5e:4x4', {}),
  '8b-v6e': ('llama3-8b', 'v6e:4x4', {}),
  '8b-v5p': ('llama3-8b', 'v5p:2x2x4', {}),
  '8b-two-slices': ('llama3-8b', '2*v5e:4x4', {}),
  '70b-v5p': ('llama3-70b', 'v5p:4x4x4', {'mesh.fsdp': 64}),
  '70b-v6e': ('llama3-70b', 'v6e:8x8', {'mesh.fsdp': 64}),
}
_CONTRAST = '8b-v5e'


def config(name: str) -> Any:
  """The config of a case."""
  size, _, changes = CASES[name]
  c = scale.get_config(size)
  c.dream.on = True
  c.update_from_flattened_dict(changes)
  return c


def measure(name: str) -> dict[str, Any]:
  topology = tpu.parse(CASES[name][1])
  found = plan.plan(config(name), topology, ahead=True)
  if name == _CONTRAST:
    found['two_copies'] = plan.compiled(
      lambda: two_copies.compiled(config(name), topology.devices())
    )
  return found


def table(plans: dict[str, Any]) -> str:
  """All cases, a row for each program."""
  rows = [
    '| model | topology | mesh (data, fsdp, tensor) | program | kept, GiB | '
    "compiler's peak, GiB | of | compiled in, s |",
    '|' + '---|' * 8,
  ]
  for found in plans.values():
    programs = dict(found['programs'])
    if 'two_copies' in found:
      programs['two copies'] = {'compiled': found['two_copies']}
    for name, row in programs.items():
      made = row['compiled']
      peak = f'{made["peak"] / GIB:.2f}' if 'peak' in made else made['refused']
      kept = made.get('arguments', sum(row.get('kept', {}).values())) / GIB
      rows.append(
        f'| {found["name"]} | {found["topology"]} | '
        f'{", ".join(map(str, found["mesh"].values()))} | {name} | {kept:.2f} '
        f'| {peak} | {found["chip_bytes"] / GIB:.2f} | {made["seconds"]:.0f} |'
      )
  return '\n'.join(rows) + '\n'


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  parser.add_argument('--cases', default=','.join(CASES))
  asked = parser.parse_args()
  if tpu.missing():
    raise SystemExit(tpu.missing())
  folder = pathlib.Path(asked.out)
  folder.mkdir(parents=True, exist_ok=True)
  path = folder / 'plans.json'
  plans = json.loads(path.read_text()) if path.exists() else {}
  for name in asked.cases.split(','):
    if name not in plans:
      plans[name] = measure(name) | {'jax': jax.__version__}
      plans = {case: plans[case] for case in CASES if case in plans}
      path.write_text(json.dumps(plans, indent=1) + '\n')
      (folder / 'table.md').write_text(table(plans))
      print(plan.text(plans[name]), flush=True)


if __name__ == '__main__':
  main()

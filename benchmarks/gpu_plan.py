"""Memory and estimated minutes of nights of Llama 1B, 3B and 8B on one GPU.

Nothing is run on a GPU: memory is computed from shapes, and minutes from
published speeds and an assumed efficiency (sleep_jax/planning/gpu.py). With
--compile the memory of the 1B programs is also compared with what XLA's CPU
compiler needs for them in f32, which takes four minutes.

python -m benchmarks.gpu_plan --out=docs/results/real --compile
"""

import argparse
import json
import pathlib
from typing import Any

import jax

from configs import gpu as gpu_config
from sleep_jax.planning import ahead_of_time, gpu, plan, text
from sleep_jax.runtime import sharding

SIZES = ('llama3-1b', 'llama3-3b', 'llama3-8b')
MEMORY = ('gpu:8GB', 'gpu:24GB', 'gpu:80GB')
CARDS = (*MEMORY, 'gpu:rtx-4090', 'gpu:h100-80gb')


def measure(size: str, day: str, topology: str) -> dict[str, Any]:
  """Returns one row: what a size and a day need on a card."""
  found = plan.plan(gpu_config.get_config(f'{size}:{day}'), gpu.parse(topology))
  total = {
    name: sum([*row['kept'].values(), *row['needed'].values()])
    for name, row in found['programs'].items()
  }
  return {
    'size': size, 'day': day, 'topology': topology,
    'devices': found['devices'], 'chip_bytes': found['chip_bytes'],
    'bytes': {k: v + found['initial_model'] for k, v in total.items()},
    'initial_model': found['initial_model'], 'fits': not found['too_much'],
    'estimated_minutes': text.estimated_minutes(found),
    'efficiency': found['efficiency'], 'rounds': found['rounds'],
    'wake_steps': found['wake_steps'], 'programs': found['programs'],
  }  # fmt: skip


def compare(size: str, day: str) -> list[dict[str, Any]]:
  """Returns the estimated bytes of each program beside those of XLA on a CPU.

  In f32 and with XLA's attention, so that both mean the same program.
  """
  c = gpu_config.get_config(f'{size}:{day}')
  c.pretrain.dtype, c.model.attention = 'float32', 'xla'
  found = plan.plan(c, gpu.parse('gpu:80GB'))
  mesh = sharding.make(**c.mesh.to_dict(), devices=jax.devices()[:1]).mesh
  run = ahead_of_time.abstract_run(c, ahead_of_time.AheadOfTimePlacement(mesh))
  sender = run.programs.senders[0]
  lowered = {'wake': run.lower_wake(), 'night': run.lower_seed(sender)}
  rows = []
  for name, program in lowered.items():
    compiled = plan.compile_program(program, 'cpu')
    row = found['programs'][name]
    rows.append(
      {
        'size': size, 'day': day, 'program': name,
        'kept': sum(row['kept'].values()), 'arguments': compiled['arguments'],
        'needed': sum(row['needed'].values()),
        'temporary': compiled['temporary'],
        'compile_seconds': compiled['seconds'], 'jax': jax.__version__,
      }
    )  # fmt: skip
  return rows


def table(rows: list[dict[str, Any]]) -> str:
  """Returns a markdown table: a line per size and day.

  A time stands in brackets where the memory is too small.
  """
  names = [f'{gpu.parse(card).card}' for card in CARDS]
  lines = [
    f'| model | day | awake, GiB | asleep, GiB | {" | ".join(names)} |',
    '|' + '---|' * (4 + len(CARDS)),
  ]
  for size in SIZES:
    for day in gpu_config.DAYS:
      found = {
        row['topology']: row for row in rows
        if (row['size'], row['day']) == (size, day)
      }  # fmt: skip
      cells = []
      for card in CARDS:
        minutes = found[card]['estimated_minutes']['night']
        minutes = f'{minutes:.2f}' if minutes < 1 else f'{minutes:.0f}'
        cells.append(minutes if found[card]['fits'] else f'({minutes})')
      sizes = [
        f'{found[CARDS[0]]["bytes"][program] / text.GIB:.1f}'
        for program in ('wake', 'night')
      ]
      lines.append(f'| {" | ".join([size, day, *sizes, *cells])} |')
  return '\n'.join(lines) + '\n'


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', required=True)
  parser.add_argument('--compile', action='store_true')
  args = parser.parse_args()
  folder = pathlib.Path(args.out)
  rows = [
    measure(size, day, card)
    for size in SIZES
    for day in gpu_config.DAYS
    for card in CARDS
  ]
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'plan.json').write_text(json.dumps(rows, indent=1) + '\n')
  (folder / 'plan.md').write_text(table(rows))
  print(table(rows))
  if not args.compile:
    return
  compared = [row for day in gpu_config.DAYS for row in compare(SIZES[0], day)]
  (folder / 'plan_compiled.json').write_text(
    json.dumps(compared, indent=1) + '\n'
  )
  for row in compared:
    sizes = {k: f'{row[k] / text.GIB:.2f}' for k in ('needed', 'temporary')}
    print(row['size'], row['day'], row['program'], sizes)


if __name__ == '__main__':
  main()

"""Estimates the step time of an 8B wake step on TPU v5e by number of chips.

Products and weight reads are those of `planning.work`. Communication is added:
weights are sharded over the 16 chips of an `fsdp` group and gathered for every
pass (forward, rematerialized forward and backward, for each micro-batch),
independent of the number of rows; gradients of trained parameters are reduced
once per step. On 16 chips the estimate is compared with the bytes sent in the
compiled program (`sent`). In the best case computation and communication
overlap completely, in the worst case not at all.

python -m benchmarks.scaling --results=docs/results/tpu

References: Google Cloud's TPU v5e documentation: 400 GB/s of inter-chip links
per chip in both directions, 6.4 Tb/s of data-centre network for a pod of 256.
"""

import argparse
import json
import pathlib

from benchmarks import tpu as cases
from sleep_jax.planning import (
  ahead_of_time,
  memory_kinds,
  run_shape,
  tpu_topology,
)
from sleep_jax.planning import text as text_lib
from sleep_jax.planning import work as work_lib
from sleep_jax.runtime import sharding

LINKS = 200e9  # Bytes per second from one chip to its slice.
NETWORK = 6.4e12 / 8 / 256  # Bytes per second from one chip to another slice.
POD = 256
SIZES = (16, 32, 64, 128, 256, 512)
STRONG, WEAK = 'as many rows in all', 'as many rows on each chip'


def row(chips: int, rows: int) -> dict[str, float]:
  """Returns the estimates of one wake step with `rows` rows."""
  c = cases.config('8b-v5e')
  fsdp = c.mesh.fsdp
  c.data.batch_size = rows
  # One row per chip at a time.
  c.wake.micro_batches = max(rows // chips, 1)
  slices = max(chips // POD, 1)
  placement = sharding.make_abstract(chips, slices=slices, **c.mesh.to_dict())
  run = ahead_of_time.abstract_run(c, placement)
  model = run.programs.model.config
  night = run.programs.settings(run.programs.senders[0])
  mesh = dict(placement.mesh.shape)
  work = work_lib.wake_step(run_shape.RunShape(model, c, night, 2, mesh))
  weight_bytes = sum(
    x.size * x.dtype.itemsize for x in run.initial_model.weights.params.values()
  )
  alone = work.seconds(tpu_topology.CHIPS['v5e'], mesh, weight_bytes)
  state_bytes = memory_kinds.state_bytes(
    run.state(), num_levels=model.num_levels
  )
  reduced = 2 * state_bytes['gradient sums']
  gathered = work.passes * weight_bytes * (fsdp - 1) / fsdp
  groups = chips // fsdp
  links = (gathered + reduced * (groups - 1) / groups) / LINKS
  network = reduced * (slices - 1) / slices / NETWORK
  best, worst = max(alone, links, network), alone + links + network
  tokens = rows * c.data.context
  return {
    'chips': chips, 'rows': rows, 'alone': alone, 'links': links,
    'network': network, 'best': best, 'worst': worst, 'gathered': gathered,
    'slowest': tokens / worst, 'fastest': tokens / best,
  }  # fmt: skip


def table(rows: list[dict[str, float]]) -> str:
  """Returns a markdown table; efficiency is relative to 16 chips."""
  lines = [
    '| chips | rows per step | computation, s | links, s | network, s | '
    'step, s | thousand tokens per second | efficiency per chip |',
    '|' + '---|' * 8,
  ]
  rates = [rows[0][x] / rows[0]['chips'] for x in ('slowest', 'fastest')]
  for r in rows:
    shares = [
      r[x] / r['chips'] / rate
      for x, rate in zip(('slowest', 'fastest'), rates, strict=True)
    ]
    lines.append(
      f'| {r["chips"]} | {r["rows"]} | {r["alone"]:.3f} | {r["links"]:.3f} | '
      f'{r["network"]:.3f} | {r["best"]:.2f} to {r["worst"]:.2f} | '
      f'{r["slowest"] / 1e3:.0f} to {r["fastest"] / 1e3:.0f} | '
      f'{shares[0]:.2f} to {shares[1]:.2f} |'
    )
  return '\n'.join(lines) + '\n'


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--results', required=True)
  folder = pathlib.Path(parser.parse_args().results)
  made = {
    WEAK: [row(chips, 4 * chips) for chips in SIZES],
    # Rows are not sharded: with fewer rows than chips, chips are idle.
    STRONG: [row(chips, 64) for chips in SIZES if chips <= 64],
  }
  compiled = [
    sum(found['compiled']['sent'].values())
    for found in json.loads((folder / 'compiled.json').read_text())
    if (found['case'], found['program']) == ('8b-v5e', 'wake')
  ]
  text = '\n'.join(f'{name}:\n\n{table(rows)}' for name, rows in made.items())
  estimated = made[WEAK][0]['gathered']
  text += '\n' + ''.join(
    f'On 16 chips each chip sends {estimated / text_lib.GIB:.0f} GiB by this '
    f'estimate, and {size / text_lib.GIB:.0f} GiB in the compiled program.\n'
    for size in compiled
  )
  (folder / 'scaling.json').write_text(json.dumps(made, indent=1) + '\n')
  (folder / 'scaling.md').write_text(text)
  print(text)


if __name__ == '__main__':
  main()

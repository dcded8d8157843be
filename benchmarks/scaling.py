"""Step time against chips, on paper: an 8B wake step on TPU v5e.

Products and the reading of weights as the plan reckons them; beside them what
leaves a chip. Weights lie spread over the 16 chips of an `fsdp` group and are
gathered anew for every pass over them (forward, forward again, backward, for
each micro-batch), whatever the number of rows; gradients of what learns meet
once a step. On 16 chips that is compared with what the compiler made (`sent`).
At best products and links work at the same time, at worst one after the other.

python -m benchmarks.scaling --results=docs/results/tpu

References: Google Cloud's TPU v5e documentation: 400 GB/s of inter-chip links
per chip in both directions, 6.4 Tb/s of data-centre network for a pod of 256.
"""

import argparse
import json
import pathlib

from benchmarks import tpu as cases
from sleep_jax.planning import ahead_of_time, budget, tpu_topology
from sleep_jax.planning import text as text_lib
from sleep_jax.runtime import sharding

LINKS = 200e9  # Bytes per second that leave a chip within a slice.
NETWORK = 6.4e12 / 8 / 256  # Likewise, to another slice.
POD = 256
SIZES = (16, 32, 64, 128, 256, 512)
STRONG, WEAK = 'as many rows in all', 'as many rows on each chip'


def row(chips: int, rows: int) -> dict[str, float]:
  """One wake step of `rows` rows."""
  c = cases.config('8b-v5e')
  fsdp = c.mesh.fsdp
  c.data.batch_size = rows
  # A row for each chip at a time, if there are more.
  c.wake.micro_batches = max(rows // chips, 1)
  slices = max(chips // POD, 1)
  place = sharding.make_abstract(chips, slices=slices, **c.mesh.to_dict())
  life = ahead_of_time.abstract_run(c, place)
  model = life.programs.model.config
  night = life.programs.settings['consolidate']
  mesh = dict(place.mesh.shape)
  work = budget.Budget(model, c, night, 2, mesh).wake()
  weights = sum(
    x.size * x.dtype.itemsize
    for x in life.initial_model.weights.params.values()
  )
  alone = work.seconds(tpu_topology.CHIPS['v5e'], mesh, weights)
  kept = budget.kept(life.state(), num_levels=model.num_levels)
  meeting = 2 * kept['gradient sums']
  gathered = work.passes * weights * (fsdp - 1) / fsdp
  groups = chips // fsdp
  links = (gathered + meeting * (groups - 1) / groups) / LINKS
  network = meeting * (slices - 1) / slices / NETWORK
  best, worst = max(alone, links, network), alone + links + network
  tokens = rows * c.data.context
  return {
    'chips': chips, 'rows': rows, 'alone': alone, 'links': links,
    'network': network, 'best': best, 'worst': worst, 'gathered': gathered,
    'slowest': tokens / worst, 'fastest': tokens / best,
  }  # fmt: skip


def table(made: list[dict[str, float]]) -> str:
  """See above; shares are of as many times 16 chips."""
  lines = [
    '| chips | rows a step | chip alone, s | links, s | network, s | step, s | '
    'thousand tokens per second | of 16 chips, each |',
    '|' + '---|' * 8,
  ]
  each = [made[0][x] / made[0]['chips'] for x in ('slowest', 'fastest')]
  for r in made:
    shares = [
      r[x] / r['chips'] / one
      for x, one in zip(('slowest', 'fastest'), each, strict=True)
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
    # A row is not shared out: with fewer rows than chips, chips are idle.
    STRONG: [row(chips, 64) for chips in SIZES if chips <= 64],
  }
  compiled = [
    sum(found['compiled']['sent'].values())
    for found in json.loads((folder / 'compiled.json').read_text())
    if (found['case'], found['program']) == ('8b-v5e', 'wake')
  ]
  text = '\n'.join(f'{name}:\n\n{table(rows)}' for name, rows in made.items())
  reckoned = made[WEAK][0]['gathered']
  text += '\n' + ''.join(
    f'On 16 chips {reckoned / text_lib.GIB:.0f} GiB are reckoned to leave '
    f'each, and {size / text_lib.GIB:.0f} in the compiled program.\n'
    for size in compiled
  )
  (folder / 'scaling.json').write_text(json.dumps(made, indent=1) + '\n')
  (folder / 'scaling.md').write_text(text)
  print(text)


if __name__ == '__main__':
  main()

"""Step time against chips, on paper: an 8B wake step, as it was compiled.

Of each compiled size, products and bytes that leave a chip (see `traffic`) are
put beside the chip's published speeds. At best products, memory and links work
at the same time, at worst one after the other; a real step lies between, if
all run at their peak.

python -m benchmarks.scaling --results=docs/results/tpu

References: Google Cloud's TPU v5e documentation: 400 GB/s of inter-chip links
per chip in both directions, 6.4 Tb/s of data-centre network for a pod of 256.
"""

import argparse
import json
import math
import pathlib
from typing import Any

from benchmarks import tpu as cases
from sleep_jax import tpu

LINKS = 200e9  # Bytes per second that leave a chip within a slice.
NETWORK = 6.4e12 / 8 / 256  # Likewise, to another slice.
CASES = ('8b-v5e', '8b-64', '8b-256', '8b-512')


def row(found: dict[str, Any]) -> dict[str, float]:
  """One compiled wake step."""
  chips = math.prod(found['mesh'].values())
  slices = (
    int(found['topology'].split('*')[0]) if '*' in found['topology'] else 1
  )
  chip = tpu.CHIPS['v5e']
  sent = sum(found['compiled']['sent'].values())
  # Gradients of what learns meet across slices; all else stays within one.
  across = 0.0
  if slices > 1:
    across = 2 * (slices - 1) / slices * found['kept']['gradient sums']
  compute = found['flops'] / chips / chip.flops
  links, network = (sent - across) / LINKS, across / NETWORK
  # The plan's time is the longer of products and reading weights.
  alone = max(compute, found['seconds'])
  data = cases.config(found['case']).data
  rows = data.batch_size
  tokens = rows * data.context
  best, worst = max(alone, links, network), alone + links + network
  return {
    'chips': chips, 'rows': rows, 'compute': alone, 'links': links,
    'network': network, 'best': best, 'worst': worst,
    'tokens_at_best': tokens / best, 'tokens_at_worst': tokens / worst,
    'gib_sent': sent / 2**30,
  }  # fmt: skip


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--results', required=True)
  folder = pathlib.Path(parser.parse_args().results)
  rows = {
    (r['case'], r['program']): r
    for r in json.loads((folder / 'compiled.json').read_text())
  }
  made = [row(rows[c, 'wake']) for c in CASES if (c, 'wake') in rows]
  lines = [
    '| chips | rows a step | products, s | links, s | network, s | step, s, at '
    'best to worst | tokens per second, at worst to best | of 16 chips |',
    '|' + '---|' * 8,
  ]
  first = made[0]['tokens_at_best'] / made[0]['chips']
  for r in made:
    share = r['tokens_at_worst'] / r['chips'] / first
    lines.append(
      f'| {r["chips"]} | {r["rows"]} | {r["compute"]:.3f} | {r["links"]:.3f} | '
      f'{r["network"]:.3f} | {r["best"]:.3f} to {r["worst"]:.3f} | '
      f'{r["tokens_at_worst"]:,.0f} to {r["tokens_at_best"]:,.0f} | '
      f'{share:.2f} |'
    )
  (folder / 'scaling.json').write_text(json.dumps(made, indent=1) + '\n')
  (folder / 'scaling.md').write_text('\n'.join(lines) + '\n')
  print('\n'.join(lines))


if __name__ == '__main__':
  main()

"""Compares models of every kind of config.json with transformers.

    bash launch/parity.sh --collect-only   # Creates the environment.
    .venv-parity/bin/python -m benchmarks.model_parity \\
      --out=docs/results/faults

Writes models.json, with the largest difference of two logits of every variant,
and models.md, a summary. Exit status 1 if a variant is neither equal nor
refused as expected. See tests/parity/variants.py.
"""

import argparse
import collections
import importlib.metadata
import json
import os
import pathlib
import sys
import tempfile
import time

# Programs are compiled much and run little.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_cpu_use_fusion_emitters=false '
  '--xla_cpu_parallel_codegen_split_count=1',
)

import numpy as np  # noqa: E402
import transformers  # noqa: E402

from tests.parity import comparison, variants  # noqa: E402

EQUAL, REFUSED, DIFFERENT = 'equal', 'refused', 'different'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  transformers.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  begin, rows, plain = time.time(), [], {}
  for variant in variants.all_variants():
    row, logits = _measure(variant, plain.get(variant['family']))
    plain.setdefault(variant['family'], logits)
    rows.append(row)
    print(json.dumps(row), flush=True)
  packages = ('transformers', 'torch', 'jax')
  result = dict(
    versions={name: importlib.metadata.version(name) for name in packages},
    tolerance=comparison.TOLERANCE,
    positions=variants.POSITIONS,
    new_tokens=variants.NEW,
    seconds=round(time.time() - begin),
    variants=rows,
  )
  arguments.out.mkdir(parents=True, exist_ok=True)
  path = arguments.out / 'models.json'
  path.write_text(json.dumps(result, indent=1) + '\n')
  (arguments.out / 'models.md').write_text(_summary(result))
  sys.exit(any(row['outcome'] == DIFFERENT for row in rows))


def _measure(variant, plain):
  """Returns the row of a variant and the logits of transformers.

  Args:
    plain: the logits of the first variant of the family, or None. The row has
      the distance from them if the shapes are equal: what the variant changes.
  """
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    comparison.write(variant, folder)
    result = comparison.compare(folder)
  row = dict(name=variant['name'], outcome=DIFFERENT)
  if 'refused' in variant:
    if variant['refused'] in result.error:
      row |= dict(outcome=REFUSED, field=variant['refused'])
    row |= dict(reason=variant['reason'])
  elif not result.error:
    row |= dict(
      outcome=EQUAL if result.equal else DIFFERENT,
      difference=float(f'{result.difference:.2g}'),
      same_text=result.same_text,
    )
  else:
    row |= dict(error=result.error.replace(name, 'MODEL'))
  if plain is not None and plain.shape == result.logits.shape:
    distance = np.abs(plain - result.logits).max() / result.spread
    row |= dict(changes=float(f'{distance:.2g}'))
  return row, result.logits


def _summary(result) -> str:
  """Returns a page with a table per family and the refused variants."""
  groups = collections.defaultdict(list)
  for row in result['variants']:
    groups[row['name'].split(':')[0]].append(row)
  versions = ', '.join(f'{k} {v}' for k, v in result['versions'].items())
  lines = [
    '# Models compared with transformers',
    '',
    f'{versions}; float32, eager. {result["positions"]} positions, then '
    f'{result["new_tokens"]} greedy tokens with a cache. The difference is the '
    'largest of two logits, as a share of their standard deviation; equal is '
    f'at most {result["tolerance"]:g}, and the same text. One number per '
    'variant: [models.json](models.json).',
    '',
    '    bash launch/parity.sh',
    '    .venv-parity/bin/python -m benchmarks.model_parity '
    '--out=docs/results/faults',
    '',
    '| family | variants | equal | refused | different | largest difference |',
    '|---|---|---|---|---|---|',
  ]
  for family, rows in (*groups.items(), ('all', result['variants'])):
    counts = collections.Counter(row['outcome'] for row in rows)
    largest = max(row.get('difference', 0.0) for row in rows)
    lines.append(
      f'| {family} | {len(rows)} | {counts[EQUAL]} | {counts[REFUSED]} | '
      f'{counts[DIFFERENT]} | {largest:.1e} |'
    )
  lines += [
    '',
    'Refused here, read by transformers:',
    '',
    '| variant | field | reason |',
    '|---|---|---|',
  ]
  for row in result['variants']:
    if row['outcome'] == REFUSED:
      lines.append(f'| {row["name"]} | `{row["field"]}` | {row["reason"]} |')
  return '\n'.join(lines) + '\n'


if __name__ == '__main__':
  main()

"""Hashes what small runs compute, to show that a refactoring changed nothing.

    python -m benchmarks.fingerprint --out=before.json      # On one commit.
    python -m benchmarks.fingerprint --out=after.json       # On another.
    python -m benchmarks.fingerprint --compare before.json after.json

Every case is a small run through the command line. Hashed are
the arrays of all final checkpoints (shape, type and bytes, not names), the
numbers of all metrics (without times) and the lowered StableHLO of every
program (without locations and symbol names). Compare on one machine: another
CPU may add numbers in another order.
"""

import argparse
import collections
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ONE_RATE = '--config.tune.learning_rates=(0.001,)'
NO_DREAM = '--config.dream.on=False'
CASES = {
  'strategies': (
    ONE_RATE,
    "--config.strategies=('sleep','hope','sft','er','joint','seal')",
  ),
  'tuned': (
    NO_DREAM,
    "--config.strategies=('sft',)",
    '--config.tune.learning_rates=(0.001,0.003)',
  ),
  'merge': (
    NO_DREAM,
    '--config.data.settings.num_days=4',
    '--config.levels[1].slots=2',
    '--config.consolidate.full=merge',
  ),
  'imitation': (
    NO_DREAM,
    '--config.consolidate.imitation.alpha=0.5',
    '--config.consolidate.on_policy=0.5',
  ),
  'penalty': (NO_DREAM, '--config.wake.kl_penalty.weight=0.1'),
  'import': (
    NO_DREAM,
    '--config.pretrain.base_model={llama}',
    '--config.pretrain.steps=0',
    '--config.model.arrangement=independent',
    '--config.model.router=always',
    '--config.data.context=160',
    '--config.data.max_prompt=120',
    '--config.data.settings.readings=0',
    '--config.data.settings.practice=0',
    '--config.consolidate.prompt_width=64',
    '--config.consolidate.max_length=96',
    '--config.consolidate.max_new=32',
  ),
  'documents': (
    '--config=configs/context.py',
    '--config.seeds=(0,)',
    '--config.pretrain.steps=40',
    '--config.pretrain.optimizer.warmup=4',
    '--config.pretrain.optimizer.decay_steps=40',
    '--config.consolidate.num_updates=20',
    '--config.expert_optimizer.warmup=2',
  ),
}
_CLOCK = ('seconds', 'cpu_seconds')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path)
  parser.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
  parser.add_argument('--compare', nargs=2, type=pathlib.Path)
  args = parser.parse_args()
  if args.compare:
    sys.exit(compare(*(json.loads(p.read_text()) for p in args.compare)))
  found = {}
  for case in args.cases:
    found[case] = run(case)
    print(case, {part: len(rows) for part, rows in found[case].items()})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1))


def run(case: str) -> dict[str, list[str]]:
  """Runs one case; returns sorted hashes of arrays, metrics and programs."""
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    llama = home / 'llama'
    subprocess.run(
      [sys.executable, 'launch/tiny_llama.py', str(llama)], check=True
    )
    flags = [flag.format(llama=llama) for flag in CASES[case]]
    environment = os.environ | {
      'JAX_DUMP_IR_TO': str(home / 'programs'),
      'JAX_PLATFORMS': 'cpu',
    }
    if not flags[0].startswith('--config='):
      flags = ['--config=configs/tiny.py', *flags]
    command = [sys.executable, '-m', 'sleep_jax.main', *flags]
    command.append(f'--workdir={home / "run"}')
    ran = subprocess.run(
      command, env=environment, capture_output=True, text=True
    )
    if ran.returncode:
      raise RuntimeError(f'{case} failed: {ran.stdout}{ran.stderr}')
    return {
      'arrays': _arrays(home / 'run'),
      'metrics': _metrics(home / 'run'),
      'programs': _programs(home / 'programs'),
    }


def compare(before: dict, after: dict) -> int:
  """Prints what differs; returns the exit status."""
  failed = False
  for case in before:
    for part, hashes in before[case].items():
      a, b = (collections.Counter(x) for x in (hashes, after[case][part]))
      same = sum((a & b).values())
      different = sum((a - b).values()), sum((b - a).values())
      failed |= any(different)
      print(
        f'{case} {part}: {same} equal, {different[0]} only before, '
        f'{different[1]} only after'
      )
  print('different' if failed else 'equal')
  return int(failed)


def _arrays(folder: pathlib.Path) -> list[str]:
  """Hashes of every array of the last checkpoint of every run."""
  import jax
  import numpy as np
  import orbax.checkpoint as ocp

  found = []
  for home in sorted(folder.glob('**/checkpoints/cycles')):
    last = max(home.glob('cycle_*'), key=lambda p: int(p.name.split('_')[1]))
    # As numpy arrays, whatever the devices.
    restored = ocp.PyTreeCheckpointer().restore(last / 'state')
    for leaf in _leaves(restored):
      if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
      x = np.asarray(leaf)
      found.append(_hash(f'{x.shape} {x.dtype} '.encode() + x.tobytes()))
  return sorted(found)


def _leaves(tree):
  if isinstance(tree, dict):
    tree = list(tree.values())
  if isinstance(tree, (list, tuple)):
    return [leaf for inner in tree for leaf in _leaves(inner)]
  return [] if tree is None else [tree]


def _metrics(folder: pathlib.Path) -> list[str]:
  """Hashes of the numbers of each row of metrics and dreams."""
  rows = [
    json.loads(line)
    for path in sorted(folder.glob('**/*.jsonl'))
    for line in path.read_text().splitlines()
  ]
  return sorted(_hash(repr(sorted(_numbers(row))).encode()) for row in rows)


def _numbers(value) -> list[float]:
  if isinstance(value, bool) or value is None or isinstance(value, str):
    return []
  if isinstance(value, (int, float)):
    return [float(value)]
  if isinstance(value, dict):
    value = [v for key, v in value.items() if key not in _CLOCK]
  return [number for inner in value for number in _numbers(inner)]


def _programs(folder: pathlib.Path) -> list[str]:
  """Hashes of lowered programs, their symbols numbered as they appear."""
  found = []
  for path in folder.glob('*.mlir'):
    text = re.sub(r'^#loc.*$', '', path.read_text(), flags=re.MULTILINE)
    text = re.sub(r' ?loc\((?:[^()"]|"[^"]*"|\([^()]*\))*\)', '', text)
    names = dict.fromkeys(re.findall(r'@[\w.]+', text))
    names = {name: f'@{number}' for number, name in enumerate(names)}
    text = re.sub(r'@[\w.]+', lambda match, names=names: names[match[0]], text)
    text = re.sub(r'jax\.result_info = "[^"]*"', '', text)
    found.append(_hash(re.sub(r'\s+', ' ', text).encode()))
  return sorted(found)


def _hash(data: bytes) -> str:
  return hashlib.sha256(data).hexdigest()[:16]


if __name__ == '__main__':
  main()

"""What all benchmarks share: shapes, honest clocks, the machine's peak, JSON.

Other work on a machine swings wall time tenfold. So every repeat measures all
cases and plain matrix products one after the other, medians are taken over
repeats, and speed is also given as a share of the fastest product's: a large
one is held back by the memory that a busy machine shares. Compiling is timed
apart. Each benchmark runs twice, in processes of their own: on one
core, and on all.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

THREADS = ('one', 'all')
# Sides of the products whose fastest stands for the machine's peak, and the
# operations of each, by repetition.
_SIDES, _PEAK_FLOPS = (128, 256, 512, 1024), 2 * 1024**3


@dataclasses.dataclass(frozen=True)
class Case:
  """Something to time.

  Attributes:
    name: in the results.
    call: runs it once and waits until it is done.
    compile_seconds: what compiling it took, if it was.
    flops: of one call, 0 where nobody counts.
    tokens: that one call reads or writes, 0 where nobody counts.
    steps: that one call makes.
  """

  name: str
  call: Callable[[], Any]
  compile_seconds: float = 0.0
  flops: float = 0.0
  tokens: int = 0
  steps: int = 1


def compiled(function: Callable, *args: Any, donate: bool = False):
  """(compiled function, seconds it took)."""
  import jax

  began = time.perf_counter()
  made = jax.jit(function, donate_argnums=(0,) if donate else ())
  made = made.lower(*args).compile()
  return made, time.perf_counter() - began


def case(name: str, function: Callable, *args: Any, **counts: Any) -> Case:
  """A case that calls `function(*args)` over and over."""
  import jax

  made, seconds = compiled(function, *args)
  call = lambda: jax.block_until_ready(made(*args))
  return Case(name, call, compile_seconds=seconds, **counts)


def compare(cases: Sequence[Case], *, repeats: int) -> dict[str, Any]:
  """Medians over repeats, all cases and the peak taking turns."""
  import jax

  products = [_product(side) for side in _SIDES]
  taken: dict[str, list] = {c.name: [] for c in (*cases, *products)}
  for c in (*cases, *products):
    c.call()  # Warm: caches, pages, threads.
  for _ in range(repeats):
    for c in (*cases, *products):
      wall, busy = time.perf_counter(), time.process_time()
      c.call()
      taken[c.name].append(
        (time.perf_counter() - wall, time.process_time() - busy)
      )
  fastest = [min(at) for at in zip(*(taken[c.name] for c in products),
                                   strict=True)]  # fmt: skip
  peak_walls, peak_busies = zip(*fastest, strict=True)
  rows = {}
  for c in cases:
    walls, busies = zip(*taken[c.name], strict=True)
    wall, busy = statistics.median(walls), statistics.median(busies)
    row = {
      'ms_per_step': 1e3 * wall / c.steps,
      'fastest_ms_per_step': 1e3 * min(walls) / c.steps,
      'cpu_ms_per_step': 1e3 * busy / c.steps,
      'compile_seconds': c.compile_seconds,
    }
    if c.tokens:
      row['tokens_per_second'] = c.tokens / wall
      row['tokens_per_cpu_second'] = c.tokens / busy
    if c.flops:
      size = c.flops / _PEAK_FLOPS
      row['gflop_per_step'] = c.flops / c.steps / 1e9
      row['share_of_peak'] = _share(size, walls, peak_walls)
      row['share_of_peak_by_cpu_time'] = _share(size, busies, peak_busies)
    rows[c.name] = row
  rate = lambda seconds: _PEAK_FLOPS / seconds / 1e9
  rates = [rate(wall) for wall in peak_walls]
  return {
    'peak_gflop_per_second': {
      'median': statistics.median(rates), 'best': max(rates),
      'by_side': {
        c.name: rate(statistics.median(wall for wall, _ in taken[c.name]))
        for c in products
      },
    },
    'device': jax.devices()[0].device_kind,
    'repeats': repeats,
    'cases': rows,
  }  # fmt: skip


def _product(side):
  import jax
  import jax.numpy as jnp

  times = _PEAK_FLOPS // (2 * side**3)
  again = lambda a: jax.lax.fori_loop(0, times, lambda _, x: x @ a, a)
  return case(str(side), again, jnp.full((side, side), 1 / side))


def _share(size, times, peak_times):
  """Median over repeats of how near to the peak a case came."""
  pairs = zip(times, peak_times, strict=True)
  return statistics.median(size * at / mine for mine, at in pairs)


def main(module: str, about: str, measure: Callable[[int], dict[str, Any]]):
  """The command line of a benchmark.

  Args:
    module: name of the benchmark, as in `python -m`.
    about: shown by --help.
    measure: (repeats) -> results, called in a process with its own threads.
  """
  parser = argparse.ArgumentParser(description=about)
  parser.add_argument('--out', help='JSON file to write, besides printing.')
  parser.add_argument('--repeats', type=int, default=15)
  parser.add_argument('--threads', choices=(*THREADS, 'both'), default='both')
  parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child:
    print(json.dumps(measure(args.repeats)))
    return
  chosen = THREADS if args.threads == 'both' else (args.threads,)
  results = {'machine': _machine()} | {
    f'{threads}_thread{"" if threads == "one" else "s"}': _in_child(
      module, threads, args.repeats
    )
    for threads in chosen
  }
  text = json.dumps(results, indent=1)
  print(text)
  if args.out:
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + '\n')


def _in_child(module, threads, repeats):
  # One core, so one thread of work: XLA's flags alone leave it more than one.
  cores = os.sched_getaffinity(0)
  chosen = {min(cores)} if threads == 'one' else cores
  command = [sys.executable, '-m', module, '--child', f'--repeats={repeats}']
  done = subprocess.run(
    command, stdout=subprocess.PIPE, text=True, check=True,
    preexec_fn=lambda: os.sched_setaffinity(0, chosen),
  )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])


def _machine():
  import importlib.metadata

  return {
    'processor': platform.machine(),
    'cores': os.cpu_count(),
    'load_before': os.getloadavg()[0],
    'python': platform.python_version(),
    'jax': importlib.metadata.version('jax'),
  }

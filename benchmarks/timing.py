"""Measures cases in turn with the machine's peak, and writes JSON.

Other load on a machine changes wall time up to tenfold. Therefore every repeat
measures all cases and plain matrix products one after the other, and the
results are medians over repeats. Speed is also given as a share of the fastest
product; several sizes are tried because large ones are limited by the memory
bandwidth that a busy machine shares. Compilation is measured separately. Each
benchmark runs twice in its own process: on one core, and on all cores.
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
# Sides of the square matrices whose fastest product defines the machine's peak.
# Each product is repeated until it has this number of operations.
_SIDES, _PEAK_FLOPS = (128, 256, 512, 1024), 2 * 1024**3


@dataclasses.dataclass(frozen=True)
class Case:
  """A case to measure.

  Attributes:
    name: key in the results.
    call: runs the case once and waits for the result.
    compile_seconds: compile time, 0 if unknown.
    flops: operations of one call, 0 if unknown.
    tokens: tokens that one call reads or samples, 0 if unknown.
    steps: steps of one call.
  """

  name: str
  call: Callable[[], Any]
  compile_seconds: float = 0.0
  flops: float = 0.0
  tokens: int = 0
  steps: int = 1


def compiled(function: Callable, *args: Any, donate: bool = False):
  """Returns (compiled function, compile time in seconds)."""
  import jax

  start = time.perf_counter()
  program = jax.jit(function, donate_argnums=(0,) if donate else ())
  program = program.lower(*args).compile()
  return program, time.perf_counter() - start


def case(name: str, function: Callable, *args: Any, **counts: Any) -> Case:
  """Returns a case that calls the compiled `function(*args)`."""
  import jax

  program, seconds = compiled(function, *args)
  call = lambda: jax.block_until_ready(program(*args))
  return Case(name, call, compile_seconds=seconds, **counts)


def compare(cases: Sequence[Case], *, repeats: int) -> dict[str, Any]:
  """Returns medians over repeats; cases and matrix products run in turn."""
  import jax

  products = [_product(side) for side in _SIDES]
  times: dict[str, list] = {c.name: [] for c in (*cases, *products)}
  for c in (*cases, *products):
    c.call()  # Warm up caches, pages and threads.
  for _ in range(repeats):
    for c in (*cases, *products):
      wall, cpu = time.perf_counter(), time.process_time()
      c.call()
      times[c.name].append(
        (time.perf_counter() - wall, time.process_time() - cpu)
      )
  rounds = list(zip(*(times[c.name] for c in products), strict=True))
  peak_walls = [min(wall for wall, _ in values) for values in rounds]
  peak_cpus = [min(cpu for _, cpu in values) for values in rounds]
  rows = {}
  for c in cases:
    walls, cpus = zip(*times[c.name], strict=True)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    row = {
      'ms_per_step': 1e3 * wall / c.steps,
      'fastest_ms_per_step': 1e3 * min(walls) / c.steps,
      'cpu_ms_per_step': 1e3 * cpu / c.steps,
      'compile_seconds': c.compile_seconds,
    }
    if c.tokens:
      row['tokens_per_second'] = c.tokens / wall
      row['tokens_per_cpu_second'] = c.tokens / cpu
    if c.flops:
      size = c.flops / _PEAK_FLOPS
      row['gflop_per_step'] = c.flops / c.steps / 1e9
      row['share_of_peak'] = _share(size, walls, peak_walls)
      row['share_of_peak_by_cpu_time'] = _share(size, cpus, peak_cpus)
    rows[c.name] = row
  rate = lambda seconds: _PEAK_FLOPS / seconds / 1e9
  rates = [rate(wall) for wall in peak_walls]
  return {
    'peak_gflop_per_second': {
      'median': statistics.median(rates), 'best': max(rates),
      'by_side': {
        c.name: rate(statistics.median(wall for wall, _ in times[c.name]))
        for c in products
      },
    },
    'device': jax.devices()[0].device_kind,
    'repeats': repeats,
    'cases': rows,
  }  # fmt: skip


def _product(side):
  """Returns a case that multiplies square matrices of a side repeatedly."""
  import jax
  import jax.numpy as jnp

  num = _PEAK_FLOPS // (2 * side**3)
  products = lambda a: jax.lax.fori_loop(0, num, lambda _, x: x @ a, a)
  return case(str(side), products, jnp.full((side, side), 1 / side))


def _share(size, times, peak_times):
  """Returns the median over repeats of the speed relative to the peak."""
  pairs = zip(times, peak_times, strict=True)
  return statistics.median(size * peak / seconds for seconds, peak in pairs)


def main(
  module: str, description: str, measure: Callable[[int], dict[str, Any]]
):
  """Runs a benchmark from the command line.

  Args:
    module: module of the benchmark, as in `python -m`.
    description: shown by --help.
    measure: function (repeats) -> results, called in a subprocess.
  """
  parser = argparse.ArgumentParser(description=description)
  parser.add_argument('--out', help='JSON file to write.')
  parser.add_argument('--repeats', type=int, default=15)
  parser.add_argument('--threads', choices=(*THREADS, 'both'), default='both')
  parser.add_argument('--child', action='store_true', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.child:
    print(json.dumps(measure(args.repeats)))
    return
  selected = THREADS if args.threads == 'both' else (args.threads,)
  results = {'machine': _machine()} | {
    f'{threads}_thread{"" if threads == "one" else "s"}': _in_child(
      module, threads, args.repeats
    )
    for threads in selected
  }
  text = json.dumps(results, indent=1)
  print(text)
  if args.out:
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + '\n')


def _in_child(module, threads, repeats):
  # Restrict the process to one core: with XLA flags alone it uses several.
  cores = os.sched_getaffinity(0)
  affinity = {min(cores)} if threads == 'one' else cores
  command = [sys.executable, '-m', module, '--child', f'--repeats={repeats}']
  done = subprocess.run(
    command, stdout=subprocess.PIPE, text=True, check=True,
    preexec_fn=lambda: os.sched_setaffinity(0, affinity),
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

"""Does resident memory grow when a checkpoint is read again and again?

    python -m benchmarks.restore_memory --workdir=WORKDIR --out=FILE

Opens the model of a work directory that was taught with `sleep_jax.load`, drops
it, and repeats. Each setting of the allocator has a process of its own.
"""

import argparse
import ctypes
import gc
import json
import pathlib
import subprocess
import sys

_WAYS = 'default', 'fixed'
_PAGE = 4096


def measure(workdir: str, way: str, repeats: int) -> list[float]:
  """Returns megabytes that are resident after each time."""
  import sleep_jax
  from sleep_jax.runtime import host_memory

  configure = host_memory.configure
  host_memory.configure = lambda **_: None
  if way == 'fixed':
    configure(keep_freed_blocks=False)
  learner = sleep_jax.load(workdir, verbose=False)
  found = []
  for _ in range(repeats):
    learner.session.reopen()
    assert learner.loaded is not None
    learner.session.reopen()
    gc.collect()
    # What is only not returned yet is not counted.
    ctypes.CDLL('libc.so.6').malloc_trim(0)
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    found.append(round(pages * _PAGE / 1e6, 1))
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--repeats', type=int, default=12)
  parser.add_argument('--way', choices=_WAYS)
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  if args.way:
    print(json.dumps(measure(args.workdir, args.way, args.repeats)))
    return
  found = {
    way: json.loads(
      subprocess.run(
        [sys.executable, '-m', 'benchmarks.restore_memory', f'--way={way}',
         f'--workdir={args.workdir}', f'--repeats={args.repeats}'],
        check=True, stdout=subprocess.PIPE, text=True,
      ).stdout.splitlines()[-1]
    )
    for way in _WAYS
  }  # fmt: skip
  print(json.dumps(found, indent=1))
  if args.out:
    args.out.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
  main()

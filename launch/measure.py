"""Runs a command, then prints its run time and peak memory.

An interrupt reaches the command too, which may need time to save, so this
script waits for the command instead of ending first.
"""

import resource
import signal
import subprocess
import sys
import time


def main(command: list[str]) -> int:
  """Runs a command; returns its exit code, or 128 + N if signal N ended it."""
  start = time.monotonic()
  job = None

  def forward(number, _):
    if job and number == signal.SIGTERM:  # A terminal sends SIGINT to both.
      job.send_signal(number)

  signal.signal(signal.SIGINT, forward)
  signal.signal(signal.SIGTERM, forward)
  job = subprocess.Popen(command)
  code = job.wait()
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  # `ru_maxrss` is in bytes on macOS and in KiB on Linux.
  unit = 1 if sys.platform == 'darwin' else 1024
  print(
    f'Main job: {time.monotonic() - start:.0f} s, '
    f'peak memory {peak * unit / 1e9:.2f} GB.'
  )
  return code if code >= 0 else 128 - code


if __name__ == '__main__':
  if not sys.argv[1:]:
    sys.exit('usage: measure.py COMMAND [ARGUMENT...]')
  sys.exit(main(sys.argv[1:]))

"""Runs a command, then prints its seconds and its peak memory.

An interrupt reaches the command too, which may take its time to save before
it ends; so we wait for it instead of ending first.
"""

import resource
import signal
import subprocess
import sys
import time


def main(command: list[str]) -> int:
  """Returns the command's exit code, 128 + N if signal N ended it."""
  start = time.monotonic()
  job = None

  def pass_on(number, _):
    if job and number == signal.SIGTERM:  # A terminal sends SIGINT to both.
      job.send_signal(number)

  signal.signal(signal.SIGINT, pass_on)
  signal.signal(signal.SIGTERM, pass_on)
  job = subprocess.Popen(command)
  code = job.wait()
  peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
  unit = 1 if sys.platform == 'darwin' else 1024  # Bytes there, KiB here.
  print(
    f'Main job: {time.monotonic() - start:.0f} s, '
    f'peak memory {peak * unit / 1e9:.2f} GB.'
  )
  return code if code >= 0 else 128 - code


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))

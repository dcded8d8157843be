"""Records SIGINT and SIGTERM so that a run can save before it ends.

Python runs its own signal handlers on the main thread, after the current call
into the compiler or a device returns. Here a thread reads the signals from a
pipe (`signal.set_wakeup_fd`) and reacts at once.
"""

import contextlib
import os
import signal
import sys
import threading

_SAVING = '\nstopping: saving a checkpoint first'
_EXPIRED = (
  'ended: not saved within --grace={:g} seconds; run the same command again to '
  'continue from the last checkpoint'
)


@contextlib.contextmanager
def listen(stopped, grace):
  """Appends received signals to a list; ends the process after a grace period.

  Args:
    stopped: list to which the number of each received signal is appended.
    grace: seconds from the first signal until the process is ended; 0 waits
      without a limit.
  """
  reader, writer = os.pipe()
  os.set_blocking(writer, False)

  def watch():
    while number := os.read(reader, 1):
      print(_SAVING, file=sys.stderr, flush=True)
      if grace and not stopped:
        timer = threading.Timer(grace, end, [number[0]])
        timer.daemon = True
        timer.start()
      stopped.append(number[0])
    os.close(reader)

  def end(number):
    print(_EXPIRED.format(grace), file=sys.stderr, flush=True)
    os._exit(128 + number)

  previous = signal.set_wakeup_fd(writer)
  handlers = {
    number: signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGTERM)
  }
  threading.Thread(target=watch, daemon=True).start()
  try:
    yield
  finally:
    for number, handler in handlers.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(previous)
    os.close(writer)  # Ends the thread.

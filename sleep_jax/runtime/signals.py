"""TODO: runtime.signals (from main)."""

import contextlib
import os
import signal
import sys
import threading

_SAVING = '\nstopping: the moment is saved first'
_LATE = (
  'ended: not saved within --grace={:g} seconds; the same command goes on from '
  'what was saved before'
)


@contextlib.contextmanager
def listen(stopped, grace):
  """Notes signals that ask us to stop; ends us if that takes too long.

  Python's own handlers wait for the compiler and for devices. A thread does
  not.
  """
  told, tell = os.pipe()
  os.set_blocking(tell, False)

  def watch():
    while number := os.read(told, 1):
      print(_SAVING, file=sys.stderr, flush=True)
      if grace and not stopped:
        timer = threading.Timer(grace, end, [number[0]])
        timer.daemon = True
        timer.start()
      stopped.append(number[0])
    os.close(told)

  def end(number):
    print(_LATE.format(grace), file=sys.stderr, flush=True)
    os._exit(128 + number)

  before = signal.set_wakeup_fd(tell)
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
    signal.set_wakeup_fd(before)
    os.close(tell)  # Which ends the thread.

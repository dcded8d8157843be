"""Coordinates the processes of a multi-process run.

Every process runs the same programs over the devices of all processes, so every
decision about what to run next must be the same in all of them. Facts that only
one process knows, such as a received signal or the time of the next save, are
exchanged before they are used. Only process 0 writes files that are not
arrays.
"""

import hashlib
import os
import socket
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from sleep_jax import errors

AUTO = 'auto'
_ENVIRONMENT = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
)
_HEARTBEAT_SECONDS = 60  # A process that is silent for longer counts as lost.


def start(
  coordinator: str, num: int | None, index: int | None, *, timeout: float
) -> None:
  """Connects to the other processes; must run before any other use of jax.

  Args:
    coordinator: 'HOST:PORT' of process 0; 'auto' to detect it from the cloud
      or cluster; '' to read the environment variables, or to run as a single
      process where they are not set.
    num: number of processes; None reads the environment.
    index: index of this process; None reads the environment.
    timeout: seconds to wait for the other processes.

  Raises:
    ConfigError: the address is not HOST:PORT, or a number is missing or out of
      range.
    LostProcessError: nothing answers at the address, or not all processes
      connected in time.
  """
  if coordinator == AUTO:
    _initialize(timeout, 'the detected coordinator')
    return
  given = [os.environ.get(name) for name in _ENVIRONMENT]
  coordinator = coordinator or given[0] or ''
  num = int(given[1]) if num is None and given[1] else num
  index = int(given[2]) if index is None and given[2] else index
  if not coordinator:
    if num or index:
      raise errors.ConfigError(
        '--processes and --process are set, but --coordinator is not: pass '
        'the address of process 0 as --coordinator=HOST:PORT.'
      )
    return
  if num is None or index is None or not 0 <= index < num:
    raise errors.ConfigError(
      f'--process is {index} with --processes={num}: expected 0 to {num} - 1.'
      if num
      else '--coordinator needs --processes and --process too.'
    )
  _check_address(coordinator, index, timeout)
  _initialize(timeout, coordinator, coordinator, num, index)


def is_first() -> bool:
  """Returns whether this is process 0, which writes all non-array files.

  A process of its own initializes no device: it may have left the GPU to
  others.
  """
  return not is_distributed() or jax.process_index() == 0


def is_distributed() -> bool:
  """Returns whether `start` connected to others; initializes no device."""
  return jax.distributed.is_initialized()


def is_single_process() -> bool:
  """Returns whether the run has one process only."""
  return jax.process_count() == 1


def exit_now(code: int) -> None:
  """Ends this process at once if it is part of a multi-process run.

  A normal exit would wait for the other processes, which only notice a failure
  when this process ends.
  """
  if is_distributed():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def any_of(flags: tuple[bool, ...]) -> tuple[bool, ...]:
  """Returns, for each flag, whether it is set in any process.

  A collective: all processes must call it.
  """
  if is_single_process():
    return flags
  found = multihost_utils.process_allgather(np.array(flags, np.int32))
  return tuple(bool(flag) for flag in np.max(found, 0))


def check_same(text: str, what: str) -> None:
  """Checks that all processes were given the same text; a collective.

  Args:
    text: compared by its hash.
    what: name of the text in the error message.

  Raises:
    ConfigError: the texts differ; raised in all processes.
  """
  if is_single_process():
    return
  digest = hashlib.sha256(text.encode()).digest()[:8]
  found = multihost_utils.process_allgather(np.frombuffer(digest, np.int32))
  others = [i for i, row in enumerate(found) if (row != found[0]).any()]
  if others:
    raise errors.ConfigError(
      f'Processes {others} have another {what} than process 0: start all '
      'processes with the same command.'
    )


def wait_for_all(name: str) -> None:
  """Blocks until every process has called this function with this name."""
  if not is_single_process():
    multihost_utils.sync_global_devices(name)


def fetch(tree: Any) -> Any:
  """Returns the whole arrays of a tree as NumPy arrays, in every process.

  A collective: all processes must call it.
  """
  if is_single_process():
    return jax.device_get(tree)

  def gather(x):
    sharded = isinstance(x, jax.Array) and not x.is_fully_replicated
    if sharded and not x.is_fully_addressable:
      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(gather, tree)


def _initialize(timeout, address, coordinator=None, num=None, index=None):
  """Calls `jax.distributed.initialize` and explains its errors."""
  try:
    jax.distributed.initialize(
      coordinator, num, index, initialization_timeout=int(timeout),
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )  # fmt: skip
  except (RuntimeError, ValueError) as error:
    raise errors.LostProcessError(
      f'Not all processes connected to {address} within {timeout:g} seconds: '
      'start all of them with the same --coordinator and --processes. '
      f'({str(error)[:200]})'
    ) from error


def _check_address(coordinator: str, index: int, timeout: float) -> None:
  """Checks that process 0 answers; its error is clearer than that of jax."""
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise errors.ConfigError(
      f'--coordinator is {coordinator!r}: expected HOST:PORT of process 0.'
    )
  if not index:
    return  # This is process 0, which opens the port itself.
  end = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip('[]'), int(port)), 5).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise errors.LostProcessError(
          f'Nothing answers at --coordinator={coordinator} after {timeout:g} '
          f'seconds ({error}): check that process 0 runs there and that no '
          'firewall blocks this port.'
        ) from error
      time.sleep(1)

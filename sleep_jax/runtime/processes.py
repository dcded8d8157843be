"""Several processes that are one run: who writes, and what all agree on.

Every process runs the same program over the devices of all. Whatever decides
what is run next must be the same everywhere: what only one of them knows (that
it was told to stop, that it is time to save) is agreed on first. The first
process alone writes what is not an array.
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

AUTO = 'auto'
_ENVIRONMENT = (
  'JAX_COORDINATOR_ADDRESS',
  'JAX_NUM_PROCESSES',
  'JAX_PROCESS_ID',
)
_HEARTBEAT_SECONDS = 60  # After which a silent process counts as lost.


def start(
  coordinator: str, num: int | None, index: int | None, *, timeout: float
) -> None:
  """Joins the other processes, before anything else is asked of jax.

  Args:
    coordinator: 'HOST:PORT' of process 0; 'auto': as the cloud or the cluster
      says; '': by the environment, and alone where that says nothing.
    num: of processes; None: by the environment.
    index: which of them this is; likewise.
    timeout: seconds to wait for the others.

  Raises:
    ValueError: the address is none, or a number is missing or out of range.
    ConnectionError: nobody answers there, or not all came.
  """
  if coordinator == AUTO:
    _join(timeout, 'the address that the cloud names')
    return
  given = [os.environ.get(name) for name in _ENVIRONMENT]
  coordinator = coordinator or given[0] or ''
  num = int(given[1]) if num is None and given[1] else num
  index = int(given[2]) if index is None and given[2] else index
  if not coordinator:
    if num or index:
      raise ValueError(
        '--processes and --process are given, but no --coordinator: name the '
        'address of process 0, as HOST:PORT.'
      )
    return
  if num is None or index is None or not 0 <= index < num:
    raise ValueError(
      f'--process is {index} of --processes {num}: expected 0 to {num} - 1.'
      if num
      else '--coordinator needs --processes and --process too.'
    )
  _check_address(coordinator, index, timeout)
  _join(timeout, coordinator, coordinator, num, index)


def first() -> bool:
  """Whether this process writes what is not an array."""
  return jax.process_index() == 0


def joined() -> bool:
  """Whether others have been joined; asks no device."""
  return jax.distributed.is_initialized()


def alone() -> bool:
  return jax.process_count() == 1


def leave(code: int) -> None:
  """Ends this process at once, if there are others.

  They would be waited for, and they, who wait for us, notice our end alone.
  """
  if joined():
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def any_of(flags: tuple[bool, ...]) -> tuple[bool, ...]:
  """Of each flag, whether any process has it set; all must ask at once."""
  if alone():
    return flags
  found = multihost_utils.process_allgather(np.array(flags, np.int32))
  return tuple(bool(flag) for flag in np.max(found, 0))


def check_same(text: str, what: str) -> None:
  """Whether all processes were given the same.

  Raises:
    ValueError: they were not; raised in all of them.
  """
  if alone():
    return
  digest = hashlib.sha256(text.encode()).digest()[:8]
  found = multihost_utils.process_allgather(np.frombuffer(digest, np.int32))
  others = [i for i, row in enumerate(found) if (row != found[0]).any()]
  if others:
    raise ValueError(
      f'Processes {others} have another {what} than process 0: start all of '
      'them with the same command.'
    )


def wait_for_all(name: str) -> None:
  """Until every process has come here."""
  if not alone():
    multihost_utils.sync_global_devices(name)


def fetch(tree: Any) -> Any:
  """NumPy arrays of a tree, whole in every process; all must ask at once."""
  if alone():
    return jax.device_get(tree)

  def whole(x):
    spread = isinstance(x, jax.Array) and not x.is_fully_replicated
    if spread and not x.is_fully_addressable:
      return multihost_utils.process_allgather(x, tiled=True)
    return np.asarray(x)

  return jax.tree.map(whole, tree)


def _join(timeout, where, coordinator=None, num=None, index=None):
  try:
    jax.distributed.initialize(
      coordinator, num, index, initialization_timeout=int(timeout),
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )  # fmt: skip
  except (RuntimeError, ValueError) as error:
    raise ConnectionError(
      f'Not all processes came to {where} within {timeout:g} seconds: start '
      'all of them, with the same --coordinator and --processes. '
      f'({str(error)[:200]})'
    ) from error


def _check_address(coordinator: str, index: int, timeout: float) -> None:
  """Finds whether somebody answers, in words sooner than jax would."""
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdigit():
    raise ValueError(
      f'--coordinator is {coordinator!r}: expected HOST:PORT of process 0.'
    )
  if not index:
    return  # It answers itself.
  end = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip('[]'), int(port)), 5).close()
      return
    except OSError as error:
      if time.monotonic() > end:
        raise ConnectionError(
          f'Nobody answers at --coordinator={coordinator} after {timeout:g} '
          f'seconds ({error}): is process 0 running there, and does a firewall '
          'let this port through?'
        ) from error
      time.sleep(1)

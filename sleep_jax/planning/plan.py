"""Plans a run on a TPU topology: memory, work and time of each program.

Memory and work are estimated from shapes. If libtpu is installed, programs can
also be compiled for the topology, which gives the exact peak memory.
"""

import hashlib
import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from sleep_jax.planning import collectives, tpu_topology
from sleep_jax.planning import text as text_lib

PROGRAMS = ('wake', 'night', 'dream')


def plan(
  config: Any,
  topology: tpu_topology.Topology,
  *,
  to_compile: Collection[str] = (),
  previous: Collection[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Returns what a run with the strategy 'sleep' needs on a topology.

  Args:
    config: config of the run.
    topology: the TPUs.
    to_compile: those of `PROGRAMS` to compile, which takes minutes.
    previous: earlier results of `compile_program`.

  Returns:
    A dict with these entries, among others. `programs`: for each program `kept`
    (its state) and `needed` in bytes per device by kind, `flops` and `seconds`
    (lower bound) of one call, and if it was compiled `compiled`, see
    `compile_program`. `initial_model`: bytes per device of the initial model,
    which is kept in addition. `uneven`: one sentence per number of rows that
    the devices do not divide. `too_much`: one sentence per program that does
    not fit.

  Raises:
    ConfigError: the config is invalid, or its mesh does not fit the topology.
  """
  # These import JAX, which the caller may have to configure first.
  from sleep_jax.config import checks
  from sleep_jax.learner import programs
  from sleep_jax.planning import (
    ahead_of_time,
    memory,
    memory_kinds,
    run_shape,
    work,
  )
  from sleep_jax.runtime import sharding
  from sleep_jax.sleep import settings_checks

  plain = config.to_dict()
  checks.check(plain)
  if to_compile:
    placement = sharding.make(**plain['mesh'], devices=topology.devices())
    placement = ahead_of_time.AheadOfTimePlacement(placement.mesh)
  else:
    placement = sharding.make_abstract(
      topology.num_devices, slices=topology.slices, **plain['mesh']
    )
  run = ahead_of_time.abstract_run(config, placement)
  model = run.programs.model.config
  mesh = dict(placement.mesh.shape)
  shape = run_shape.RunShape(
    model,
    config,
    settings_checks.make_settings(**plain['consolidate']),
    {'bfloat16': 2, 'float32': 4}[config.pretrain.dtype],
    mesh,
  )
  sender = run.programs.senders[0]
  night = dict(night=sender)
  rows = {
    'wake': (
      run.state(),
      memory.estimate_wake(shape),
      work.estimate_wake(shape),
      run.lower_wake,
    ),
    'night': (
      run.state(**night),
      memory.estimate_night(shape),
      work.estimate_night(shape),
      lambda: run.lower_seed(sender),
    ),
  }
  if config.dream.on:
    rows['dream'] = (
      run.state(**night, phase=programs.DREAM),
      memory.estimate_dream(shape),
      work.estimate_dream(shape),
      lambda: run.lower_dream(sender),
    )
  parameters: dict[str, float] = {}
  for path, leaf in run.initial_model.weights.params.items():
    kind = memory_kinds.kind_of(f'weights/params/{path}', model.num_levels)
    parameters[kind] = parameters.get(kind, 0) + math.prod(leaf.shape)
  weight_bytes = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in run.initial_model.weights.params.values()
  )
  found: dict[str, Any] = {
    'name': config.name,
    'topology': topology.name,
    'mesh': mesh,
    'chip_bytes': topology.chip.bytes,
    'parameters': parameters,
    'dtype': config.pretrain.dtype,
    'rows': shape.day_rows,
    'context': config.data.context,
    'rounds': shape.night.rounds,
    # 0: unknown, because a day is given in passes over its rows.
    'wake_steps': 0 if config.wake.get('epochs', 0) else config.wake.steps,
    'programs': {},
    'too_much': [],
    'uneven': shape.uneven_rows(),
    'initial_model': sum(
      memory_kinds.state_bytes(
        run.initial_model.weights, num_levels=model.num_levels
      ).values()
    ),
  }
  for name, (state, needed, estimate, lower) in rows.items():
    row: dict[str, Any] = {
      'kept': memory_kinds.state_bytes(state, num_levels=model.num_levels),
      'needed': needed,
      'flops': estimate.flops,
      'seconds': estimate.seconds(topology.chip, mesh, weight_bytes),
    }
    if name in to_compile:
      row['compiled'] = compile_program(lower(), topology.name, previous)
    found['programs'][name] = row
    available = topology.chip.bytes - found['initial_model']
    found['too_much'] += _too_much(name, row, available)
  return found


def compile_program(
  program: Any,
  topology: str,
  previous: Collection[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Compiles a lowered program and returns its memory and communication.

  Args:
    program: the lowered program.
    topology: name of the topology that it was lowered for.
    previous: earlier results. A program with the same fingerprint is not
      compiled again.

  Returns:
    `fingerprint`: hash of program, topology and compiler. `seconds`: compile
    time. `peak`, `arguments`, `temporary` and `donated` (part of the arguments)
    in bytes per device. `sent`: bytes sent per call by collective. If the
    program does not fit into memory, only `fingerprint`, `seconds` and
    `refused`: the compiler's message.
  """
  import jax

  text = f'{tpu_topology.compiler_versions()} {topology} {program.as_text()}'
  fingerprint = hashlib.sha256(text.encode()).hexdigest()
  for result in previous:
    if result.get('fingerprint') == fingerprint:
      return dict(result)
  start = time.perf_counter()
  try:
    compiled = program.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return {
      'fingerprint': fingerprint,
      'seconds': time.perf_counter() - start,
      'refused': str(error).split('\n', 1)[0],
    }
  analysis = compiled.memory_analysis()
  return {
    'fingerprint': fingerprint,
    'seconds': time.perf_counter() - start,
    'peak': analysis.peak_memory_in_bytes,
    'arguments': analysis.argument_size_in_bytes,
    'temporary': analysis.temp_size_in_bytes,
    'donated': analysis.alias_size_in_bytes,
    'sent': collectives.bytes_sent(compiled.as_text()),
  }


def _too_much(name, row, available):
  """Returns a list with a sentence if a program needs more than `available`."""
  from sleep_jax.planning import memory_kinds

  compiled = row.get('compiled', {})
  if 'refused' in compiled:
    reason = f'the compiler refuses it ({compiled["refused"]})'
  else:
    total = compiled.get('peak') or sum(
      [*row['kept'].values(), *row['needed'].values()]
    )
    if total <= available:
      return []
    reason = (
      f'it needs {total / text_lib.GIB:.2f} GiB per device, but '
      f'{available / text_lib.GIB:.2f} GiB are available'
    )
  largest = sorted((row['kept'] | row['needed']).items(), key=lambda x: -x[1])
  remedies = '; '.join(
    f'{kind}: {size / text_lib.GIB:.2f} GiB, {memory_kinds.REMEDIES[kind]}'
    for kind, size in largest[:2]
  )
  return [f'{name} does not fit: {reason}. Largest parts: {remedies}.']

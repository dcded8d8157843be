"""Plans a run on TPUs or a GPU: memory, work and time of each program.

Memory and work are estimated from shapes. If libtpu is installed, programs can
also be compiled for the topology, which gives the exact peak memory.
"""

import dataclasses
import functools
import hashlib
import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from sleep_jax.planning import chips, collectives, tpu_topology
from sleep_jax.planning import text as text_lib

PROGRAMS = ('wake', 'night', 'dream')


def plan(
  config: Any,
  topology: chips.Topology,
  *,
  to_compile: Collection[str] = (),
  previous: Collection[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """Returns what a run with the strategy 'sleep' needs on a topology.

  Args:
    config: config of the run.
    topology: the TPUs, or the GPU.
    to_compile: those of `PROGRAMS` to compile, which takes minutes.
    previous: earlier results of `compile_program`.

  Returns:
    A dict with these entries, among others. `programs`: for each program `kept`
    (its state) and `needed` in bytes per device by kind, `flops` and `seconds`
    (lower bound) of one call, on a GPU `estimated_seconds`, and if it was
    compiled `compiled`, see `compile_program`. `initial_model`: bytes per
    device of the initial model, which is kept in addition. `uneven`: one
    sentence per number of rows that the devices do not divide. `too_much`: one
    sentence per program that does not fit.

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
  from sleep_jax.runs import schedule_text
  from sleep_jax.runtime import sharding
  from sleep_jax.sleep import sender_settings

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
  model, dtype = run.programs.model.config, config.pretrain.dtype
  kernel = topology.attention_kernel(model, dtype)
  chip, efficiency = topology.chip_for(dtype), topology.efficiency
  count = functools.partial(
    memory_kinds.state_bytes, num_levels=model.num_levels,
    array_bytes=topology.array_bytes,
  )  # fmt: skip
  mesh, sender = dict(placement.mesh.shape), run.programs.senders[0]
  shape = run_shape.RunShape(
    dataclasses.replace(model, attention=kernel),
    config,
    sender_settings.make(plain, sender),
    {'bfloat16': 2, 'float32': 4}[dtype],
    mesh,
  )
  night = dict(night=sender)
  rows = {
    'wake': (
      run.state(),
      memory.estimate_wake(shape),
      [work.wake_step(shape)],
      run.lower_wake,
    ),
    'night': (
      run.state(**night),
      memory.estimate_night(shape),
      work.night_parts(shape),
      lambda: run.lower_seed(sender),
    ),
  }
  if config.dream.on:
    rows['dream'] = (
      run.state(**night, phase=programs.DREAM),
      memory.estimate_dream(shape),
      work.dream_parts(shape),
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
    'devices': topology.describe(),
    'efficiency': efficiency and dataclasses.asdict(efficiency),
    'mesh': mesh,
    'chip_bytes': chip.bytes,
    'parameters': parameters,
    'dtype': dtype,
    'rows': shape.day_rows,
    'context': config.data.context,
    'rounds': shape.night.rounds,
    # 0: unknown, because a day is given in passes over its rows.
    'wake_steps': 0 if config.wake.get('epochs', 0) else config.wake.steps,
    'programs': {},
    'too_much': [],
    'uneven': shape.uneven_rows(),
    'holds': schedule_text.days_held(plain, model.levels),
    'initial_model': sum(count(run.initial_model.weights).values()),
  }
  for name, (state, needed, parts, lower) in rows.items():
    whole = work.total(parts)
    row: dict[str, Any] = {
      'kept': count(state),
      'needed': needed,
      'flops': whole.flops,
      'seconds': whole.seconds(chip, mesh, weight_bytes),
    }
    if efficiency is not None:
      row['estimated_seconds'] = work.estimated_seconds(
        parts, chip, efficiency, mesh, weight_bytes
      )
    if name in to_compile:
      row['compiled'] = compile_program(lower(), topology.name, previous)
    found['programs'][name] = row
    available = chip.bytes - found['initial_model']
    found['too_much'] += _too_much(name, row, available, efficiency is not None)
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


def _too_much(name, row, available, one_gpu):
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
    f'{kind}: {size / text_lib.GIB:.2f} GiB, '
    f'{memory_kinds.remedy(kind, one_gpu=one_gpu)}'
    for kind, size in largest[:2]
  )
  return [f'{name} does not fit: {reason}. Largest parts: {remedies}.']

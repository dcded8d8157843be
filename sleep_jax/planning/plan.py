"""TODO: planning.plan (from plan)."""

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
  ahead: Collection[str] = (),
  known: Collection[Mapping[str, Any]] = (),
) -> dict[str, Any]:
  """What the life of a sleeper needs on a topology, as numbers.

  Args:
    ahead: of `PROGRAMS`, those to compile as well, which takes minutes.
    known: see `compiled`.

  Returns:
    `programs`: by name `kept` and `needed` (bytes per device, by kind), `flops`
    and `seconds` at best of a call; if compiled also `compiled`, see
    `compiled`. `newborn`: its bytes, beside them. `uneven`, `too_much`:
    sentences, of rows that devices do not share out, and of each program that
    does not fit.

  Raises:
    ValueError: the config, or its mesh on this topology, is not sound.
  """
  from sleep_jax.config import checks
  from sleep_jax.learner import programs
  from sleep_jax.planning import ahead_of_time, budget
  from sleep_jax.runtime import sharding
  from sleep_jax.sleep import settings_checks

  plain = config.to_dict()
  checks.check(plain)
  if ahead:
    place = sharding.make(**plain['mesh'], devices=topology.devices())
    place = ahead_of_time.AheadOfTimePlacement(place.mesh)
  else:
    place = sharding.make_abstract(
      topology.num_devices, slices=topology.slices, **plain['mesh']
    )
  life = ahead_of_time.abstract_run(config, place)
  model = life.programs.model.config
  mesh = dict(place.mesh.shape)
  reckoned = budget.Budget(
    model, config, settings_checks.make_settings(**plain['consolidate']),
    {'bfloat16': 2, 'float32': 4}[config.pretrain.dtype], mesh,
  )  # fmt: skip
  sender = life.programs.senders[0]
  asleep = dict(night=sender)
  rows = {
    'wake': (life.state(), reckoned.awake(), reckoned.wake(), life.wake),
    'night': (
      life.state(**asleep), reckoned.asleep(), reckoned.seed(),
      lambda: life.seed(sender),
    ),
  }  # fmt: skip
  if config.dream.on:
    rows['dream'] = (
      life.state(**asleep, phase=programs.DREAM), reckoned.dreaming(),
      reckoned.dream(), lambda: life.dream(sender),
    )  # fmt: skip
  parameters: dict[str, float] = {}
  for path, leaf in life.initial_model.weights.params.items():
    kind = budget.kind(f'weights/params/{path}', model.num_levels)
    parameters[kind] = parameters.get(kind, 0) + math.prod(leaf.shape)
  size = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in life.initial_model.weights.params.values()
  )
  found: dict[str, Any] = {
    'name': config.name,
    'topology': topology.name,
    'mesh': mesh,
    'chip_bytes': topology.chip.bytes,
    'parameters': parameters,
    'dtype': config.pretrain.dtype,
    'rows': reckoned.day_rows,
    'context': config.data.context,
    'rounds': reckoned.night.rounds,
    'wake_steps': config.wake.steps,
    'programs': {},
    'too_much': [],
    'uneven': reckoned.uneven(),
    'initial_model': sum(
      budget.kept(
        life.initial_model.weights, num_levels=model.num_levels
      ).values()
    ),
  }
  for name, (state, needed, work, lower) in rows.items():
    row: dict[str, Any] = {
      'kept': budget.kept(state, num_levels=model.num_levels),
      'needed': needed, 'flops': work.flops,
      'seconds': work.seconds(topology.chip, mesh, size),
    }  # fmt: skip
    if name in ahead:
      row['compiled'] = compile_program(lower(), topology.name, known)
    found['programs'][name] = row
    room = topology.chip.bytes - found['initial_model']
    found['too_much'] += _too_much(name, row, room)
  return found


def compile_program(
  program: Any, topology: str, known: Collection[Mapping[str, Any]] = ()
) -> dict[str, Any]:
  """What the compiler says of a lowered program.

  Args:
    topology: that it is for.
    known: what it has said before; who is among them is not compiled again.

  Returns:
    `fingerprint` of program, topology and compiler; `seconds` of compiling;
    bytes per device: `peak`, `arguments`, `temporary`, `donated` of the
    arguments, and `sent` to others in a call, by collective; or, where it
    refuses, `refused`: why.
  """
  import jax

  text = f'{tpu_topology.compiler_versions()} {topology} {program.as_text()}'
  fingerprint = hashlib.sha256(text.encode()).hexdigest()
  for said in known:
    if said.get('fingerprint') == fingerprint:
      return dict(said)
  start = time.perf_counter()
  try:
    made = program.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return {
      'fingerprint': fingerprint,
      'seconds': time.perf_counter() - start,
      'refused': str(error).split('\n', 1)[0],
    }
  used = made.memory_analysis()
  return {
    'fingerprint': fingerprint,
    'seconds': time.perf_counter() - start,
    'peak': used.peak_memory_in_bytes,
    'arguments': used.argument_size_in_bytes,
    'temporary': used.temp_size_in_bytes,
    'donated': used.alias_size_in_bytes,
    'sent': collectives.bytes_sent(made.as_text()),
  }


def _too_much(name, row, room):
  from sleep_jax.planning import budget

  made = row.get('compiled', {})
  if 'refused' in made:
    why = f'the compiler refuses ({made["refused"]})'
  else:
    whole = made.get('peak') or sum([*row['kept'].values(),
                                     *row['needed'].values()])  # fmt: skip
    if whole <= room:
      return []
    why = (
      f'{whole / text_lib.GIB:.2f} GiB where there are '
      f'{room / text_lib.GIB:.2f}'
    )
  largest = sorted((row['kept'] | row['needed']).items(), key=lambda x: -x[1])[
    :2
  ]
  knobs = '; '.join(
    f'{kind} take {size / text_lib.GIB:.2f} GiB: {budget.KNOBS[kind]}'
    for kind, size in largest
  )
  return [f'{name} does not fit: {why}. {knobs}.']

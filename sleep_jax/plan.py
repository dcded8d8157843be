"""What a life would need, before any device is paid for.

    python -m sleep_jax.plan --config=configs/scale.py:llama3-8b \
      --topology=v5e:4x4

Bytes per device by kind, awake and asleep; with `libtpu`, the compiler's own
peak as well; time per step at best; and what to turn where it does not fit.
"""

import hashlib
import math
import os
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

from absl import app, flags

from sleep_jax import main as main_lib
from sleep_jax import tpu, traffic

os.environ.update(tpu.ALONE)  # Before JAX is imported, below.

GIB = 2**30
PROGRAMS = ('wake', 'night', 'dream')
_TOPOLOGY = flags.DEFINE_string(
  'topology', None, "Of which TPUs: 'v5e:4x4', or slices as '2*v5e:4x4'."
)
_COMPILE = flags.DEFINE_list(
  'compile', [*PROGRAMS], "Whose peak the compiler is asked for, if there is "
  "'libtpu'; it takes minutes. Empty: it is not asked.",
)  # fmt: skip


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  config = flags.FLAGS.config
  try:
    topology = tpu.parse(_TOPOLOGY.value)
    unknown = set(_COMPILE.value) - {*PROGRAMS, ''}
    if unknown:
      raise ValueError(
        f'--compile: {sorted(unknown)} is no program: expected some of '
        f'{PROGRAMS}.'
      )
    ahead = () if tpu.missing() else tuple(_COMPILE.value)
    found = plan(config, topology, ahead=ahead)
  except (ValueError, OSError, ImportError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  print(text(found))
  if not ahead:
    print(f'Not compiled: {tpu.missing() or "--compile is empty"}.')
  sys.exit(bool(found['too_much']))


def plan(
  config: Any,
  topology: tpu.Topology,
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
  from sleep_jax import ahead as ahead_lib
  from sleep_jax import budget, programs, settings, sharding
  from sleep_jax.phases import night as night_lib

  plain = config.to_dict()
  settings.check(plain)
  if ahead:
    place = sharding.make(**plain['mesh'], devices=topology.devices())
    place = ahead_lib.Ahead(place.mesh)
  else:
    place = sharding.imagined(
      topology.num_devices, slices=topology.slices, **plain['mesh']
    )
  life = ahead_lib.life(config, place)
  model = life.programs.model.config
  mesh = dict(place.mesh.shape)
  reckoned = budget.Reckoning(
    model, config, night_lib.make(**plain['consolidate']),
    {'bfloat16': 2, 'float32': 4}[config.birth.dtype], mesh,
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
  for path, leaf in life.newborn.weights.params.items():
    kind = budget.kind(f'weights/params/{path}', model.num_levels)
    parameters[kind] = parameters.get(kind, 0) + math.prod(leaf.shape)
  size = sum(
    math.prod(leaf.shape) * leaf.dtype.itemsize
    for leaf in life.newborn.weights.params.values()
  )
  found: dict[str, Any] = {
    'name': config.name, 'topology': topology.name, 'mesh': mesh,
    'chip_bytes': topology.chip.bytes, 'parameters': parameters,
    'dtype': config.birth.dtype, 'rows': reckoned.day_rows,
    'context': config.data.context, 'rounds': reckoned.night.rounds,
    'wake_steps': config.wake.steps, 'programs': {}, 'too_much': [],
    'uneven': reckoned.uneven(),
    'newborn': sum(
      budget.kept(life.newborn.weights, num_levels=model.num_levels).values()
    ),
  }  # fmt: skip
  for name, (state, needed, work, lower) in rows.items():
    row: dict[str, Any] = {
      'kept': budget.kept(state, num_levels=model.num_levels),
      'needed': needed, 'flops': work.flops,
      'seconds': work.seconds(topology.chip, mesh, size),
    }  # fmt: skip
    if name in ahead:
      row['compiled'] = compiled(lower(), topology.name, known)
    found['programs'][name] = row
    room = topology.chip.bytes - found['newborn']
    found['too_much'] += _too_much(name, row, room)
  return found


def compiled(
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

  text = f'{tpu.compiler()} {topology} {program.as_text()}'
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
    'sent': traffic.sent(made.as_text()),
  }


def _too_much(name, row, room):
  from sleep_jax import budget

  made = row.get('compiled', {})
  if 'refused' in made:
    why = f'the compiler refuses ({made["refused"]})'
  else:
    whole = made.get('peak') or sum([*row['kept'].values(),
                                     *row['needed'].values()])  # fmt: skip
    if whole <= room:
      return []
    why = f'{whole / GIB:.2f} GiB where there are {room / GIB:.2f}'
  largest = sorted((row['kept'] | row['needed']).items(), key=lambda x: -x[1])[
    :2
  ]
  knobs = '; '.join(
    f'{kind} take {size / GIB:.2f} GiB: {budget.KNOBS[kind]}'
    for kind, size in largest
  )
  return [f'{name} does not fit: {why}. {knobs}.']


def text(found: dict[str, Any]) -> str:
  """A plan as tables."""
  programs = found['programs']
  mesh = ', '.join(f'{axis}={size}' for axis, size in found['mesh'].items())
  chips = math.prod(found['mesh'].values())
  parameters = ', '.join(
    f'{size / 1e9:.3f} B in {kind}'
    for kind, size in found['parameters'].items()
  )
  lines = [
    f'{found["name"]} on {found["topology"]}: {chips} chips of '
    f'{found["chip_bytes"] / GIB:.2f} GiB; {mesh}',
    f'parameters: {parameters} (core in {found["dtype"]})',
    f'a wake step reads {found["rows"]} rows of {found["context"]} tokens',
    '',
    _row('GiB per device', programs),
  ]
  for part in ('kept', 'needed'):
    kinds = dict.fromkeys(k for row in programs.values() for k in row[part])
    for kind in kinds:
      lines.append(_row(f'  {kind}', _gib(
        row[part].get(kind, 0) for row in programs.values())))  # fmt: skip
    lines.append(_row(
      f'{part}, in all', _gib(sum(r[part].values()) for r in programs.values())
    ))  # fmt: skip
  lines.append(
    f'and beside all of them the newborn, to measure drift from: '
    f'{found["newborn"] / GIB:.2f}'
  )
  made = [row.get('compiled', {}) for row in programs.values()]
  if any(made):
    lines.append(
      _row(
        "compiler's peak",
        [f'{x["peak"] / GIB:.2f}' if 'peak' in x else '-' for x in made],
      )
    )
    lines.append(
      _row(
        'compiled in, s', [f'{x["seconds"]:.0f}' if x else '-' for x in made]
      )
    )
  lines += [
    '',
    _row('of a step, or round', programs),
    _row('  TFLOP', [f'{r["flops"] / 1e12:.3g}' for r in programs.values()]),
    _row('  seconds, at best',
         [f'{r["seconds"]:.3g}' for r in programs.values()]),
  ]  # fmt: skip
  night = found['rounds'] * programs['night']['seconds']
  day = found['wake_steps'] * programs['wake']['seconds']
  lines.append(
    f'a night of {found["rounds"]} rounds: {night:.3g} s; nights per day: '
    f'{86400 / (night + day):.3g}, with a day of {found["wake_steps"]} wake '
    f'steps ({day:.3g} s) before each; all at best'
  )
  return '\n'.join([*lines, *found['uneven'], *found['too_much']])


def _gib(sizes):
  return [f'{size / GIB:.2f}' for size in sizes]


def _row(name, cells):
  return f'{name:<28}' + ''.join(f'{cell:>10}' for cell in cells)


if __name__ == '__main__':
  flags.mark_flags_as_required(['config', 'topology'])
  app.run(main, flags_parser=main_lib.parse)

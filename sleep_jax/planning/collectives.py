"""Counts the bytes that devices send each other in a compiled program.

For each collective operation, the bytes that leave one device are those of a
ring algorithm, times the number of iterations of the loops around it.
"""

import collections
import math
import re

_DTYPE_BYTES = {
  'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2,
  'f32': 4, 's32': 4, 'u32': 4, 'f64': 8, 's64': 8, 'u64': 8,
}  # fmt: skip
# Bytes that leave a device per byte of the result, in a group of g devices.
_SENT_SHARE = {
  'all-gather': lambda g: (g - 1) / g,
  'all-reduce': lambda g: 2 * (g - 1) / g,
  'reduce-scatter': lambda g: g - 1.0,
  'all-to-all': lambda g: (g - 1) / g,
  'collective-permute': lambda g: 1.0,
}
_COMPUTATION = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_COLLECTIVE = re.compile(
  rf'= (.*?) ({"|".join(_SENT_SHARE)})(-start)?\((?!.*-done)(.*)$'
)
_SHAPE = re.compile(r'(\w+)\[([\d,]*)\]')
_LOOP = re.compile(r'condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_CALL = re.compile(r'(?:calls|to_apply)=%?([\w.\-]+)')
# A fusion that overlaps matrix products with a collective. The collective is
# counted where it starts.
_CONTINUATION = 'async_collective_fusion'
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


def bytes_sent(text: str) -> dict[str, float]:
  """Returns the bytes that leave a device in one call, by collective.

  Args:
    text: HLO text of a compiled program (`as_text`).
  """
  bodies, entry = _computations(text)

  def count(name):
    totals: dict[str, float] = collections.defaultdict(float)
    for line in bodies[name]:
      match = _COLLECTIVE.search(line)
      if match:
        shapes, kind, started, attributes = match.groups()
        totals[kind] += _result_bytes(shapes, bool(started)) * _SENT_SHARE[
          kind
        ](_group_size(attributes))
      for inner, times in _called(line, bodies):
        for kind, size in count(inner).items():
          totals[kind] += times * size
    return totals

  return dict(count(entry))


def _computations(text):
  """Returns the lines of each computation, and the name of the entry."""
  bodies: dict[str, list[str]] = {}
  entry = name = ''
  for line in text.splitlines():
    match = _COMPUTATION.match(line)
    if match:
      name = match[1]
      bodies[name] = []
      entry = name if line.startswith('ENTRY') else entry
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _called(line, bodies):
  """Yields the computations that an instruction runs, and how often."""
  loop = _LOOP.search(line)
  if loop:
    yield loop[2], _num_iterations(bodies[loop[1]])
    return
  branches = _BRANCHES.search(line)
  names = branches[1].replace('%', '').split(', ') if branches else []
  for name in (*names, *_CALL.findall(line)):
    if name in bodies and not name.startswith(_CONTINUATION):
      yield name, 1


def _num_iterations(condition):
  """Returns the largest constant of a loop condition, or 1 if there is none.

  It is the number that the loop counter is compared with.
  """
  numbers = re.findall(r'constant\((\d+)\)', '\n'.join(condition))
  return max(map(int, numbers), default=1)


def _result_bytes(shapes, started):
  """Returns the bytes of a result.

  The result of an asynchronous start also lists its operands, so only the
  largest array counts.
  """
  sizes = [
    math.prod(int(n) for n in dims.split(',') if n) * _DTYPE_BYTES[dtype]
    for dtype, dims in _SHAPE.findall(shapes)
    if dtype in _DTYPE_BYTES
  ]
  return max(sizes, default=0) if started else sum(sizes)


def _group_size(attributes):
  """Returns the number of devices in a replica group, in any of 3 formats."""
  mesh = re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes)
  if mesh:
    sizes = dict(re.findall(r"('\w+')=(\d+)", mesh[1]))
    return math.prod(int(sizes[a]) for a in re.findall(r"'\w+'", mesh[2]))
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', attributes)
  if listed:
    return len(listed[1].split(','))
  iota = re.search(r'replica_groups=\[\d+,(\d+)\]', attributes)
  return int(iota[1]) if iota else 1

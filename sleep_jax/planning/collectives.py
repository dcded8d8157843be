"""What devices send each other, read off a compiled program.

Bytes that leave one device in one call: of each collective as many as a ring
needs, times how often the loops around it run.
"""

import collections
import math
import re

_BYTES = {
  'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's16': 2, 'u16': 2,
  'f32': 4, 's32': 4, 'u32': 4, 'f64': 8, 's64': 8, 'u64': 8,
}  # fmt: skip
# By a collective, of its result's bytes in a group of g: what leaves a device.
_SENT = {
  'all-gather': lambda g: (g - 1) / g,
  'all-reduce': lambda g: 2 * (g - 1) / g,
  'reduce-scatter': lambda g: g - 1.0,
  'all-to-all': lambda g: (g - 1) / g,
  'collective-permute': lambda g: 1.0,
}
_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
_COLLECTIVE = re.compile(
  rf'= (.*?) ({"|".join(_SENT)})(-start)?\((?!.*-done)(.*)$'
)
_SHAPE = re.compile(r'(\w+)\[([\d,]*)\]')
_LOOP = re.compile(r'condition=%?([\w.\-]+), body=%?([\w.\-]+)')
_CALL = re.compile(r'(?:calls|to_apply)=%?([\w.\-]+)')
# Goes on, beside products, with a collective that was begun elsewhere.
_GOES_ON = 'async_collective_fusion'
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')


def bytes_sent(text: str) -> dict[str, float]:
  """Bytes that leave a device, by collective.

  Args:
    text: of a compiled program (`as_text`).
  """
  bodies, entry = _computations(text)

  def of(name):
    found: dict[str, float] = collections.defaultdict(float)
    for line in bodies[name]:
      match = _COLLECTIVE.search(line)
      if match:
        shapes, kind, started, rest = match.groups()
        found[kind] += _size(shapes, bool(started)) * _SENT[kind](_group(rest))
      for inner, times in _called(line, bodies):
        for kind, size in of(inner).items():
          found[kind] += times * size
    return found

  return dict(of(entry))


def _computations(text):
  """Lines by the name of the computation, and which is entered."""
  bodies: dict[str, list[str]] = {}
  entry = name = ''
  for line in text.splitlines():
    match = _HEAD.match(line)
    if match:
      name = match[1]
      bodies[name] = []
      entry = name if line.startswith('ENTRY') else entry
    elif name:
      bodies[name].append(line)
  return bodies, entry


def _called(line, bodies):
  """Computations that an instruction runs, and how often."""
  loop = _LOOP.search(line)
  if loop:
    yield loop[2], _trips(bodies[loop[1]])
    return
  branches = _BRANCHES.search(line)
  names = branches[1].replace('%', '').split(', ') if branches else []
  for name in (*names, *_CALL.findall(line)):
    if name in bodies and not name.startswith(_GOES_ON):
      yield name, 1


def _trips(condition):
  """How often a loop runs: what its counter is compared with."""
  numbers = re.findall(r'constant\((\d+)\)', '\n'.join(condition))
  return max(map(int, numbers), default=1)


def _size(shapes, started):
  """Bytes of a result; of one that was begun, its largest part."""
  found = [
    math.prod(int(n) for n in dims.split(',') if n) * _BYTES[kind]
    for kind, dims in _SHAPE.findall(shapes)
    if kind in _BYTES
  ]
  return max(found, default=0) if started else sum(found)


def _group(rest):
  """Devices that take part together."""
  mesh = re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', rest)
  if mesh:
    sizes = dict(re.findall(r"('\w+')=(\d+)", mesh[1]))
    return math.prod(int(sizes[a]) for a in re.findall(r"'\w+'", mesh[2]))
  listed = re.search(r'replica_groups=\{\{([\d,]*)\}', rest)
  if listed:
    return len(listed[1].split(','))
  folded = re.search(r'replica_groups=\[\d+,(\d+)\]', rest)
  return int(folded[1]) if folded else 1

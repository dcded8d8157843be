"""The layout rule: packages import lower floors only, see docs/design.md."""

import ast
import pathlib
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = 'sleep_jax'
# From the ground up; a package imports packages of lower floors.
FLOORS = (
  ('errors',),
  ('types', 'state', 'runtime', 'datasets'),
  ('model', 'optim', 'storage', 'replay'),
  ('objectives', 'schedule', 'data'),
  ('sleep',),
  ('wake', 'dream', 'strategies', 'evaluate', 'interop'),
  ('config',),
  ('learner', 'report'),
  ('runs', 'planning'),
  ('api',),
  ('main', 'chat', 'compare', 'convert', 'generate', 'plan'),
  ('cli', '__init__', '__main__'),
)
# Imports within a floor that are allowed, in one direction.
SAME_FLOOR = {
  ('state', 'types'), ('state', 'runtime'), ('planning', 'runs'),
  ('strategies', 'wake'), ('strategies', 'dream'), ('strategies', 'evaluate'),
}  # fmt: skip
# `errors` imports nothing and is imported everywhere: chains are counted to it.
MAX_CHAIN, MAX_MEDIAN, MAX_LINES = 14, 150, 350
# A lazy front door, and commands that run a module by its name.
LAZY = {PACKAGE, f'{PACKAGE}.cli', f'{PACKAGE}.__main__'}


def _sources():
  """Module name -> source of the whole package."""
  found = {}
  for path in sorted((ROOT / PACKAGE).rglob('*.py')):
    parts = path.relative_to(ROOT).with_suffix('').parts
    if parts[-1] == '__init__':
      parts = parts[:-1]
    found['.'.join(parts)] = path.read_text(encoding='utf-8')
  return found


SOURCES = _sources()


def _imports(module):
  """Modules of the package that a module imports, also inside functions."""
  found = set()
  for node in ast.walk(ast.parse(SOURCES[module])):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{module}: relative import in line {node.lineno}'
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        found.add(full if full in SOURCES else node.module)
  return {name for name in found if name in SOURCES} - {module, PACKAGE}


IMPORTS = {
  module: set() if module in LAZY else _imports(module) for module in SOURCES
}


def _package(module):
  return module.split('.')[1] if '.' in module else '__init__'


def test_every_package_has_a_floor():
  known = {name for floor in FLOORS for name in floor}
  assert {_package(module) for module in SOURCES} == known


def test_packages_import_lower_floors_only():
  floor = {name: n for n, names in enumerate(FLOORS) for name in names}
  wrong = []
  for module, imported in IMPORTS.items():
    for other in imported:
      a, b = _package(module), _package(other)
      if a != b and (a, b) not in SAME_FLOOR and floor[b] >= floor[a]:
        wrong.append(f'{module} imports {other}')
  assert not wrong


def _chain(module, above=()):
  """Longest import chain from a module; fails if it comes back to itself."""
  assert module not in above, f'import circle: {" -> ".join((*above, module))}'
  if module not in _CHAINS:
    imported = sorted(IMPORTS[module] - {f'{PACKAGE}.errors'})
    longest = max(
      (_chain(other, (*above, module)) for other in imported),
      key=len, default=(),
    )  # fmt: skip
    _CHAINS[module] = (module, *longest)
  return _CHAINS[module]


_CHAINS: dict[str, tuple[str, ...]] = {}


def test_no_import_circle_and_no_long_chain():
  longest = max((_chain(module) for module in SOURCES), key=len)
  assert len(longest) <= MAX_CHAIN, ' -> '.join(longest)


def test_files_are_short():
  lines = {m: s.count('\n') for m, s in SOURCES.items() if s.strip()}
  assert statistics.median(lines.values()) <= MAX_MEDIAN
  assert {m: n for m, n in lines.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize('module', sorted(SOURCES))
def test_a_module_says_what_it_is_for(module):
  source = SOURCES[module]
  if source.strip():
    doc = ast.get_docstring(ast.parse(source))
    assert doc and not doc.startswith('TODO')

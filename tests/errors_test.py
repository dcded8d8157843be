"""Errors that a user can cause are of one hierarchy."""

import ast
import inspect
import pathlib

from sleep_jax import errors

PACKAGE = pathlib.Path(errors.__file__).parent
# Wrong calls inside the package, which no user can cause.
INTERNAL = {
  'types.py', 'evaluate/cost.py', 'runtime/sharding.py',
  'storage/metric_backends.py',
}  # fmt: skip
BUILT_IN = {
  'ValueError', 'TypeError', 'KeyError', 'IndexError', 'OSError', 'IOError',
  'FileNotFoundError', 'FileExistsError', 'ImportError', 'ConnectionError',
  'ArithmeticError', 'Exception', 'RuntimeError',
}  # fmt: skip


def test_every_error_can_be_caught_as_one_and_as_a_built_in():
  classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
  assert len(classes) > 8
  for found in classes:
    assert issubclass(found, errors.SleepJaxError)
    if found is not errors.SleepJaxError:
      built_in = [c for c in found.__mro__ if c.__module__ == 'builtins']
      assert built_in[0] is not Exception, f'{found} specializes nothing'


def test_the_package_raises_its_own_errors_only():
  wrong = []
  for path in sorted(PACKAGE.rglob('*.py')):
    name = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
      raised = isinstance(node, ast.Raise) and node.exc
      called = isinstance(raised, ast.Call) and raised.func
      if isinstance(called, ast.Name) and called.id in BUILT_IN:
        if name not in INTERNAL:
          wrong.append(f'{name}:{node.lineno} raises {called.id}')
  assert not wrong

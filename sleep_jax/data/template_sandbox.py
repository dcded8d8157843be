"""Renders the Jinja of a chat template as transformers does, within limits.

The sandbox of Jinja keeps a template from reaching Python: attributes with an
underscore, and methods that change their object, are refused. It does not bound
time and memory. Here every loop, macro, call, filter, test and operator of the
template goes through a `template_meter.Meter`. No file can be included, and the
filters `FORBIDDEN`, which chat templates do not need and whose cost is hard to
bound, do not exist.
"""

import datetime
import functools
import re
import threading
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe
from jinja2 import ext, nodes, sandbox, utils, visitor

from sleep_jax.data import template_checks, template_meter

FORBIDDEN = ('urlize', 'pprint', 'xmlattr', 'wordwrap', 'random', 'striptags')
_CALL = 4  # Steps of a call or filter.
_NODES_PER_STEP = 8  # Of a loop body: parts that are not metered themselves.
# Filters and tests that do not read what they are given from end to end.
_CONSTANT = {
  'length', 'count', 'first', 'last', 'default', 'd', 'boolean', 'callable',
  'defined', 'false', 'float', 'integer', 'iterable', 'mapping', 'none',
  'number', 'sequence', 'string', 'true', 'undefined',
}  # fmt: skip
_RESULT = 'made here'  # Names of filters that a template cannot write.
_STEP, _READ = 'steps used', 'read here'

Span = tuple[int, int]


class Template:
  """A compiled template.

  Args:
    source: text of the template.
    date: what `strftime_now` writes; None: the present time.

  Raises:
    jinja2.TemplateError and others: the source is not valid.
  """

  def __init__(self, source: str, date: datetime.datetime | None = None):
    self._meter, self._lock = template_meter.Meter(), threading.Lock()
    self._meter.start(source)
    self._environment = _Environment(self._meter)
    self._environment.globals['strftime_now'] = functools.partial(
      _strftime, date
    )
    tree = self._environment.parse(source)
    _Metering().visit(tree)
    code = self._environment.compile(tree)
    self._template = jinja2.Template.from_code(
      self._environment, code, self._environment.globals
    )

  def render(self, variables: Mapping[str, Any]) -> tuple[str, list[Span]]:
    """Renders the template.

    Args:
      variables: plain data: dicts, lists, strings, numbers and None.

    Returns:
      The text, and the characters [start, end) of each `{% generation %}`
      block.

    Raises:
      jinja2.TemplateError and others: whatever the template raises;
        `template_meter.LimitError` if it does too much.
    """
    with self._lock:
      self._meter.start(variables)
      pieces: list[str] = []
      blocks: list[tuple[int, str]] = []
      self._environment.generation = (pieces, blocks)
      length = 0
      for piece in self._template.generate(variables):
        length += len(piece)
        self._meter.check_size(length)
        self._meter.spend(1 + len(piece) // 64)
        pieces.append(piece)
    text = ''.join(pieces)
    return text, [_span(text, start, body) for start, body in blocks]


def has_generation(source: str) -> bool:
  """Returns whether a template has `{% generation %}` blocks."""
  return re.search(r'{%[-+]?\s*generation\s*[-+]?%}', source) is not None


def _span(text: str, start: int, body: str) -> Span:
  """Returns where a block is; a macro may write it later than it was made."""
  found = text.find(body, start)
  if found < 0:
    raise jinja2.TemplateRuntimeError(
      'it changes the text of a generation block after the block'
    )
  return found, found + len(body)


class _Generation(ext.Extension):
  """The tag `{% generation %}`, around the text that the model writes."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    call = self.call_method('_note')
    return nodes.CallBlock(call, [], [], body).set_lineno(line)

  def _note(self, caller):
    body = caller()
    pieces, blocks = self.environment.generation  # type: ignore[attr-defined]
    blocks.append((sum(map(len, pieces)), body))
    return body


class _Environment(sandbox.ImmutableSandboxedEnvironment):
  """The environment of transformers, metered."""

  intercepted_binops = frozenset(
    sandbox.SandboxedEnvironment.default_binop_table
  )

  def __init__(self, meter: template_meter.Meter):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=[_Generation, ext.loopcontrols],
      optimized=False,
      finalize=_output_check(meter),
    )
    self._meter = meter
    self.generation: tuple[list[str], list[tuple[int, str]]] = ([], [])
    self.concat = meter.concat  # type: ignore[assignment]
    self.globals |= dict(
      raise_exception=_raise_exception, dict=_Dicts(),
      namespace=_Namespace,
    )  # fmt: skip
    del self.globals['lipsum']
    self.filters['tojson'] = functools.partial(template_checks.to_json, meter)
    for name in FORBIDDEN:
      del self.filters[name]
    for name, function in self.filters.items():
      check = template_checks.FILTERS.get(name)
      # The filter `string` reads all of a list; the test does not.
      constant = name in _CONSTANT and name != 'string'
      self.filters[name] = self._metered(function, constant, check)
    for name, function in self.tests.items():
      self.tests[name] = self._metered(function, name in _CONSTANT)
    self.filters |= {
      _RESULT: meter.made, _READ: self._read, _STEP: self._step,
    }  # fmt: skip

  def is_safe_attribute(self, obj, attr, value):
    if isinstance(obj, markupsafe.Markup) and attr in ('striptags', 'unescape'):
      return False
    return super().is_safe_attribute(obj, attr, value)

  def call_binop(self, context, operator_name, left, right):
    self._meter.use(left, right)
    template_checks.check_operation(self._meter, operator_name, left, right)
    return self._meter.made(
      super().call_binop(context, operator_name, left, right)
    )

  def call(__self, __context, __obj, *args, **kwargs):  # noqa: B902, N805
    meter = __self._meter
    owner = getattr(__obj, '__self__', None)
    meter.use(owner, *args, *kwargs.values(), steps=_CALL)
    if isinstance(owner, str | bytes | int):
      args = template_checks.check_method(
        meter, owner, __obj.__name__, args, kwargs
      )
    return meter.made(super().call(__context, __obj, *args, **kwargs))

  def wrap_str_format(self, value):
    if super().wrap_str_format(value) is None:
      return None
    formatter = template_checks.Formatter(self, self._meter, value.__self__)
    is_map = value.__name__ == 'format_map'
    return formatter.format_map if is_map else formatter.format_text

  def _metered(self, function, constant: bool, check=None):
    """Returns a filter or test that uses steps, and whose result is checked."""
    meter = self._meter

    def run(*args, **kwargs):
      if constant:
        meter.spend(_CALL)
      else:
        meter.use(*args, *kwargs.values(), steps=_CALL, share=16)
      if check is not None:
        args = check(meter, args, kwargs)
      return meter.made(function(*args, **kwargs))

    return functools.update_wrapper(run, function)

  def _read(self, value):
    """Returns a value that is compared or sliced next."""
    self._meter.use(value)
    return value

  def _step(self, steps):
    self._meter.spend(steps if isinstance(steps, int) else 1)
    return True


class _Metering(visitor.NodeTransformer):
  """Inserts the metering of what the environment has no hook for."""

  def visit_For(self, node):
    steps = _steps(node)
    self.generic_visit(node)
    node.body.insert(0, nodes.ExprStmt(steps))
    if node.test is not None:
      node.test = nodes.And(steps, node.test)
    return node

  def visit_Macro(self, node):
    steps = _steps(node)
    self.generic_visit(node)
    node.body.insert(0, nodes.ExprStmt(steps))
    return node

  visit_CallBlock = visit_Block = visit_Macro  # noqa: N815

  def visit_Concat(self, node):
    self.generic_visit(node)
    first, *rest = [_filtered(part, 'string') for part in node.nodes]
    return functools.reduce(nodes.Add, rest, first)

  def visit_List(self, node):
    self.generic_visit(node)
    return _filtered(node, _RESULT)

  visit_Dict = visit_List  # noqa: N815

  def visit_Tuple(self, node):
    self.generic_visit(node)
    return _filtered(node, _RESULT) if node.ctx == 'load' else node

  def visit_Compare(self, node):
    self.generic_visit(node)
    node.expr = _filtered(node.expr, _READ)
    for operand in node.ops:
      operand.expr = _filtered(operand.expr, _READ)
    return node

  def visit_Getitem(self, node):
    self.generic_visit(node)
    if isinstance(node.arg, nodes.Slice):
      node.node = _filtered(node.node, _READ)
    return node


def _filtered(node: nodes.Expr, name: str) -> nodes.Filter:
  return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _steps(node: nodes.Node) -> nodes.Filter:
  """Returns an expression that uses the steps of one pass, and is true."""
  num_nodes = sum(1 for _ in node.find_all(nodes.Node))
  steps = nodes.Const(1 + num_nodes // _NODES_PER_STEP, lineno=node.lineno)
  return _filtered(steps, _STEP)


def _output_check(meter: template_meter.Meter):
  """Returns a function for what is written, before it is made a text."""

  @jinja2.pass_context  # With a context, Jinja computes nothing as it compiles.
  def check(context, value):
    meter.check_size(meter.use(value))
    return value

  return check


class _Dicts:
  """The function `dict`, without the attributes of the class."""

  def __call__(self, *args, **kwargs):
    return dict(*args, **kwargs)

  def fromkeys(self, *args):
    return dict.fromkeys(*args)


class _Namespace(utils.Namespace):
  """A namespace whose names have no leading underscore."""

  def __init__(*args, **kwargs):  # A name may be `self`.
    self, *rest = args
    fields = dict(*rest, **kwargs)
    for name in fields:
      _check_name(name)
    utils.Namespace.__init__(self, fields)

  def __setitem__(self, name, value):
    _check_name(name)
    super().__setitem__(name, value)

  def __repr__(self):
    return '<Namespace>'  # Its content may be too large to be written.


def _check_name(name):
  if isinstance(name, str) and name.startswith('_'):
    raise jinja2.exceptions.SecurityError(f'a namespace has no field {name!r}')


def _raise_exception(message):
  """Refuses a conversation; templates call this."""
  raise jinja2.TemplateError(message)


def _strftime(date, format):
  if len(format) > 1000 or re.search(r'\d{3}', format):
    raise template_meter.LimitError(f'it formats a date with {format[:50]!r}')
  return (date or datetime.datetime.now()).strftime(format)

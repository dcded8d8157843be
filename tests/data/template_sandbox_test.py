"""Templates that a stranger wrote: they end soon, and reach no Python."""

import time

import pytest

from sleep_jax.data import template_meter, template_sandbox

BIG = "{% set s = 'ab' * 300000 %}"  # Most of what a value may have.
LOOP = '{% for i in range(100000) %}'
# Each would run for minutes, or allocate gigabytes, without limits.
ENDLESS = {
  'loop': f'{LOOP}{LOOP}{{% endfor %}}{{% endfor %}}',
  'billion': '{% for i in range(10 ** 9) %}{% endfor %}',
  'filtered': f'{LOOP[:-3]} if false %}}{{% endfor %}}' * 200,
  'recursive_loop': (
    '{% for x in [0] recursive %}{{ loop([0, 0]) }}{% endfor %}'
  ),
  'recursion': '{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}',
  'tree': (
    '{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}'
    '{% endmacro %}{{ f(99) }}'
  ),
  'caller': (
    '{% macro f(n) %}{% for i in range(99) %}{{ caller() }}{% endfor %}'
    '{% endmacro %}{% call f(1) %}{% call f(1) %}{% call f(1) %}{% call f(1) %}'
    'x{% endcall %}{% endcall %}{% endcall %}{% endcall %}'
  ),
  'times': "{{ 'a' * 10 ** 9 }}",
  'times_list': '{{ [[[0] * 1000] * 1000] * 1000 }}',
  'power': '{{ 10 ** (10 ** 9) }}',
  'power_of_power': '{{ (9 ** 999) ** 999 }}',
  'product': (
    f'{{% set ns = namespace(x=3) %}}{LOOP}{{% set ns.x = ns.x * ns.x %}}'
    '{% endfor %}'
  ),
  'doubling': (
    "{% set ns = namespace(x='a') %}" + LOOP
    + '{% set ns.x = ns.x ~ ns.x %}{% endfor %}'
  ),
  'doubling_list': (
    '{% set ns = namespace(x=[1]) %}' + LOOP
    + '{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}'
  ),
  'deep': (
    '{% set ns = namespace(x=[1]) %}' + LOOP
    + '{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x == [] }}'
  ),
  'percent': "{{ '%1000000000d' % 1 }}",
  'percent_star': "{{ '%*d' % (1000000000, 1) }}",
  'percent_filter': "{{ '%1000000000d' | format(1) }}",
  'format': "{{ '{:>1000000000}'.format(1) }}",
  'format_nested': "{{ '{:{w}}'.format(1, w=1000000000) }}",
  'format_map': "{{ '{x:1000000000}'.format_map({'x': 1}) }}",
  'format_many': BIG + "{{ ('{0}' * 9999).format(s) }}",
  'ljust': "{{ 'a'.ljust(10 ** 9) }}",
  'center': "{{ 'a' | center(10 ** 9) }}",
  'expandtabs': "{{ ('\\t' * 1000).expandtabs(10 ** 9) }}",
  'indent': "{{ ('\\n' * 99999) | indent(99999) }}",
  'to_bytes': "{{ (1).to_bytes(10 ** 9, 'little') }}",
  'replace': BIG + "{{ s.replace('a', s) }}",
  'replace_filter': BIG + "{{ s | replace('a', s) }}",
  'join': BIG + '{{ s.join(s) }}',
  'join_filter': BIG + "{{ s | join(s) }}",
  'translate': BIG + "{{ s.translate({97: s}) }}",
  'batch': "{{ [1] | batch(10 ** 9, 'x') | list }}",
  'slice': '{{ [1] | slice(10 ** 9) | list }}',
  'sum': '{{ ([[1, 2]] * 9999) | sum(start=[]) }}',
  'tojson': '{{ (range(9999) | list) | tojson(indent=10 ** 9) }}',
  'int': BIG + "{{ ('f' * 500000) | int(0, 16) }}",
  'strftime': "{{ strftime_now('%999999999d') }}",
  'text': f'{LOOP}{"x" * 999}{{% endfor %}}',
  'set_block': f'{{% set x %}}{LOOP}{"x" * 999}{{% endfor %}}{{% endset %}}',
  'split': f"{BIG}{LOOP}{{{{ s.split('a') | length }}}}{{% endfor %}}",
  'contains': f'{BIG}{LOOP}{{{{ s in s }}}}{{% endfor %}}',
  'slices': f'{BIG}{LOOP}{{{{ s[::-1] | length }}}}{{% endfor %}}',
  'sort': f'{BIG}{LOOP}{{{{ s | sort | length }}}}{{% endfor %}}',
  'upper': f'{BIG}{LOOP}{{{{ s | upper | length }}}}{{% endfor %}}',
  'wide_body': LOOP + '{% if x is defined or y %}{% endif %}' * 500
  + '{% endfor %}',
}  # fmt: skip


def _render(source, **variables):
  return template_sandbox.Template(source).render(variables)


@pytest.mark.parametrize('name', ENDLESS)
def test_a_template_that_would_not_end_is_stopped(name):
  begun = time.process_time()
  stopped = template_meter.LimitError, RecursionError, OverflowError
  with pytest.raises(stopped):
    _render(ENDLESS[name])
  assert time.process_time() - begun < 4  # A second, on a free machine.


def test_a_template_is_stopped_while_it_is_compiled():
  for source in (
    '{{ ' + '(' * 40000 + '1' + ')' * 40000 + ' }}',
    '{{ x' + '.y' * 40000 + ' }}',
    '{% if x %}' * 9000,
  ):
    with pytest.raises(RecursionError):
      _render(source)


@pytest.mark.parametrize('source', [
  "{{ ''.__class__.__mro__ }}",
  "{{ cycler.__init__.__globals__ }}",
  "{{ raise_exception.__globals__ }}",
  "{{ strftime_now.__code__.co_consts }}",
  "{{ dict.__class__.__init__ }}",
  "{{ ('%s' | format)['__class__']['__base__'] }}",
  "{{ messages | map(attribute='__class__') | map('string') | list }}",
  "{{ messages | map(attribute='__class__.__mro__') | list }}",
  "{{ messages.append(1) }}",
  "{{ messages[0].update({'role': 'x'}) }}",
  '{{ namespace(__class__=1) }}',
  "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
  "{% include '/etc/hostname' %}",
  "{% import '/etc/hostname' as x %}",
  "{% extends '/etc/hostname' %}",
  "{{ self.__init__.__globals__ }}",
  '{{ range.__self__ }}{{ x.y.z }}',
])  # fmt: skip
def test_a_template_reaches_no_python(source):
  with pytest.raises(Exception) as raised:
    text, _ = _render(source, messages=[{'role': 'user'}])
    assert not text.strip("[]'"), f'it wrote {text!r}'
    raise AssertionError('') from None
  assert 'it wrote' not in str(raised.value)


def test_inner_attributes_are_undefined():
  for source in ("{{ ''.__class__ }}", "{{ '{0.__class__}'.format(1) }}"):
    assert _render(source) == ('', [])


def test_limits_grow_with_the_conversation():
  loop = '{% for m in messages %}'
  source = f'{loop}{loop}{{% endfor %}}{{% endfor %}}'
  _render(source, messages=[{'role': 'user', 'content': 'a'}] * 500)
  copies = '{% for m in messages %}{{ m }}{% endfor %}'
  text, _ = _render(copies, messages=['x' * 3_000_000])
  assert len(text) == 3_000_000


def test_generation_blocks_are_found():
  assert _render('a{% generation %}bc{% endgeneration %}d') == (
    'abcd', [(1, 3)]
  )  # fmt: skip
  in_macro = (
    '{% macro m(x) %}<{% generation %}{{ x }}{% endgeneration %}>{% endmacro %}'
    "a{{ m('q') }}{{ m('r') }}"
  )
  assert _render(in_macro) == ('a<q><r>', [(2, 3), (5, 6)])
  changed = (
    '{% filter upper %}{% generation %}x{% endgeneration %}{% endfilter %}'
  )
  with pytest.raises(Exception, match='changes the text of a generation block'):
    _render(changed)


def test_whether_a_template_marks_generation_is_seen_in_its_source():
  assert template_sandbox.has_generation('{%- generation -%}')
  assert not template_sandbox.has_generation('{% if generation %}')


def test_loops_macros_and_filters_work_as_without_limits():
  source = (
    '{% for a, b in {"x": 1, "y": 2}.items() if b > 1 %}{{ a ~ b ~ loop.last }}'
    '{% else %}none{% endfor %}|{% for i in range(9) %}{% if i == 1 %}'
    '{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}|'
    '{{ [3, 1, 2] | sort | join("-") }}|{{ [[1], [2]] | map("length") | sum }}'
    '|{{ {"b": "\u00e9<", "a": none} | tojson(sort_keys=true) }}|{{ "%s" % 1 }}'
    '|{{ "{0:>3}{x!r}".format(1, x="y") }}|{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 3 }}'
    '|{{ ("a", "b")[1:] | first }}|{{ "abc"[::-1] | replace("a", "z") }}'
    '|{{ [1, [2]] | string }}|{{ "a" in ["a"] }}|{{ dict(a=1).a }}'
  )  # fmt: skip
  assert _render(source)[0] == (
    'y2True|02|1-2-3|2|{"a": null, "b": "\u00e9<"}|1|  1\'y\'|338|b|cbz'
    '|[1, [2]]|True|1'
  )

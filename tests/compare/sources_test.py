"""The revision of source files changes with what a unit runs, and only then."""

import pathlib

import sleep_jax
from sleep_jax.compare import sources

SOURCES = {
  'p': '',
  'p.a': 'from p import b\nimport os',
  'p.b': 'def f():\n  from p.c import value',
  'p.c': 'value = 1',
  'p.d': 'from p import a',
}


def test_all_modules_that_are_imported_anywhere_count():
  assert sources.closure(['p.a'], SOURCES) == {'p.a', 'p.b', 'p.c'}


def test_a_unit_runs_its_own_strategy_and_no_other():
  found = sources.read(pathlib.Path(sleep_jax.__file__).parent)
  names = {s: sources.module_of(s, found) for s in ('sleep', 'er', 'sft')}
  modules = sources.closure([sources.ENTRY, names['er']], found)
  assert names['er'] in modules
  assert names['sleep'] not in modules and names['sft'] not in modules
  assert 'sleep_jax.sleep.seeding' in modules
  assert not any(m.startswith(('sleep_jax.report', 'sleep_jax.compare'))
                 for m in modules)  # fmt: skip


def test_strategies_have_revisions_of_their_own(monkeypatch):
  before = {s: sources.revision(s) for s in ('sleep', 'er', None)}
  assert len({*before.values()}) == 3
  read = sources.read

  def with_change(package):
    found = read(package)
    return found | {'sleep_jax.strategies.er': found['sleep_jax.strategies.er']
                    + '\n# changed'}  # fmt: skip

  monkeypatch.setattr(sources, 'read', with_change)
  assert sources.revision('er') != before['er']
  assert sources.revision('sleep') == before['sleep']
  assert sources.revision() == before[None]

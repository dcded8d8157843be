"""Configs are found by name or path, and never in the current folder."""

import sys

import pytest

from sleep_jax import errors
from sleep_jax.config import files

OWN = """
from configs import smoke

def get_config(rows='3'):
  c = smoke.get_config()
  c.name = f'mine_{rows}'
  return c
"""


def test_a_name_is_a_config_of_this_package(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert 'smoke' in files.names() and '__init__' not in files.names()
  assert files.load('smoke').name == 'smoke'
  assert files.load('seeding:full').name.startswith('seeding')
  assert 'small/agent' in files.names()
  assert files.load('small/agent:naive').name == 'agent_naive'


def test_a_foreign_configs_folder_is_never_used(tmp_path, monkeypatch):
  """Neither for a name, nor for an import inside a config file."""
  (tmp_path / 'configs').mkdir()
  for name in ('__init__', 'smoke', 'base'):
    (tmp_path / 'configs' / f'{name}.py').write_text(
      "def get_config():\n  raise AssertionError('the foreign config ran')\n"
    )
  (tmp_path / 'mine.py').write_text(OWN)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(str(tmp_path))
  for name in [n for n in sys.modules if n.split('.')[0] == 'configs']:
    monkeypatch.delitem(sys.modules, name)
  import configs as foreign

  assert foreign.__file__ == str(tmp_path / 'configs' / '__init__.py')
  assert files.load('smoke').name == 'smoke'
  assert files.load('mine.py:7').name == 'mine_7'
  # The package that the caller has imported is not replaced.
  assert sys.modules['configs'] is foreign


def test_the_argument_of_a_config_may_contain_a_colon(tmp_path):
  (tmp_path / 'mine.py').write_text(OWN)
  assert files.load(f'{tmp_path}/mine.py:1:2').name == 'mine_1:2'


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('smok', 'no config has this name; the nearest is smoke. Known names: arc'),
    ('zzz', 'no config has this name. Known names: arc'),
    ('configs/smoke.py', 'does not exist.*this package: --config=smoke'),
    ('mime.py', 'does not exist; the nearest is mine.py.*contains: empty.py'),
    ('empty.py', 'defines no function get_config'),
    ('smoke:fast', 'smoke.py takes no argument'),
    ('seeding:no_such', 'no_such: expected a row, one of full'),
    ('small/table1:opds', 'opds: expected a row, one of sleep, .*, opsd, '),
    ('small/table3:seals', 'seals: expected a row, one of base, .*, seal, '),
    ('paper/agent:qwen3-8b:new', "'new': expected one of compositional, naive"),
    ('paper/formats:qwen3-8b:x', "'x': expected one of format, domain"),
    ('paper/images:qwen3-8b:6', "'6' days: expected one of 5, 20"),
    ('paper/math:qwen3-80b', "'qwen3-80b': expected one of qwen3-8b, llama3"),
  ],
)
def test_a_config_that_cannot_be_loaded_is_named(
  tmp_path, monkeypatch, name, message
):
  (tmp_path / 'mine.py').write_text(OWN)
  (tmp_path / 'empty.py').write_text('')
  monkeypatch.chdir(tmp_path)
  with pytest.raises((FileNotFoundError, ValueError), match=message):
    files.load(name)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('consolidate.teachers[2].draws', r'teachers\[2\] does not exist.*has 2'),
    ('consolidate.teachers[-1].draws', r'Allowed: \[0\] to \[1\]'),
    ('consolidate.teachers[x].draws', r'Allowed: \[0\] to \[1\]'),
    (
      'consolidate.teachers[1].bos_share',
      r'teachers\[1\].bos_share is not set',
    ),
    ('consolidate.teachers[1].drawz', r'nearest known key is .*\[1\].draws'),
    ('wake.steps[0]', 'config.wake.steps is 120: it has no entries'),
    ('wake[0]', r'(?s)config.wake is .*: it has no entries'),
    ('wake.steps.x', "config.wake.steps is 120: it has no key 'x'"),
    (
      'wake.stepz',
      'wake.stepz is not a key .* the nearest .* config.wake.steps',
    ),
  ],
)
def test_a_dotted_name_without_a_value_is_explained(name, message):
  with pytest.raises(ValueError, match=message):
    files.find(files.load('base'), name)


def test_entries_are_counted_from_0():
  config = files.load('base')
  assert files.find(config, 'wake.steps') == config.wake.steps
  assert files.find(config, 'levels[0]') == config.levels[0]
  for number, teacher in enumerate(config.consolidate.teachers):
    name = f'consolidate.teachers[{number}].draws'
    assert files.find(config, name) == teacher['draws']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('def get_config(:\n', r'mine\.py:1: SyntaxError'),
    ('import no_such_module\n', r'mine\.py:1: ModuleNotFoundError: .*no_such'),
    ('\ndef get_config():\n  return 1 / 0\n', r'mine\.py:3: ZeroDivision'),
    (
      'from configs import base\ndef get_config():\n'
      '  c = base.get_config()\n  c.wake.foo.bar = 1\n  return c\n',
      r"mine\.py:4: AttributeError: .*'foo'",
    ),
    (
      'def get_config():\n  raise ValueError("no")\n',
      r'mine\.py:2: ValueError',
    ),
    ('def get_config():\n  pass\n', r'returned None: expected a ConfigDict'),
    ('def get_config():\n  return 3\n', r'returned 3: expected a ConfigDict'),
  ],
)
def test_a_fault_in_a_config_file_is_named_with_its_line(
  tmp_path, text, message
):
  (tmp_path / 'mine.py').write_text(text)
  with pytest.raises(errors.ConfigError, match=message):
    files.load(f'{tmp_path}/mine.py')


def test_a_folder_is_no_config(tmp_path):
  (tmp_path / 'mine.py').mkdir()
  with pytest.raises(errors.MissingFileError, match='mine.py is a folder'):
    files.load(f'{tmp_path}/mine.py')

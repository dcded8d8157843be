"""Files of results are used, refused or run again."""

import pytest

from sleep_jax import errors
from sleep_jax.compare import result_files, settings, units

UNIT = units.Unit('er', 0, 1)


def _expected(steps=40, sources='aaa'):
  config = {'wake': {'steps': steps}}
  return {
    'config': config, 'key': settings.key(config), 'sources': sources
  }  # fmt: skip


def _write(folder, **changes):
  result = {
    'unit': {'strategy': 'er', 'seed': 0, 'order': 1}, 'status': 'finished',
    'runs': [], 'revision': 'v1', **_expected(), **changes,
  }  # fmt: skip
  result_files.write(folder, UNIT, result)
  return result


def test_a_result_is_read_as_it_was_written(tmp_path):
  written = _write(tmp_path)
  assert result_files.read(tmp_path, {UNIT: _expected()}) == {UNIT: written}
  assert [path.name for path in tmp_path.iterdir()] == ['er_0_1.json']


def test_a_result_of_another_config_is_refused_with_the_difference(tmp_path):
  _write(tmp_path)
  with pytest.raises(errors.WorkdirError) as caught:
    result_files.read(tmp_path, {UNIT: _expected(steps=60)})
  message = str(caught.value)
  assert str(tmp_path / 'er_0_1.json') in message
  assert 'config.wake.steps: 40 there, 60 now' in message
  assert 'Delete it' in message


def test_a_result_of_other_source_files_is_refused(tmp_path):
  _write(tmp_path)
  with pytest.raises(
    errors.WorkdirError, match='found aaa, of revision v1; expected bbb'
  ):
    result_files.read(tmp_path, {UNIT: _expected(sources='bbb')})


def test_a_damaged_file_is_refused(tmp_path):
  (tmp_path / 'er_0_1.json').write_text('{"unit": 1}')
  with pytest.raises(errors.WorkdirError, match='er_0_1.json is no file of'):
    result_files.read(tmp_path, {UNIT: _expected()})


def test_a_divergence_is_final_and_another_failure_is_not(tmp_path):
  diverged = _write(tmp_path, status='failed', error='DivergedError')
  assert result_files.is_final(diverged)
  crashed = _write(tmp_path, status='failed', error='Killed')
  assert not result_files.is_final(crashed)
  # It is shown, and not in the way of another config.
  assert result_files.read(tmp_path, {UNIT: _expected()}) == {UNIT: crashed}
  assert result_files.read(tmp_path, {UNIT: _expected(60)}) == {}

"""Which values of a config the results of a unit depend on."""

import json

import pytest

from sleep_jax.compare import settings, units
from tests import tiny_study

UNIT = units.Unit('er', 0, 0)


def _key(**data):
  config = tiny_study.config()
  config.data.update(data)
  plain = json.loads(config.to_json_best_effort())
  digest = settings.data_digest(plain)
  return settings.key(settings.dependent(plain, UNIT, tuned=False, data=digest))


@pytest.mark.parametrize(
  'data', [{'extra_days': 'days/*.jsonl'}, {'too_long': 'skip'}]
)
def test_results_depend_on_which_rows_are_read(data):
  assert _key(**data) != _key()


def test_results_depend_on_the_data_and_not_on_where_it_is(tmp_path):
  keys = {}
  for name, text in (('one', 'a'), ('same', 'a'), ('other', 'b')):
    folder = tmp_path / name
    (folder / 'days').mkdir(parents=True)
    file = folder / 'days' / '1.jsonl'
    file.write_text(text)
    keys[name] = _key(path=str(folder))
    assert _key(path=str(file)) not in (keys[name], _key())
  assert keys['one'] == keys['same'] != keys['other']
  pattern = str(tmp_path / 'one' / 'days' / '*.jsonl')
  file = str(tmp_path / 'same' / 'days' / '1.jsonl')
  assert _key(path=pattern) == _key(path=file)
  # Nothing can be read there, which the first job says.
  assert _key(path=str(tmp_path / 'nowhere')) == _key()

"""A run that gets more expert slots answers and learns as before."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.interop import open_model
from sleep_jax.runs import growth
from sleep_jax.storage import checkpoint_reading
from tests import testing, tiny_study
from tests.runs import changed_days_study_test as days_lib

one_device = tiny_study.one_device
SLOTS, MORE = 4, 8
BANK = 'blocks/levels/2/experts/'


def _config(folder, slots=SLOTS):
  c = days_lib.config(folder)
  fast, slow = testing.levels((1, 'experience'))
  c.levels = fast, slow | dict(slots=slots)
  return c


def _progress(folder):
  saved = folder / 'seed_0/sleep/checkpoints'
  return checkpoint_reading.latest_progress(str(saved))


def _without_bank(weights):
  return {n: x for n, x in weights['params'].items() if BANK not in n}


def _logits(folder):
  loaded = open_model.open_model(str(folder))
  tokens_BT = np.arange(24).reshape(2, 12) + 5
  ones, places = np.ones_like(tokens_BT), np.tile(np.arange(12), (2, 1))
  return jax.device_get(
    loaded.model.forward(loaded.weights, tokens_BT, ones, places)
  )


def _write_days(folder, *numbers):
  for number in numbers:
    texts = [f'day {number} {word}' for word in ('red', 'blue', 'green')]
    days_lib.write(folder / f'day_{number}.jsonl', *texts)


@pytest.mark.usefixtures('one_device')
def test_a_grown_run_continues_like_an_unbroken_one_and_fills_new_slots(
  tmp_path,
):
  days, old, grown = (tmp_path / name for name in ('days', 'old', 'grown'))
  _write_days(days, 1, 2, 3)
  days_lib.run(_config(days), old)
  growth.grow(str(old), str(grown), {2: MORE})
  assert testing.same(_logits(old), _logits(grown))
  assert _progress(old) | {'config': 0} == _progress(grown) | {'config': 0}

  _write_days(days, 4)
  for folder, slots in ((old, SLOTS), (grown, MORE)):
    _, said = days_lib.run(_config(days, slots), folder)
    # The three days of before are not learned again.
    assert 'sleep: continues from cycle 3' in '\n'.join(said)
  one, other = map(days_lib.weights, (old, grown))
  assert testing.same(*map(_without_bank, (one, other)))
  for name, bank in one['params'].items():
    if BANK in name:
      assert testing.same(bank, other['params'][name][:, :SLOTS])
  assert other['active_NE'].tolist()[1] == [1] * SLOTS + [0] * (MORE - SLOTS)
  assert testing.same(_logits(old), _logits(grown))
  rows = [tiny_study.metric_rows(x / 'seed_0/sleep') for x in (old, grown)]
  assert rows[0] == rows[1]

  _write_days(days, 5)
  with pytest.raises(errors.ConfigError, match='has 4 slots, but 5 nights'):
    days_lib.run(_config(days), old)
  days_lib.run_until(_config(days, MORE), grown, 'night')
  with pytest.raises(errors.UsageError, match='in the middle of a night'):
    growth.grow(str(grown), str(tmp_path / 'more'), {2: 9})
  days_lib.run(_config(days, MORE), grown)
  assert _progress(grown)['ledger'][-1]['slot'] == SLOTS
  active = days_lib.weights(grown)['active_NE'].tolist()
  assert active[1] == [1] * 5 + [0] * 3
  about = json.loads((grown / 'about.json').read_text())
  assert f'grown from {old}' in about['accepted']
  assert 'config.levels[1].slots: 4 there, 8 now' in about['accepted']
  assert sorted(x.name for x in tmp_path.iterdir()) == ['days', 'grown', 'old']


def _workdir(folder):
  """Writes what `grow` reads before anything else."""
  c = json.loads(_config(folder / 'days').to_json_best_effort())
  (folder / 'seed_0/sleep/checkpoints').mkdir(parents=True)
  (folder / 'config.json').write_text(json.dumps(c))
  return folder


@pytest.mark.parametrize(
  'slots, message',
  [
    ({2: 3}, 'level 2 has 4 slots, and a bank can only grow'),
    ({2: 4}, 'level 2 has 4 slots, and a bank can only grow'),
    ({3: 9}, 'there is no level 3; the levels are 1 to 2'),
    ({0: 9}, 'there is no level 0'),
    ({1: 9}, 'level 1 has no bank'),
  ],
)
def test_slots_that_cannot_be_are_refused_and_nothing_is_written(
  tmp_path, slots, message
):
  old = _workdir(tmp_path / 'old')
  before = sorted(tmp_path.rglob('*'))
  with pytest.raises(errors.UsageError, match=message):
    growth.grow(str(old), str(tmp_path / 'new'), slots)
  assert sorted(tmp_path.rglob('*')) == before


def test_folders_that_cannot_be_are_refused(tmp_path):
  old = _workdir(tmp_path / 'old')
  grow = functools.partial(growth.grow, slots={2: MORE})
  with pytest.raises(errors.ExistsError, match='is not empty'):
    grow(str(old), str(old))
  with pytest.raises(errors.MissingFileError, match='no work directory of a'):
    grow(str(tmp_path / 'nowhere'), str(tmp_path / 'new'))
  config = json.loads((old / 'config.json').read_text())
  config['pretrain']['restore'] = 'elsewhere'
  (old / 'config.json').write_text(json.dumps(config))
  with pytest.raises(errors.UsageError, match='initial model in elsewhere'):
    grow(str(old), str(tmp_path / 'new'))
  shutil.rmtree(old / 'seed_0')
  with pytest.raises(errors.MissingFileError, match='no work directory of a'):
    grow(str(old), str(tmp_path / 'new'))


@pytest.mark.parametrize('words', [[], ['2'], ['2:x'], ['2:3', '2:4'], ['']])
def test_words_that_are_no_slots_are_refused(words):
  with pytest.raises(errors.UsageError, match='slots=2:10,3:12'):
    growth.parse_slots(words)


def test_slots_are_read_and_become_overrides():
  found = growth.parse_slots(['3:12', ' 2:10'])
  assert found == {2: 10, 3: 12}
  assert growth.overrides(found) == (
    '--config.levels[1].slots=10 --config.levels[2].slots=12'
  )

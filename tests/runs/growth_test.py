"""A run that gets more expert slots answers and learns as before."""

import functools
import json
import os
import shutil

import jax
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.config import files
from sleep_jax.interop import open_model
from sleep_jax.runs import (
  expert_history,
  grown_levels,
  growth,
  study,
  watching,
)
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
  other = old / 'seed_0/er/checkpoints'  # Of a run that is not named now.
  other.mkdir(parents=True)
  with pytest.raises(errors.UsageError, match='also has seed_0/er, which'):
    growth.grow(str(old), str(grown), {2: MORE})
  assert not grown.exists()
  shutil.rmtree(other.parent)
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
  for row in (*rows[0], *rows[1]):  # The number of slots decides it.
    row.get('cost', {}).pop('flops_per_token', None)
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


def test_the_days_of_a_watched_folder_are_found(tmp_path):
  days, home = tmp_path / 'days', tmp_path / 'home'
  _write_days(days, 1, 2)
  home.mkdir()
  assert watching.days(home) is None
  names = ['day_1.jsonl', 'gone.jsonl', 'day_2.jsonl']
  record = {'folder': str(days), 'files': names}
  (home / watching.FILE).write_text(json.dumps(record))
  assert watching.days(home) == [
    str(days / 'day_1.jsonl'), str(days / 'day_2.jsonl')
  ]  # fmt: skip


@pytest.mark.usefixtures('one_device')
def test_a_watched_run_grows(tmp_path):
  days, old, grown = (tmp_path / name for name in ('days', 'old', 'grown'))
  _write_days(days, 1)
  config = _config('')  # The folder is an argument of the command.
  learn = lambda files: study.Study(config, old, days=files).run()
  os.utime(days / 'day_1.jsonl', (0, 0))
  watch = watching.Watch(str(days), old / watching.FILE, learn, lambda x: None)
  assert watch.run(0, lambda: False) == 1
  growth.grow(str(old), str(grown), {2: MORE})
  assert testing.same(_logits(old), _logits(grown))
  assert watching.days(grown) == [str(days / 'day_1.jsonl')]


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
  with pytest.raises(errors.UsageError, match='grow needs --slots'):
    growth.grow(str(old), str(tmp_path / 'new'), {})
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


@pytest.mark.usefixtures('one_device')
def test_a_chain_with_a_new_level_continues_and_sleeps_into_it(tmp_path):
  days, old, grown = (tmp_path / name for name in ('days', 'old', 'grown'))
  _write_days(days, 1, 2)
  c = days_lib.config(days)
  c.levels = testing.levels((1, 'experience'), ('infinite', '2 days'))
  days_lib.run(c, old)
  with pytest.raises(errors.UsageError, match='name a larger number of days'):
    growth.grow(str(old), str(grown), {}, (3, 2, 2))
  with pytest.raises(errors.ConfigError, match='no multiple of the 2 days'):
    growth.grow(str(old), str(grown), {}, (3, 2, 3))
  growth.grow(str(old), str(grown), {}, (3, 2, 4))
  assert testing.same(_logits(old), _logits(grown))

  _write_days(days, 3, 4)
  c = files.load(str(grown / growth.CONFIG_FILE))
  _, said = days_lib.run(c, grown)
  assert 'sleep: continues from cycle 2' in '\n'.join(said)
  nights = [(n['experience'], n['sender']) for n in _progress(grown)['nights']]
  assert nights == [(1, 1), (2, 1), (2, 2), (3, 1), (4, 1), (4, 2), (4, 3)]
  found = days_lib.weights(grown)
  assert found['active_NE'].sum(1).tolist() == [0, 0, 0, 1]
  assert np.abs(found['params']['blocks/levels/4/experts/B'][:, 0]).max() > 0
  holders = expert_history.holders(_progress(grown)['ledger'])
  assert holders == {(4, 0): [1, 2, 3, 4, 5, 6, 7]}


@pytest.mark.parametrize('words', [['2'], ['2:x'], ['2:3', '2:4'], ['']])
def test_words_that_are_no_slots_are_refused(words):
  with pytest.raises(errors.UsageError, match='slots=2:10,3:12'):
    grown_levels.parse_slots(words)


@pytest.mark.parametrize('words', [['4'], ['4', '2', '0'], ['4', 'x', '2']])
def test_words_that_are_no_level_are_refused(words):
  with pytest.raises(errors.UsageError, match='level=512,4,125'):
    grown_levels.parse_level(words)


def test_words_become_slots_and_a_level():
  assert grown_levels.parse_slots(['3:12', ' 2:10']) == {2: 10, 3: 12}
  assert grown_levels.parse_level(['512', '4', '125']) == (512, 4, 125)
  assert grown_levels.parse_level([]) is None


def test_the_slowest_level_keeps_what_is_said_of_a_full_bank(tmp_path):
  c = json.loads(_config(tmp_path).to_json_best_effort())
  c['levels'][0]['night'] = dict(num_updates=8, full='absorb')
  c['levels'][1]['night'] = dict(num_updates=5)
  fast, bank, slow = grown_levels.with_level(c, 3, 2, 4)['levels']
  assert fast['night'] == dict(num_updates=8, full='error')
  assert bank['night'] == dict(num_updates=8, full='absorb')
  assert slow['night'] == dict(num_updates=5)
  assert bank['beside'] and bank['slots'] == SLOTS and slow['slots'] == 2
  c['model']['arrangement'] = 'depth'
  with pytest.raises(errors.UsageError, match='arrangement'):
    grown_levels.with_level(c, 3, 2, 4)


def test_the_config_file_defines_the_config(tmp_path):
  c = _config(tmp_path)
  plain = json.loads(c.to_json_best_effort())
  file = tmp_path / 'config.py'
  file.write_text(grown_levels.config_file(plain))
  found = files.load(str(file))
  assert json.loads(found.to_json_best_effort()) == plain
  assert isinstance(found.levels, tuple)

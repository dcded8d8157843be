"""A comparison is run, continued and refused; jobs are small scripts."""

import json
import sys

import pytest

from sleep_jax import errors
from sleep_jax.compare import machine, pool, runner, units
from tests import tiny_study

# Stands for `compare.job`: counts its calls, and ends as its strategy does.
_SCRIPT = """
import json, os, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
strategy, seed = job['config']['strategies'][0], job['config']['seeds'][0]
with open(os.environ['CALLS'], 'a') as file:
  file.write(json.dumps([job['kind'], strategy, seed,
                         job['config']['data'].get('order', 0)]) + '\\n')
out = {'status': 'finished', 'runs': [], 'peak_bytes': 1}
if job['kind'] == 'check':
  out['reasons'] = {'seal': 'there are no tasks'}
if job['kind'] == 'tune':
  chosen = pathlib.Path(job['folder']) / f'tuning/{strategy}/chosen.json'
  chosen.parent.mkdir(parents=True)
  chosen.write_text('{}')
if job['kind'] == 'unit':
  if strategy == 'er' and seed == 1:
    out |= {'status': 'failed', 'error': 'DivergedError', 'reason': 'nan'}
  if strategy == 'hope':
    os.kill(os.getpid(), 9)
  assert all(os.path.exists(source) for source, _ in job['copies'])
  assert bool(job['copies']) == (strategy in ('sft', 'er'))
pathlib.Path(job['out']).write_text(json.dumps(out))
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
  file = tmp_path / 'calls'
  file.touch()
  monkeypatch.setenv('CALLS', str(file))
  return lambda: [json.loads(row) for row in file.read_text().splitlines()]


def _plain(**changes):
  config = tiny_study.config()
  config.strategies = ('sleep', 'sft', 'er', 'hope', 'seal')
  config.seeds = (0, 1)
  config.tune.learning_rates = (1e-3, 1e-2)
  config.compare.orders = (0,)
  config.update(changes)
  return json.loads(config.to_json_best_effort())


def _open(tmp_path, plain, script=_SCRIPT):
  return runner.Comparison(
    plain, tmp_path / 'work', say=lambda line: None,
    command=(sys.executable, '-c', script),
  )  # fmt: skip


def _run(made, chosen=''):
  slots = [machine.Slot('a'), machine.Slot('b')]
  make = lambda **options: pool.Pool(slots, **{**options, 'peak': 1})
  return made.run(units.select(made.units, chosen), make)


def test_results_of_other_data_are_refused(tmp_path, calls):
  file = tmp_path / 'day.jsonl'
  file.write_text('{"text": "Ada sings."}')
  plain = _plain(strategies=('sleep',))
  plain['data']['path'] = str(file)
  made = _open(tmp_path, plain)
  assert _run(made)
  assert len(_open(tmp_path, plain).results) == 2
  file.write_text('{"text": "Ada swims."}')
  with pytest.raises(errors.WorkdirError, match='data.files: .* there, .* now'):
    _open(tmp_path, plain)


def test_failing_units_are_listed_and_the_others_complete(tmp_path, calls):
  made = _open(tmp_path, _plain())
  assert _run(made)
  statuses = {unit.name: r['status'] for unit, r in made.results.items()}
  assert len(statuses) == 10
  failed = {name for name, status in statuses.items() if status == 'failed'}
  assert failed == {'er:1:0', 'hope:0:0', 'hope:1:0'}
  skipped = {name for name, status in statuses.items() if status == 'skipped'}
  assert skipped == {'seal:0:0', 'seal:1:0'}
  kinds = [(kind, strategy) for kind, strategy, *_ in calls()]
  # One initial model per seed, one rate for all units of a strategy.
  assert [kind for kind, _ in kinds].count('initial') == 2
  assert kinds.count(('tune', 'sft')) == kinds.count(('tune', 'er')) == 1


def test_no_unit_runs_and_none_has_a_result_if_the_check_fails(tmp_path, calls):
  failed = (
    "out |= {'status': 'failed', 'error': 'DataError', 'reason': 'row 3'}"
  )
  script = _SCRIPT.replace("out['reasons'] = {'seal': 'there are no tasks'}",
                           failed)  # fmt: skip
  made = _open(tmp_path, _plain(), script)
  with pytest.raises(errors.UsageError, match=r'No unit was run: row 3 \(Data'):
    _run(made)
  assert not made.results and [kind for kind, *_ in calls()] == ['check']
  # With the data repaired, the same command runs them.
  assert _run(_open(tmp_path, _plain()))


def test_a_rerun_skips_what_is_finished_and_changes_nothing(tmp_path, calls):
  plain = _plain(strategies=('sleep', 'er', 'seal'))
  assert _run(_open(tmp_path, plain))
  files = lambda: {
    path.name: (path.read_bytes(), path.stat().st_mtime_ns)
    for path in (tmp_path / 'work' / 'results').iterdir()
  }
  before, num = files(), len(calls())
  assert b'DivergedError' in before['er_1_0.json'][0]
  again = _open(tmp_path, plain)
  assert _run(again) and files() == before and len(calls()) == num


def test_a_crash_is_tried_again(tmp_path, calls):
  plain = _plain(strategies=('sleep', 'hope'), seeds=(0,))
  for _ in range(2):
    assert _run(_open(tmp_path, plain))
  assert [kind for kind, strategy, *_ in calls()
          if (kind, strategy) == ('unit', 'hope')] == ['unit'] * 2  # fmt: skip


def test_more_seeds_and_orders_add_units_and_keep_the_others(tmp_path, calls):
  assert _run(_open(tmp_path, _plain(strategies=('sleep',), seeds=(0,))))
  num = len(calls())
  plain = _plain(strategies=('sleep',), seeds=(0, 3))
  plain['compare']['orders'] = [0, 1]
  made = _open(tmp_path, plain)
  assert len(made.results) == 1
  assert _run(made)
  ran = [call for call in calls()[num:] if call[0] == 'unit']
  assert sorted(ran) == [
    ['unit', 'sleep', 0, 1], ['unit', 'sleep', 3, 0], ['unit', 'sleep', 3, 1]
  ]  # fmt: skip


def test_a_result_of_another_config_is_refused_before_anything_runs(
  tmp_path, calls
):
  assert _run(_open(tmp_path, _plain(strategies=('sleep',), seeds=(0,))))
  changed = _plain(strategies=('sleep',), seeds=(0,))
  changed['wake']['steps'] += 1
  num = len(calls())
  with pytest.raises(errors.WorkdirError, match='sleep_0_0.json is of another'):
    _open(tmp_path, changed)
  assert len(calls()) == num


def test_only_the_units_that_are_named_run(tmp_path, calls):
  assert _run(_open(tmp_path, _plain()), 'sft:1:0')
  assert sorted(calls(), key=str) == sorted(
    [['check', 'sleep', 1, 0], ['initial', 'sft', 0, 0],
     ['initial', 'sft', 1, 0], ['tune', 'sft', 0, 0], ['unit', 'sft', 1, 0]],
    key=str,
  )  # fmt: skip


def test_repeated_seeds_are_refused(tmp_path):
  with pytest.raises(errors.ConfigError, match=r'config.seeds is \(0, 0\)'):
    _open(tmp_path, _plain(seeds=(0, 0)))

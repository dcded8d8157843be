"""A study runs each strategy to a row of its summary, or says what is wrong."""

import errno
import functools
import json
import pathlib
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from configs import jsonl
from sleep_jax.evaluate import retention
from sleep_jax.learner import programs
from sleep_jax.runs import context, run_factory, study
from sleep_jax.storage import checkpoints, metric_backends, metric_writer
from tests import bucket as bucket_lib
from tests import testing, tiny_study

ALL = ('sleep', 'hope', 'sft', 'er', 'joint')
KEYS = {
  'seed', 'prior_initial', 'prior', 'acc', 'la', 'bwt', 'fwt', 'forgetting',
  'harm_of_sleep', 'cost_to_new', 'damage_awake', 'seconds', 'cpu_seconds',
  'tokens_read', 'tokens_generated', 'added_parameters', 'stored_bytes',
}  # fmt: skip
SCORES = ('prior_initial', 'prior', 'acc', 'la', 'bwt', 'fwt', 'forgetting')


def _config(**changes):
  c = tiny_study.config()
  c.update(changes)
  return c


def _summary(folder):
  return json.loads((folder / 'summary.json').read_text())['strategies']


pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
bucket = bucket_lib.bucket


@pytest.fixture
def finished(tmp_path_factory, one_device):
  """The work directory of all strategies; to be read, or copied."""
  return tiny_study.finished_study(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(finished, tmp_path):
  return pathlib.Path(shutil.copytree(finished, tmp_path / 'copied'))


@functools.cache
def _records(folder):
  """Strategy -> record of a finished study."""
  runs = study.Study(_config(strategies=ALL), folder).run()
  return {run['strategy']: run for run in runs}


def test_every_strategy_gives_a_whole_row(finished):
  rows = _summary(finished)
  assert set(rows) == {*ALL, 'joint_wake', 'joint_night'}
  for name, (row,) in rows.items():
    assert KEYS <= set(row), name
    known = SCORES if 'joint' not in name else ('prior_initial', 'prior', 'acc')
    assert all(0 <= abs(row[key]) <= 1 for key in known), name
    assert row['seconds'] > 0 and row['cpu_seconds'] > 0, name
  assert rows['joint'][0] in (*rows['joint_wake'], *rows['joint_night'])
  born = {row[0]['prior_initial'] for row in rows.values()}
  assert len(born) == 1  # One birth for all.


def test_every_strategy_spends_what_its_definition_says(finished):
  rows = {name: row for name, (row,) in _summary(finished).items()}
  awake, asleep = 2 * 4, 2 * 4
  steps = {name: row['steps'] for name, row in rows.items()}
  assert steps['hope'] == steps['sft'] == steps['er'] == awake
  assert steps['sleep'] == steps['joint_night'] == awake + asleep
  assert steps['joint_wake'] == awake
  read = {name: row['tokens_read'] for name, row in rows.items()}
  assert read['hope'] == read['sft'] < read['er'] <= read['sft'] + 8 * 8 * 14
  generates = [n for n, row in rows.items() if row['tokens_generated']]
  grows = [n for n, row in rows.items() if row['added_parameters']]
  stores = {n for n, row in rows.items() if row['stored_bytes']}
  assert generates == grows == ['sleep']
  assert stores == {'sleep', 'er'}


def test_birth_is_asked_what_it_can_be_asked(finished):
  rows = metric_writer.read(finished / 'seed_0/pretrain/metrics.jsonl')
  asked = [row for row in rows if row['kind'] == 'evaluation']
  steps = tiny_study.config().pretrain.steps
  assert asked[-1]['step'] == steps
  assert len(asked) == len({row['step'] for row in asked}) == min(steps, 10)
  nats = [row['held_out_loss'] for row in asked]
  assert nats[-1] < nats[0] < 2 * np.log(tiny_study.config().tokenizer.vocab_size)


def test_only_sleep_sleeps(finished):
  for name, run in _records(finished).items():
    moments = [e['moment'] for e in run['evaluations']]
    if name == 'sleep':
      assert moments == ['initial', *2 * ['evening', 'morning']]
      assert len(run['nights']) == len(run['ledger']) == 2
    else:
      assert set(moments) == {'initial', 'evening'}
      assert run['nights'] == run['ledger'] == run['samples'] == []


def test_the_folder_says_where_its_numbers_come_from(finished):
  folder = finished
  config = json.loads((folder / 'config.json').read_text())
  assert config['data']['settings']['num_pretrain'] == 8
  about = json.loads((folder / 'about.json').read_text())
  assert {'command', 'seeds', 'revision', 'versions'} <= set(about)
  page = (folder / 'report.html').read_text()
  assert about['versions'] in page and 'joint_night' in page
  for name in ('sleep', 'joint_wake'):
    rows = metric_writer.read(folder / 'seed_0' / name / 'metrics.jsonl')
    events = [row['event'] for row in rows]
    assert events == list(range(1, len(rows) + 1))


def test_a_finished_study_run_again_computes_nothing_and_says_the_same(
  finished, monkeypatch
):
  folder = finished
  before = (folder / 'summary.json').read_bytes()
  monkeypatch.setattr(programs.Programs, 'wake', None)
  runs = study.Study(_config(strategies=ALL), folder).run()
  assert (folder / 'summary.json').read_bytes() == before
  assert 'joint_night' in [run['strategy'] for run in runs]


def _end(folder, name='sleep'):
  """Everything a life leaves behind that no clock has touched."""
  rows = tiny_study.metric_rows(folder / 'seed_0' / name)
  (row,) = _summary(folder)[name]
  return rows, tiny_study.without_times(row)


def test_going_back_to_a_cycle_leads_to_the_same_end(finished, copied):
  """Also when it is broken off on the way, and goes on without going back."""
  config = _config(strategies=('sleep', 'hope'))
  lived = []

  def wake(self, *args, step=programs.Programs.wake):
    lived.append(self.strategy.name)
    return step(self, *args)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(programs.Programs, 'wake', wake)
    looks = iter(range(99))
    stop = lambda: next(looks) == 5  # In the night.
    with pytest.raises(context.Interrupted):
      study.Study(config, copied, stop=stop, restore_cycle=1).run()
    study.Study(config, copied).run()
  assert lived == ['sleep'] * 4 + ['hope'] * 4  # One experience each.
  for name in ('sleep', 'hope'):
    assert _end(copied, name) == _end(finished, name)
  with pytest.raises(FileNotFoundError, match='=7: no run .* than cycle 2'):
    study.Study(config, copied, restore_cycle=7).run()
  assert _end(copied) == _end(finished)


@pytest.mark.filterwarnings('ignore')  # Orbax abandons its other writers.
def test_a_disk_that_fills_up_costs_nothing_earlier(finished, copied):
  async def fill_up(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ocp.type_handlers.ArrayHandler, 'serialize', fill_up)
    with pytest.raises(OSError, match='The disk is full'):
      study.Study(_config(), copied, restore_cycle=1).run()
  cycles = copied / 'seed_0/sleep/checkpoints/cycles'
  assert (cycles / 'cycle_1').exists() and not (cycles / 'cycle_2').exists()
  study.Study(_config(), copied).run()
  assert _end(copied) == _end(finished)


def test_rates_are_chosen_on_days_that_nobody_is_measured_on(
  tmp_path, monkeypatch
):
  config = _config(strategies=('sft',))
  config.tune.update(learning_rates=(1e-3, 1e-2, 1e-1), experiences=9)
  tried, open_run = [], run_factory.RunFactory.open_run

  def watch(self, strategy, made, folder, **how):
    if strategy.name == 'sft':
      tried.append((how['rate'], how.get('num_experiences'), made.stream))
    return open_run(self, strategy, made, folder, **how)

  acc = {1e-3: 0.2, 1e-2: 0.9, 1e-1: 0.4}
  summarize = retention.summarize

  def scripted(evaluations, cost=None):
    made = summarize(evaluations, cost)
    return made | {'acc': acc[tried[-1][0]]} if tried else made

  monkeypatch.setattr(run_factory.RunFactory, 'open_run', watch)
  monkeypatch.setattr(retention, 'summarize', scripted)
  study.Study(config, tmp_path).run()
  assert [rate for rate, _, _ in tried] == [1e-3, 1e-2, 1e-1, 1e-2]
  # More experiences than there are cannot be lived.
  assert [num for _, num, _ in tried] == [2, 2, 2, None]
  trial, measured = tried[0][2], tried[-1][2]
  assert trial.dataset.pretrain == measured.dataset.pretrain
  people = lambda s: {r.text for _, rows in s.dataset.experiences for r in rows}
  assert not people(trial) & people(measured)
  assert _summary(tmp_path)['sft'][0]['learning_rate'] == 1e-2
  chosen = json.loads((tmp_path / 'tuning/sft/chosen.json').read_text())
  assert chosen['chosen'] == 1e-2


# A person's own days.


def _write(path, rows):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def _own(tmp_path, **changes):
  """Two days of text, one with prompts; the shapes are alike in all tests."""
  days = tmp_path / 'days'
  _write(days / 'monday.jsonl', [{'text': f'Tea at {n}.'} for n in range(9)])
  _write(
    days / 'tuesday.jsonl',
    [{'prompt': f'Bus {n}?', 'response': f'{n} pm'} for n in range(9)],
  )
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=24, max_prompt=12, path=str(days))
  c.tokenizer.update(kind='bytes')
  c.data.settings.update(changes)
  return c


def _pretrain_text(tmp_path):
  rows = [{'text': f'Day {n}.'} for n in range(40)]
  return _write(tmp_path / 'birth.jsonl', rows)


def test_own_days_need_neither_probes_nor_birth(tmp_path):
  config = _own(tmp_path)
  config.tokenizer.update(kind='bpe', vocab_size=258)
  runs = study.Study(config, tmp_path / 'run').run()
  row = _summary(tmp_path / 'run')['sleep'][0]
  assert KEYS <= set(row)
  assert all(row[key] is None for key in SCORES)
  assert np.isfinite(row['seconds'])
  assert (tmp_path / 'run' / 'report.html').exists()
  assert [run['strategy'] for run in runs] == ['sleep']
  # The words are those of the days, and nothing was read before them.
  pretrainings = metric_writer.read(
    tmp_path / 'run/seed_0/pretrain/metrics.jsonl'
  )
  assert pretrainings == []


def test_own_questions_and_own_birth_are_asked_and_restored(tmp_path):
  probes = _write(
    tmp_path / 'probes.jsonl',
    [
      {'prompt': 'Bus 3?', 'answer': '3 pm', 'experience': 'tuesday'},
      {'prompt': 'Tea at', 'answer': '1.', 'experience': 'monday'},
      {'prompt': 'Day', 'answer': '1.', 'experience': 'pretrain'},
    ],
  )
  config = _own(tmp_path, probes=probes, pretrain=_pretrain_text(tmp_path))
  (run,) = study.Study(config, tmp_path / 'run').run()
  row = _summary(tmp_path / 'run')['sleep'][0]
  assert all(row[key] is not None for key in SCORES)
  first, last = run['evaluations'][0], run['evaluations'][-1]
  assert set(first['scores']) == {'pretrain', '1', '2'}
  assert first['held_out_loss'] > 0 and first['kl_initial'] == 0
  assert last['kl_initial'] > 0

  # Other days from the same birth: its newborn, and its words.
  other = _own(tmp_path)
  other.strategies = ('hope',)
  other.pretrain.restore = str(tmp_path / 'run')
  other.tokenizer.update(kind='bpe', vocab_size=300)
  before = sorted(p for p in (tmp_path / 'run/seed_0/pretrain').rglob('*'))
  study.Study(other, tmp_path / 'other').run()
  assert sorted((tmp_path / 'run/seed_0/pretrain').rglob('*')) == before
  ours, theirs = (
    json.loads(
      (tmp_path / name / 'seed_0/tokenizer/tokenizer.json').read_text()
    )
    for name in ('other', 'run')
  )
  assert ours == theirs == {'kind': 'bytes'}


# What is wrong is said before anything is computed, and claims nothing.


def _refuse(config, folder, said, kind=ValueError, **how):
  with pytest.raises(kind, match=said):
    study.Study(config, folder, **how).run()


@pytest.mark.parametrize(
  ('changes', 'said'),
  [
    ({'data.dataset': 'fact'}, "config.data.dataset is 'fact': expected one"),
    ({'data.context': 9}, 'facts, .*: .* tokens.*context is 9: '),
    ({'model.num_kv_heads': 3}, 'num_heads 4 is not a multiple of'),
    ({'consolidate.updates_per_round': 3}, 'updates 4 is not a multiple of'),
    ({'consolidate.sender_after_sleep': 'gone'}, "'cleared', 'updated'"),
    ({'strategies': ('sleep', 'slept')}, "'slept': expected one of"),
    ({'writers': ('paper',)}, "writers has 'paper': expected .*'wandb'"),
    ({'levels': testing.levels((2, 3))}, 'is not a multiple of its'),
    ({'levels': testing.levels((1, 1))}, 'level 2 has 4 slots, but 8'),
  ],
)
def test_a_config_that_cannot_be_is_refused_and_claims_nothing(
  tmp_path, changes, said
):
  config = _config()
  config.update_from_flattened_dict(changes)
  _refuse(config, tmp_path, said)
  assert {p.name for p in tmp_path.iterdir()} <= {'tokens'}
  study.Study(_config(), tmp_path)  # The folder is still anybody's.


@pytest.mark.parametrize(
  ('mesh', 'changes', 'said'),
  [
    (
      {},
      {'data.batch_size': 6},
      'of 8 devices .* of 6 in .batch.*a mesh',
    ),
    ({'fsdp': 3}, {}, 'fsdp=3 .* needs .* devices, but there are 8'),
    (
      {'tensor': 8},
      {'model.num_kv_heads': 1},
      'axis tensor of 8 devices does not divide a dimension of 4 in .*key',
    ),
  ],
)
def test_a_mesh_that_does_not_divide_is_refused(
  tmp_path, monkeypatch, mesh, changes, said
):
  monkeypatch.undo()  # All devices.
  config = _config()
  config.mesh.update(mesh)
  config.update_from_flattened_dict(changes)
  _refuse(config, tmp_path, said)


@pytest.mark.parametrize(
  ('name', 'rows', 'said'),
  [
    (
      'days/monday.jsonl',
      '{"text": "Tea."}\n{"text": ',
      r'monday.jsonl:2: not valid J',
    ),
    ('days/monday.jsonl', '', 'monday.jsonl holds no rows'),
    (
      'days/monday.jsonl',
      '{"txt": "Tea."}',
      r'monday.jsonl:1: .*expected "tex',
    ),
    ('probes.jsonl', '{"prompt": "Tea"}', "probes.jsonl:1: no field 'answer'"),
    ('probes.jsonl', 'Tea?', 'probes.jsonl:1: not valid JSON'),
    (
      'days/monday.jsonl',
      '{"text": "Tea at four, and cake, and then a walk in the park."}',
      r'monday.jsonl:1: the text has \d+ tokens .* context is 24: split',
    ),
  ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(
  tmp_path, name, rows, said
):
  config = _own(tmp_path)
  if name == 'probes.jsonl':
    config.data.settings.probes = str(tmp_path / name)
  (tmp_path / name).write_text(rows)
  _refuse(config, tmp_path / 'run', said)


@pytest.mark.parametrize('dataset', ['jsonl', 'intents'])
def test_a_missing_path_is_asked_for_in_words(tmp_path, dataset):
  config = _own(tmp_path)
  config.data.update(dataset=dataset, path='')
  config.data.settings = {}
  _refuse(config, tmp_path, '--config.data.path=')


def test_what_own_days_cannot_give_is_said(tmp_path):
  config = _own(tmp_path)
  config.guard.on = True
  _refuse(config, tmp_path / 'run', 'no probes for a guard')
  config.guard.on = False
  config.strategies = ('sleep', 'sft')
  config.tune.learning_rates = (1e-3, 1e-2)
  _refuse(config, tmp_path / 'run', 'sft is tuned on a second stream')


def test_a_newborn_that_does_not_fit_is_refused(finished, tmp_path):
  config = _config()
  config.pretrain.restore = str(tmp_path / 'nowhere')
  said = 'tokenizer.json does not exist'
  _refuse(config, tmp_path / 'a', said, FileNotFoundError)
  config.pretrain.restore = str(finished)
  config.replay.pretrain = 24
  said = 'does not fit:\n  config.replay.pretrain: 16 there, 24 now'
  _refuse(config, tmp_path / 'b', said)


def test_a_folder_of_another_config_is_left_as_it_is(finished):
  folder = finished
  before = (folder / 'config.json').read_bytes()
  config = _config()
  config.wake.steps = 5
  _refuse(config, folder, 'config.wake.steps: 4 there, 5 now')
  assert (folder / 'config.json').read_bytes() == before


def test_a_study_in_a_bucket_writes_what_it_would_on_disk(
  bucket, finished, tmp_path, monkeypatch
):
  """All but checkpoints, which Orbax and TensorStore bring to a bucket."""
  opened = checkpoints.Checkpoints.__init__

  @functools.wraps(opened)
  def open_on_disk(self, folder, **how):
    opened(self, str(tmp_path / folder.removeprefix('gs://')), **how)

  saved, counts = checkpoints.Checkpoints.save_cycle, []

  def save_cycle(self, cycle, state, progress):
    log = f'gs://mine/run/seed_0/{self.folder.parent.name}/metrics.jsonl'
    counts.append((len(metric_writer.read(log)), progress['rows']))
    saved(self, cycle, state, progress)

  monkeypatch.setattr(checkpoints.Checkpoints, '__init__', open_on_disk)
  monkeypatch.setattr(checkpoints.Checkpoints, 'save_cycle', save_cycle)
  monkeypatch.setattr(metric_backends, '_REWRITE_SECONDS', 1e9)
  study.Study(_config(), 'gs://mine/run').run()
  # Or a life that goes on would have lost rows that it counts on.
  assert counts and all(there == counted for there, counted in counts)
  names = {name.removeprefix('/mine/run/') for name in bucket}
  assert names == {
    'config.json', 'about.json', 'summary.json', 'report.html',
    'seed_0/tokenizer/tokenizer.json', 'seed_0/pretrain/metrics.jsonl',
    'seed_0/sleep/metrics.jsonl',
  }  # fmt: skip
  place = 'seed_0/sleep/metrics.jsonl'
  ours = metric_writer.read(f'gs://mine/run/{place}')
  assert _untimed(ours) == _untimed(metric_writer.read(finished / place))


def _untimed(rows):
  clock = ('seconds', 'cpu_seconds')
  return [{k: v for k, v in row.items() if k not in clock} for row in rows]

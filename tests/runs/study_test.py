"""A study of all strategies: its results, resuming, tuning, and a bucket."""

import errno
import functools
import json
import pathlib
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from sleep_jax.evaluate import retention
from sleep_jax.learner import programs
from sleep_jax.runs import context, run_factory, study
from sleep_jax.storage import checkpoints, metric_backends, metric_writer
from tests import bucket as bucket_lib
from tests import tiny_study

ALL = (
  'sleep', 'hope', 'sft', 'er', 'joint', 'lora', 'ewc', 'agem', 'lwf',
  'anchor_kl', 'projected', 'merge', 'olora', 'sparse', 'icl', 'rag', 'sdft',
  'opsd', 'grpo', 'refresh', 'rollback', 'cartridge', 'protoada',
)  # fmt: skip

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
bucket = bucket_lib.bucket


def _config(**changes):
  c = tiny_study.config()
  c.update(changes)
  return c


def _summary(folder):
  """Returns the rows of summary.json: strategy -> one row per seed."""
  return json.loads((folder / 'summary.json').read_text())['strategies']


@pytest.fixture
def finished(tmp_path_factory, one_device):
  """Returns the work directory of all strategies; tests must not change it."""
  return tiny_study.finished_study(tmp_path_factory.getbasetemp())


@pytest.fixture
def copied(finished, tmp_path):
  """Returns a copy of the work directory, which a test may change."""
  return pathlib.Path(shutil.copytree(finished, tmp_path / 'copied'))


@functools.cache
def _records(folder):
  """Returns the records of a finished study by strategy."""
  runs = study.Study(_config(strategies=ALL), folder).run()
  return {run['strategy']: run for run in runs}


def test_every_strategy_has_all_results(finished):
  rows = _summary(finished)
  assert set(rows) == {*ALL, 'joint_wake', 'joint_night'}
  for name, (row,) in rows.items():
    assert tiny_study.SUMMARY_KEYS <= set(row), name
    scores = tiny_study.SCORES
    if 'joint' in name:
      scores = ('prior_initial', 'prior', 'acc')
    assert all(0 <= abs(row[key]) <= 1 for key in scores), name
    learns = name not in ('icl', 'rag')
    assert (row['seconds'] > 0) == (row['cpu_seconds'] > 0) == learns, name
  assert rows['joint'][0] in (*rows['joint_wake'], *rows['joint_night'])
  # All strategies start from one initial model.
  assert len({row[0]['prior_initial'] for row in rows.values()}) == 1


def test_every_strategy_has_the_cost_of_its_definition(finished):
  rows = {name: row for name, (row,) in _summary(finished).items()}
  awake, asleep = 2 * 4, 2 * 4
  steps = {name: row['steps'] for name, row in rows.items()}
  assert steps['hope'] == steps['sft'] == steps['er'] == awake
  assert steps['sleep'] == steps['joint_night'] == awake + asleep
  assert steps['joint_wake'] == awake
  read = {name: row['tokens_read'] for name, row in rows.items()}
  assert read['hope'] == read['sft'] < read['er'] <= read['sft'] + 8 * 8 * 14
  # Their reviews, stored rows or penalties read more; the adapters' do not.
  forward = {name: row['tokens_forward'] for name, row in rows.items()}
  backward = ('ewc', 'agem', 'anchor_kl')
  assert all(read[name] > read['sft'] for name in backward)
  reviewed = ('lwf', 'projected', 'sparse', 'protoada')
  assert all(forward[name] > 0 for name in (*reviewed, 'anchor_kl'))
  assert all(read[name] == read['sft'] for name in reviewed)
  more = (*backward, *reviewed)
  # They read answers of their own, without and with the row before them.
  answer = ('sdft', 'opsd')
  assert all(rows[name]['tokens_generated'] > 0 for name in answer)
  assert all(forward[name] > read[name] for name in answer)
  # It reads its answers once, with their prompts.
  assert read['grpo'] > rows['grpo']['tokens_generated'] > 0
  # It writes answers with the row before them, and reads them without.
  assert forward['cartridge'] > read['cartridge'] > 0
  assert rows['cartridge']['tokens_generated'] > 0
  assert read['merge'] == read['olora'] == read['lora'] == read['sft']
  assert all(
    steps[name] == awake for name in (*more, *answer, 'grpo', 'merge', 'olora')
  )
  # Two steps after each day.
  assert steps['refresh'] == awake + 2 * 2 and steps['rollback'] == awake
  assert steps['cartridge'] == steps['protoada'] == awake
  more += 'refresh', 'rollback'
  assert read['refresh'] > read['sft'] < read['rollback']
  generates = [n for n, row in rows.items() if row['tokens_generated']]
  grows = [n for n, row in rows.items() if row['added_parameters']]
  stores = {n for n, row in rows.items() if row['stored_bytes']}
  assert grows == ['sleep']
  assert set(generates) == {
    'sleep', 'anchor_kl', 'grpo', 'cartridge', *answer
  }  # fmt: skip
  assert stores == {
    'sleep', 'er', *more, *answer, 'merge', 'olora', 'icl', 'rag', 'cartridge',
  }  # fmt: skip
  # Experts that can never be added are not counted.
  per_token = {
    name: rows[name]['flops']
    / (3 * read[name] + rows[name]['tokens_generated'] + forward[name])
    for name in ('sleep', 'sft', 'er', 'opsd')
  }
  assert per_token['sft'] == per_token['er'] == per_token['opsd']
  assert per_token['sft'] < per_token['sleep']
  asks = {n for n, row in rows.items() if row['question_tokens']}
  assert asks == {'icl', 'rag'}


def test_pretraining_is_evaluated_on_held_out_text(finished):
  rows = metric_writer.read(finished / 'seed_0/pretrain/metrics.jsonl')
  evaluations = [row for row in rows if row['kind'] == 'evaluation']
  c = tiny_study.config()
  assert evaluations[-1]['step'] == c.pretrain.steps
  num_steps = len({row['step'] for row in evaluations})
  assert len(evaluations) == num_steps == min(c.pretrain.steps, 10)
  losses = [row['held_out_loss'] for row in evaluations]
  assert losses[-1] < losses[0] < 2 * np.log(c.tokenizer.vocab_size)


def test_only_the_sleep_strategy_has_nights(finished):
  for name, run in _records(finished).items():
    moments = [e['moment'] for e in run['evaluations']]
    if name == 'sleep':
      assert moments == ['initial', *2 * ['evening', 'morning']]
      assert len(run['nights']) == len(run['ledger']) == 2
    else:
      assert set(moments) == {'initial', 'evening'}
      assert run['nights'] == run['ledger'] == run['samples'] == []


def test_the_work_directory_has_config_provenance_report_and_metrics(finished):
  config = json.loads((finished / 'config.json').read_text())
  assert config['data']['settings']['num_pretrain'] == 8
  about = json.loads((finished / 'about.json').read_text())
  assert {'command', 'seeds', 'revision', 'versions'} <= set(about)
  page = (finished / 'report.html').read_text()
  assert about['versions'] in page and 'joint_night' in page
  for name in ('sleep', 'joint_wake'):
    rows = metric_writer.read(finished / 'seed_0' / name / 'metrics.jsonl')
    events = [row['event'] for row in rows]
    assert events == list(range(1, len(rows) + 1))


def test_running_a_finished_study_again_computes_nothing(finished, monkeypatch):
  before = (finished / 'summary.json').read_bytes()
  monkeypatch.setattr(programs.Programs, 'wake', None)
  runs = study.Study(_config(strategies=ALL), finished).run()
  assert (finished / 'summary.json').read_bytes() == before
  assert 'joint_night' in [run['strategy'] for run in runs]


def _results(folder, name='sleep'):
  """Returns metrics and summary row of a run, without measured times."""
  rows = tiny_study.metric_rows(folder / 'seed_0' / name)
  (row,) = _summary(folder)[name]
  return rows, tiny_study.without_times(row)


def test_restoring_a_cycle_gives_the_same_results(finished, copied):
  """Also if the run is interrupted, and continued without restoring again."""
  config = _config(strategies=('sleep', 'hope'))
  steps = []

  def wake(self, *args, step=programs.Programs.wake):
    steps.append(self.strategy.name)
    return step(self, *args)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(programs.Programs, 'wake', wake)
    stop_checks = iter(range(99))
    stop = lambda: next(stop_checks) == 5  # In the night.
    with pytest.raises(context.Interrupted):
      study.Study(config, copied, stop=stop, restore_cycle=1).run()
    study.Study(config, copied).run()
  assert steps == ['sleep'] * 4 + ['hope'] * 4  # One experience each.
  for name in ('sleep', 'hope'):
    assert _results(copied, name) == _results(finished, name)
  with pytest.raises(FileNotFoundError, match='=7: no run .* than cycle 2'):
    study.Study(config, copied, restore_cycle=7).run()
  assert _results(copied) == _results(finished)


@pytest.mark.filterwarnings('ignore')  # Orbax leaves other writes unfinished.
def test_a_full_disk_loses_no_earlier_cycle(finished, copied):
  async def raise_no_space(*_, **__):
    raise OSError(errno.ENOSPC, 'No space left on device')

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(ocp.type_handlers.ArrayHandler, 'serialize', raise_no_space)
    with pytest.raises(OSError, match='The disk is full'):
      study.Study(_config(), copied, restore_cycle=1).run()
  cycles = copied / 'seed_0/sleep/checkpoints/cycles'
  assert (cycles / 'cycle_1').exists() and not (cycles / 'cycle_2').exists()
  study.Study(_config(), copied).run()
  assert _results(copied) == _results(finished)


def test_learning_rates_are_tuned_on_a_stream_of_their_own(
  tmp_path, monkeypatch
):
  config = _config(strategies=('sft',))
  config.tune.update(learning_rates=(1e-3, 1e-2, 1e-1), experiences=9)
  opened, open_run = [], run_factory.RunFactory.open_run

  def record_open_run(self, strategy, inputs, folder, **options):
    if strategy.name == 'sft':
      opened.append(
        (options['rate'], options.get('num_experiences'), inputs.stream)
      )
    return open_run(self, strategy, inputs, folder, **options)

  accuracy = {1e-3: 0.2, 1e-2: 0.9, 1e-1: 0.4}
  summarize = retention.summarize

  def scripted_summary(evaluations, cost=None):
    summary = summarize(evaluations, cost)
    return summary | {'acc': accuracy[opened[-1][0]]} if opened else summary

  monkeypatch.setattr(run_factory.RunFactory, 'open_run', record_open_run)
  monkeypatch.setattr(retention, 'summarize', scripted_summary)
  study.Study(config, tmp_path).run()
  assert [rate for rate, _, _ in opened] == [1e-3, 1e-2, 1e-1, 1e-2]
  # config.tune.experiences is at most the number of experiences.
  assert [num for _, num, _ in opened] == [2, 2, 2, None]
  tuning, measured = opened[0][2], opened[-1][2]
  assert tuning.dataset.pretrain == measured.dataset.pretrain
  texts = lambda s: {r.text for _, rows in s.dataset.experiences for r in rows}
  assert not texts(tuning) & texts(measured)
  assert _summary(tmp_path)['sft'][0]['learning_rate'] == 1e-2
  chosen = json.loads((tmp_path / 'tuning/sft/chosen.json').read_text())
  assert chosen['chosen'] == 1e-2


def test_an_initial_model_that_is_missing_or_does_not_fit_is_refused(
  finished, tmp_path
):
  config = _config()
  config.pretrain.restore = str(tmp_path / 'nowhere')
  with pytest.raises(FileNotFoundError, match='tokenizer.json does not exist'):
    study.Study(config, tmp_path / 'a').run()
  config.pretrain.restore = str(finished)
  config.replay.pretrain = 24
  message = 'does not fit:\n  config.replay.pretrain: 16 there, 24 now'
  with pytest.raises(ValueError, match=message):
    study.Study(config, tmp_path / 'b').run()


def test_a_work_directory_of_another_config_is_not_changed(finished):
  before = (finished / 'config.json').read_bytes()
  config = _config()
  config.wake.steps = 5
  with pytest.raises(ValueError, match='config.wake.steps: 4 there, 5 now'):
    study.Study(config, finished).run()
  assert (finished / 'config.json').read_bytes() == before


def test_a_study_in_a_bucket_writes_the_same_files_as_on_disk(
  bucket, finished, tmp_path, monkeypatch
):
  """Except for checkpoints, which Orbax and TensorStore write to buckets."""
  opened = checkpoints.Checkpoints.__init__

  @functools.wraps(opened)
  def open_on_disk(self, folder, **options):
    opened(self, str(tmp_path / folder.removeprefix('gs://')), **options)

  save, counts = checkpoints.Checkpoints.save_cycle, []

  def record_save_cycle(self, cycle, state, progress):
    log = f'gs://mine/run/seed_0/{self.folder.parent.name}/metrics.jsonl'
    counts.append((len(metric_writer.read(log)), progress['rows']))
    save(self, cycle, state, progress)

  monkeypatch.setattr(checkpoints.Checkpoints, '__init__', open_on_disk)
  monkeypatch.setattr(checkpoints.Checkpoints, 'save_cycle', record_save_cycle)
  monkeypatch.setattr(metric_backends, '_REWRITE_SECONDS', 1e9)
  study.Study(_config(), 'gs://mine/run').run()
  # A checkpoint must not count rows of metrics that are not written yet: a run
  # that continues from it would miss them.
  assert counts and all(written == counted for written, counted in counts)
  names = {name.removeprefix('/mine/run/') for name in bucket}
  assert names == {
    'config.json', 'about.json', 'summary.json', 'report.html',
    'seed_0/tokenizer/tokenizer.json', 'seed_0/days.json',
    'seed_0/pretrain/metrics.jsonl',
    'seed_0/sleep/metrics.jsonl',
  }  # fmt: skip
  metrics = 'seed_0/sleep/metrics.jsonl'
  in_bucket = metric_writer.read(f'gs://mine/run/{metrics}')
  on_disk = metric_writer.read(finished / metrics)
  assert tiny_study.without_times(in_bucket) == tiny_study.without_times(
    on_disk
  )

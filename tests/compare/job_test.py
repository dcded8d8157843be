"""A unit in its process: its outcome, and what an interruption changes."""

import dataclasses
import json

import pytest

from sleep_jax.compare import job, kinds, settings
from sleep_jax.datasets import dataset, facts
from sleep_jax.runs import context, inputs, study
from tests import tiny_study

one_device = tiny_study.one_device


def _plain():
  config = tiny_study.config()
  config.strategies = ('sleep', 'seal')
  config.checkpoint.every_seconds = 0.0  # Every step and round is saved.
  config.compile_cache = 'off'
  return json.loads(config.to_json_best_effort())


def _job(folder, kind=kinds.UNIT, strategy='sleep', order=1):
  config = settings.of_study(_plain(), seed=0, strategy=strategy, order=order)
  return {'kind': kind, 'config': config, 'folder': str(folder)}


def _scores(outcome):
  return tiny_study.without_times(outcome)


def test_an_interrupted_unit_ends_with_the_scores_of_an_unbroken_one(
  one_device, tmp_path
):
  unbroken = job.work(_job(tmp_path / 'a'), lambda: False)
  assert [run['strategy'] for run in unbroken['runs']] == ['sleep']
  assert unbroken['runs'][0]['status'] == 'finished'
  calls = []

  def stop():
    calls.append(None)
    return len(calls) % 5 == 0

  for _ in range(40):
    try:
      resumed = job.work(_job(tmp_path / 'b'), stop)
      break
    except context.Interrupted:
      continue
  assert len(calls) > 10
  assert _scores(resumed) == _scores(unbroken)
  assert resumed['data'] == unbroken['data']


def test_the_order_changes_what_is_learned_when_and_not_what(
  one_device, tmp_path
):
  digests, names = {}, {}
  for order in (0, 2):
    folder = tmp_path / str(order)
    task = _job(folder, kinds.INITIAL, 'hope', order)
    task['config']['pretrain']['steps'] = 0
    made = job.work(task, lambda: False)
    assert made['runs'] == []  # Only the initial model is made.
    digests[order] = made['data']
    days = json.loads((folder / 'seed_0' / 'days.json').read_text())
    names[order] = [day['name'] for day in days[1:]]
  assert names[0] == ['day 1', 'day 2'] and names[2] == ['day 2', 'day 1']
  assert digests[0] == digests[2]


def test_the_digest_of_the_data_depends_on_texts_and_questions(
  one_device, tmp_path, monkeypatch
):
  monkeypatch.setattr(study.Study, 'run', lambda self, prepare_only: [])
  rows, asked = ['a text'], 'Where?'

  def read(config, folder, seed):
    made = facts.make(num_pretrain=4, num_days=1, people_per_day=1, values=4)
    probe = dataset.Probe(asked, ' here')
    return dataclasses.replace(made, probes={'1': [probe]})

  monkeypatch.setattr(inputs, 'read_dataset', read)

  def digest():
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    (folder / 'seed_0').mkdir(parents=True)
    records = [{'digest': row} for row in rows]
    (folder / 'seed_0' / 'days.json').write_text(json.dumps(records))
    return job.work(_job(folder, kinds.INITIAL), lambda: False)['data']

  first = digest()
  assert digest() == first
  rows = ['another text']
  assert digest() != first
  rows, asked = ['a text'], 'Who?'
  assert digest() != first


def test_strategies_that_do_not_apply_are_named(one_device, tmp_path):
  config = _plain()
  task = {'kind': kinds.CHECK, 'config': config, 'folder': str(tmp_path)}
  reasons = job.work(task, lambda: False)['reasons']
  assert list(reasons) == ['seal'] and 'nothing to dream' in reasons['seal']
  task['config'] = config | {'strategies': ['seal']}
  with pytest.raises(ValueError, match='nothing to dream'):
    job.work(task, lambda: False)


def test_a_failure_is_an_outcome_with_its_reason(
  one_device, tmp_path, monkeypatch
):
  task = _job(tmp_path / 'run') | {'out': str(tmp_path / 'out.json')}
  task['config']['wake']['steps'] = 0
  (tmp_path / 'job.json').write_text(json.dumps(task))
  assert job.main(str(tmp_path / 'job.json')) == 0
  outcome = json.loads((tmp_path / 'out.json').read_text())
  assert (outcome['status'], outcome['error']) == ('failed', 'ConfigError')
  assert 'wake.steps' in outcome['reason'] and outcome['peak_bytes'] > 2**20

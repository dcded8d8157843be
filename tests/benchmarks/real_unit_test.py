"""Units of the study of a pretrained model, on a tiny one of random weights."""

import dataclasses
import json

import pytest

import sleep_jax
from benchmarks.real_model import ability, facts, measuring, recall, unit
from configs import jsonl
from sleep_jax import errors
from tests import hf_files, tiny_study

pytestmark = pytest.mark.usefixtures('one_device', 'revision')
one_device = tiny_study.one_device

NUM_DAYS, NUM_FACTS = 2, 2
COSTS = {
  'cpu_seconds', 'seconds', 'compile_seconds', 'peak_bytes', 'interrupted',
  'first',
}  # fmt: skip


@pytest.fixture
def revision(monkeypatch):
  """Keeps the revision, whatever is committed while the tests run."""
  monkeypatch.setattr(unit.provenance, 'revision', lambda: 'one')


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  """Returns the folder of a tiny pretrained model."""
  folder = tmp_path_factory.mktemp('base') / 'model'
  folder.mkdir()
  days = facts.days(0, NUM_DAYS, NUM_FACTS)
  rows = [row['prompt'] + row['response'] for day in days for row in day.rows]
  end = hf_files.save_tokenizer(folder, rows * 4, size=420)
  hf_files.save(folder, 'qwen3', vocab_size=420, eos_token_id=end)
  return str(folder)


def _config():
  c = tiny_study.shrink(jsonl.get_config())
  c.data.update(context=64, max_prompt=48, loss_on='response')
  c.wake.steps = 2
  c.consolidate.update(max_length=24, prompt_width=16)
  c.evaluate.held_out_batches = 0
  return c


def _unit(model, strategy='sleep', seed=0):
  return unit.Unit(
    'a', strategy, seed, 'validation', NUM_DAYS, NUM_FACTS, model
  )


def _run(home, model, strategy='sleep', said=None, **options):
  say = (lambda line: None) if said is None else said.append
  return unit.run(
    _unit(model, strategy), _config(), out=home / 'out', folder=home / 'work',
    say=say, **options,
  )  # fmt: skip


def _found(results):
  """Returns what was found, without what it cost."""
  if isinstance(results, dict):
    return {k: _found(v) for k, v in results.items() if k not in _VARYING}
  return [_found(x) for x in results] if isinstance(results, list) else results


_VARYING = ('cost', 'cpu_seconds', 'seconds')


@pytest.fixture(scope='module')
def unbroken(model, tmp_path_factory):
  """Returns the results of a unit of the strategy that sleeps."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(unit.provenance, 'revision', lambda: 'one')
    tiny_study.one_device.__wrapped__(patch)
    return _run(tmp_path_factory.mktemp('unbroken'), model)


def test_a_unit_asks_every_evening_and_every_morning(unbroken):
  assert list(unbroken['days']) == ['1', '2']
  for number, day in unbroken['days'].items():
    assert list(day) == ['wake', 'evening', 'night', 'morning']
    assert all(COSTS == set(phase['cost']) for phase in day.values())
    assert not any(phase['cost']['interrupted'] for phase in day.values())
    first = [phase['cost']['first'] for phase in day.values()]
    assert first == [number == '1'] * 4
    (night,) = day['night']['result']
    assert night['night'] == int(number) and night['accepted']
    for moment in ('evening', 'morning'):
      asked = day[moment]['result']['recall']
      assert asked['questions'] == 2 * NUM_FACTS * int(number)
  assert unbroken['initial']['context']['result']['recall']['questions'] == 8
  assert unbroken['final']['never_told']['result']['questions'] == 12 + 4


def test_a_unit_that_is_killed_ends_with_the_same_results(
  unbroken, model, tmp_path, monkeypatch
):
  asked, count = recall.ask, []

  def kill_late(*args, **kwargs):
    count.append(1)
    if len(count) == 6:  # In the second evening.
      raise KeyboardInterrupt
    return asked(*args, **kwargs)

  monkeypatch.setattr(recall, 'ask', kill_late)
  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path, model)
  monkeypatch.setattr(recall, 'ask', asked)
  found = _run(tmp_path, model)
  assert found['days']['2']['evening']['cost']['interrupted']
  assert not found['days']['2']['wake']['cost']['interrupted']
  # Another process loads and compiles again.
  assert found['days']['2']['night']['cost']['first']
  assert _found(found) == _found(unbroken)


def test_a_unit_that_is_done_is_not_run_again(
  unbroken, model, tmp_path, monkeypatch
):
  (tmp_path / 'out').mkdir()
  file = tmp_path / 'out' / f'{_unit(model).name}.json'
  file.write_text(json.dumps(unbroken))
  said = []
  assert _run(tmp_path, model, said=said) == unbroken
  assert 'done' in said[0] and not (tmp_path / 'work').exists()

  for change, message in (
    ({'key': 'other', 'config': {}}, 'of another unit or config:\n  config.'),
    ({'revision': 'other'}, 'is of revision other, and this is one'),
  ):
    file.write_text(json.dumps(unbroken | change))
    with pytest.raises(errors.WorkdirError, match=message):
      _run(tmp_path, model)
  _run(tmp_path, model, any_revision=True)
  # Two changed working trees have the same name.
  monkeypatch.setattr(unit.provenance, 'revision', lambda: 'one-dirty')
  file.write_text(json.dumps(unbroken | {'revision': 'one-dirty'}))
  with pytest.raises(errors.WorkdirError, match='of revision one-dirty'):
    _run(tmp_path, model)
  assert not (tmp_path / 'work').exists()


def test_the_initial_model_multiplies_as_the_run_does(model):
  config = _config()
  config.model.products = 'bfloat16'
  loaded = sleep_jax.load(model, verbose=False).loaded
  assert loaded.model.config.products == 'float32'
  found = ability.with_products(loaded, config).config
  assert found.products == 'bfloat16'
  same = dataclasses.replace(found, products='float32')
  assert same == loaded.model.config


def test_a_unit_of_another_revision_is_not_continued(
  model, tmp_path, monkeypatch
):
  def stop(*args, **kwargs):
    raise KeyboardInterrupt

  monkeypatch.setattr(recall, 'ask', stop)
  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path, model)
  monkeypatch.setattr(unit.provenance, 'revision', lambda: 'another')
  with pytest.raises(errors.WorkdirError, match='begun with revision'):
    _run(tmp_path, model)
  with pytest.raises(KeyboardInterrupt):
    _run(tmp_path, model, any_revision=True)
  (progress,) = (tmp_path / 'work').glob('*/progress.json')
  found = json.loads(progress.read_text())
  assert found['revision'] == 'one'
  assert found['later_revisions'] == ['another']


def test_a_baseline_has_no_nights(model, tmp_path):
  found = _run(tmp_path, model, 'lora')
  for day in found['days'].values():
    assert list(day) == ['wake', 'evening']
  before = found['initial']['closed']['result']['answers']
  after = found['days']['2']['evening']['result']['answers']
  assert [row['person'] for row in after] == [row['person'] for row in before]


def test_a_phase_is_measured():
  cost = {}
  with measuring.measure(cost):
    sum(range(100_000))
  assert cost['cpu_seconds'] > 0 and cost['seconds'] > 0
  assert cost['compile_seconds'] == 0
  assert cost['peak_bytes'] > 1e6


@pytest.mark.parametrize('name', ['icl', 'rag', 'joint'])
def test_a_strategy_that_does_not_learn_day_by_day_is_refused(name, tmp_path):
  with pytest.raises(errors.ConfigError, match=f'--strategy={name}: expected'):
    _run(tmp_path, 'no model', name)
  assert not list(tmp_path.iterdir())

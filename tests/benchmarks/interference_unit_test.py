"""Units of the study of interference, on a tiny study of three days."""

import shutil

import jax
import numpy as np
import pytest

from benchmarks.interference import bank_updates, unit, units
from sleep_jax import errors
from sleep_jax.data import token_cache, tokenizer
from sleep_jax.datasets import dataset
from sleep_jax.model import prefix
from sleep_jax.runs import study
from tests import testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
STRATEGIES = ('sft', 'sleep')


def _config():
  c = tiny_study.config(prompts=('old', 'day'))
  c.data.settings.num_days = 3
  c.levels[1]['slots'] = 2  # The third night merges two experts.
  c.consolidate.full = 'merge'
  return c


def _run(home, config=None, strategies=STRATEGIES):
  return units.run(
    config or _config(), strategies, folder=home / 'runs', out=home / 'out'
  )


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Returns the folder of a finished study; tests do not change it."""
  home = tmp_path_factory.mktemp('interference')
  with pytest.MonkeyPatch.context() as patch:
    tiny_study.one_device.__wrapped__(patch)
    _run(home)
  return home


def _results(home, strategy):
  # Reads the file: the unit is finished.
  return unit.run(
    _config(), strategy, 0, folder=home / 'runs', out=home / 'out'
  )


@pytest.mark.parametrize('strategy', STRATEGIES)
def test_every_earlier_day_is_paired_with_every_later_update(
  finished, strategy
):
  found = _results(finished, strategy)
  assert (found['strategy'], found['seed']) == (strategy, 0)
  assert found['revision'] and found['config']['name'] == 'tiny'
  assert found['days'] == ['day 1', 'day 2', 'day 3']
  pairs = {(row['a'], row['b']): row for row in found['pairs']}
  assert [*pairs] == [(1, 2), (1, 3), (2, 3)]
  # The weights between two updates are written in two ways for `sleep`.
  assert pairs[1, 2]['loss_after'] == pytest.approx(
    pairs[1, 3]['loss_before'], abs=1e-5
  )
  assert all(row['measured'] != 0 for row in found['pairs'])


@pytest.mark.parametrize('pack', [False, True])
def test_targets_of_a_day_are_its_answers(pack):
  rows = [
    dataset.Row('Mi has a cat', response_start=8),
    dataset.Row('Mi has dogs', answer_start=7, subject=(0, 2)),
  ]
  made = token_cache.make_source(
    'day', rows, tokenizer.make('bytes'), context=32, max_prompt=17,
    batch_size=2, seed=0, prefix=16, pack=pack,
  )  # fmt: skip
  ((tokens_BT, _, _, loss_BT),) = unit.day_rows([made])
  text = tokenizer.make('bytes').decode(np.asarray(tokens_BT)[loss_BT > 0])
  assert sorted(text) == sorted(' catdogs') and 'Mi' not in text


def test_a_rerun_skips_finished_units(finished, monkeypatch):
  def refuse(*args, **options):
    raise AssertionError('a finished unit is run again')

  before = (finished / 'out' / 'table.md').read_text()
  monkeypatch.setattr(study, 'Study', refuse)
  assert _run(finished) == before


def test_results_of_another_config_are_refused(finished):
  config = _config()
  config.wake.steps += 1
  with pytest.raises(errors.WorkdirError, match='wake.steps: 4 there, 5 now'):
    _run(finished, config)


def test_a_damaged_file_of_results_is_refused(tmp_path):
  (tmp_path / 'out').mkdir()
  (tmp_path / 'out' / 'sft_0.json').write_text('{')
  with pytest.raises(errors.WorkdirError, match='sft_0.json is damaged'):
    _run(tmp_path)


@pytest.mark.parametrize(
  'names, message',
  [
    ((), 'one or more'),
    (('sft', 'sft'), "'sft,sft': expected one or more different names"),
    (('sfft',), "Unknown strategy 'sfft'"),
    (('joint',), "'joint' does not change its weights one day after the other"),
    (('rag',), "'rag' does not change its weights one day after the other"),
  ],
)
def test_impossible_strategies_are_refused(tmp_path, names, message):
  with pytest.raises(errors.ConfigError, match=message):
    _run(tmp_path, strategies=names)


def test_a_run_without_the_weights_of_a_day_is_refused(finished, tmp_path):
  shutil.copytree(finished / 'runs', tmp_path / 'runs')
  run = tmp_path / 'runs' / 'seed_0' / 'sft'
  shutil.rmtree(run / 'checkpoints' / 'cycles' / 'cycle_2')
  with pytest.raises(errors.UsageError, match=r'\[1, 3\]: expected one for'):
    _run(tmp_path, strategies=('sft',))


def _ends():
  """Returns a model and weights: slot 0 stays, 1 is added, 2 is removed."""
  model = testing.tiny()
  before = testing.activate(testing.weights(model), 2, 0, 2)
  after = testing.activate(testing.weights(model, seed=1), 2, 0, 1)
  return model, before, after


def test_both_ends_of_an_update_compute_what_the_weights_compute():
  model, *ends = _ends()
  batch, forward = testing.batch(), testing.forward(model)
  inputs = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  for weights, params in zip(
    ends, bank_updates.aligned(model.config, *ends), strict=True
  ):
    full = weights.replace(
      params=params,
      active_NE=bank_updates.all_active(model.config, weights.active_NE),
    )
    np.testing.assert_allclose(
      forward(full, *inputs), forward(weights, *inputs), atol=1e-5
    )


def test_the_update_of_a_slot_that_is_added_is_its_output_matrix():
  model, *ends = _ends()
  old, new = bank_updates.aligned(model.config, *ends)
  prefix = 'blocks/levels/2/experts/'
  delta = {path: np.asarray(new[path] - old[path]) for path in old}
  for name in ('A', 'router', 'bias'):
    moved = delta[prefix + name]
    assert np.any(moved[:, 0]) and not np.any(moved[:, 1:])
  added = ends[1].params[prefix + 'B']
  np.testing.assert_array_equal(delta[prefix + 'B'][:, 1], added[:, 1])
  assert not np.any(delta[prefix + 'B'][:, 3])  # Never used.


def test_trained_keys_and_values_are_no_update_of_parameters():
  model = testing.tiny()
  weights = testing.weights(model)
  own = prefix.init(weights.params, tokens=2, past=1)
  with pytest.raises(errors.ConfigError, match='no matrix can hold'):
    bank_updates.check(model.config, [weights, weights.replace(adapter=own)])


def test_competing_experts_are_refused_if_there_are_any():
  for changes in (dict(router='softmax'), dict(top_k=1)):
    model = testing.tiny(**changes)
    weights = testing.weights(model)
    bank_updates.check(model.config, [weights])
    with pytest.raises(errors.ConfigError, match="router='s"):
      bank_updates.check(
        model.config, [weights, testing.activate(weights, 2, 0)]
      )


def test_each_row_of_a_day_has_its_targets_once():
  source = _Source(num_rows=5, batch_size=2)
  (day, short) = unit.day_rows([source, _Source(num_rows=2, batch_size=2)])
  assert [int(x) for x in day[3].sum(1)] == [1, 1, 1, 1, 1, 0]
  assert sorted(day[0][:5, 0].tolist()) == [0, 1, 2, 3, 4]
  assert jax.tree.map(np.shape, day) == jax.tree.map(np.shape, short)
  assert float(short[3].sum()) == 2


class _Source:
  """Rows that hold their own number, as `data.batches.Source` reads them."""

  def __init__(self, num_rows, batch_size):
    self.num_rows, self._size = num_rows, batch_size
    self.num_batches = -(-num_rows // batch_size)

  def batch(self, index):
    rows = np.arange(index * self._size, (index + 1) * self._size)
    tokens_B1 = (rows % self.num_rows)[:, None].astype('i4')
    ones = np.ones_like(tokens_B1)
    batch = testing.batch(rows=self._size)
    no_prompts = batch.prompts.replace(length_B=0 * batch.prompts.length_B)
    return batch.replace(
      prompts=no_prompts,
      tokens_BT=tokens_B1, segments_BT=ones, positions_BT=0 * ones,
      loss_BT=ones.astype('f4'),
    )  # fmt: skip

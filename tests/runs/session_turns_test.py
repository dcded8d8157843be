"""Learners of one folder that change it in turns lose nothing."""

import json

import pytest

import sleep_jax
from sleep_jax import errors
from sleep_jax.runs import session_source
from tests import testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

DAYS = (['Ann Bo is a cook.'], ['Ann Bo has a cat.'], ['Ann Bo is in Oslo.'])


@pytest.fixture
def source(tmp_path_factory, one_device):
  """Returns the work directory of a finished run with two nights."""
  return tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'sleep')


def _nights(learner):
  return [row['night'] for row in learner.loaded.expert_history]


def test_turns_of_two_learners_are_those_of_one(source, tmp_path):
  alone = sleep_jax.load(str(source), str(tmp_path / 'alone'), verbose=False)
  one = sleep_jax.load(str(source), str(tmp_path / 'shared'), verbose=False)
  for learner in (alone, one):
    learner.wake(DAYS[0])
  two = sleep_jax.load(str(tmp_path / 'shared'), verbose=False)
  assert _nights(two) == [1, 2]  # It has read the model now.
  for learner in (alone, one):
    assert [night['night'] for night in learner.sleep()] == [3]
  with pytest.raises(errors.UsageError, match='Nothing was learned since'):
    two.sleep()
  for learner in (alone, two):
    learner.wake(DAYS[1])
  with pytest.raises(errors.UsageError, match='day_0002.jsonl .* not'):
    one.wake(DAYS[2])
  for learner in (alone, two):
    assert [night['night'] for night in learner.sleep()] == [4]
  # All four slots are in use; one that is forgotten is used again.
  for learner in (alone, one):
    with pytest.raises(errors.ConfigError, match='has 4 slots, but 5'):
      learner.wake(DAYS[2])
    assert learner.forget(3)
    learner.wake(DAYS[2])
  for learner in (alone, one):
    (night,) = learner.sleep()
    assert (night['night'], night['slot']) == (5, 2)
  # The other one has last seen night 3 in the slot of night 5.
  with pytest.raises(errors.UsageError, match='No expert holds night 3'):
    two.forget(3)
  assert testing.same(alone.loaded.weights, two.loaded.weights)
  assert _nights(alone) == _nights(one) == _nights(two)


def test_the_writers_of_a_folder_are_not_used(tmp_path):
  """A folder from somebody else must not send anything to a server."""
  given = tiny_study.config()
  given.writers = ('wandb',)
  plain = json.loads(given.to_json_best_effort())
  source = session_source.Source(tmp_path, 'run', plain)
  make = lambda config: session_source.make_config(
    source, config, folder=tmp_path, strategy='sleep', seed=0
  )
  assert not make(None).writers
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text(json.dumps(plain))
  assert not make(None).writers
  assert list(make(given).writers) == ['wandb']


def test_a_config_may_be_named(tmp_path):
  source = session_source.Source(tmp_path, 'model', {})
  made = session_source.make_config(
    source, 'documents', folder=tmp_path, strategy='sleep', seed=3
  )
  assert (made.name, list(made.seeds)) == ('documents', [3])
  with pytest.raises(errors.MissingFileError, match='no such model'):
    sleep_jax.load('no such model', config='documents')

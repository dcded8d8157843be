"""Work directories of earlier versions are read and continued."""

import json
import pathlib
import shutil

import pytest

import sleep_jax
from sleep_jax import errors
from sleep_jax.learner import programs
from sleep_jax.runs import compatibility, session_source, study
from tests import tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
# Fields that were removed, with the values that they had.
REMOVED = {
  'model': {'router_spread': 1.0},
  'consolidate': {'average_decay': 0.97},
}


def _with_removed(config):
  """Returns a config, or a part of it, as an earlier version wrote it."""
  return config | {
    name: config[name] | fields
    for name, fields in REMOVED.items()
    if name in config
  }


@pytest.fixture
def old(tmp_path_factory, tmp_path, one_device):
  """Returns the work directory of a finished run, of an earlier version."""
  base = tmp_path_factory.getbasetemp()
  finished = tiny_study.finished_study(base, 'sleep')
  folder = pathlib.Path(shutil.copytree(finished, tmp_path / 'old'))
  files = [*folder.glob('seed_0/*/checkpoints/*/*/progress/metadata')]
  assert len(files) > 2
  for file in files:
    progress = json.loads(file.read_text())
    progress['config'] = _with_removed(progress['config'])
    file.write_text(json.dumps(progress))
  file = folder / 'config.json'
  file.write_text(json.dumps(_with_removed(json.loads(file.read_text()))))
  return folder


def test_a_run_of_an_earlier_version_is_continued(old, monkeypatch):
  before = json.loads((old / 'summary.json').read_text())
  monkeypatch.setattr(programs.Programs, 'wake', None)
  study.Study(tiny_study.config(), old).run()
  assert json.loads((old / 'summary.json').read_text()) == before


def test_an_initial_model_of_an_earlier_version_is_used(old, tmp_path):
  config = tiny_study.config()
  config.pretrain.restore = str(old)
  study.Study(config, tmp_path / 'new').run()
  assert (tmp_path / 'new' / 'summary.json').exists()


def test_a_model_of_an_earlier_version_is_loaded(old):
  config = session_source.find(str(old)).config
  assert not any(
    field in config[name]
    for name, fields in REMOVED.items()
    for field in fields
  )
  learner = sleep_jax.load(str(old), verbose=False)
  assert learner.generate('Who', max_new=2) is not None


def test_replay_buffers_must_fit_where_they_are_used(tmp_path):
  home = tmp_path / 'seed_0'
  (home / 'pretrain/checkpoints/cycles/cycle_0').mkdir(parents=True)

  def check(theirs, **changes):
    (tmp_path / 'config.json').write_text(json.dumps(_plain(store=theirs)))
    compatibility.check_fits(home, _plain(**changes))

  check('prompts', max_new=3)  # The lengths of rehearsals may differ,
  with pytest.raises(errors.WorkdirError, match='config.replay.store'):
    check('prompts', store='rows')
  with pytest.raises(errors.WorkdirError, match='config.consolidate.max_new'):
    check('rows', store='rows', max_new=3)  # but not those of stored answers.
  # Of an imported model only the weights are used.
  (tmp_path / 'config.json').write_text(json.dumps(_plain()))
  compatibility.check_fits(home, _plain(store='rows'), with_replay=False)


def _plain(*, store='prompts', max_new=2):
  c = tiny_study.config()
  c.replay.store = store
  c.consolidate.max_new = max_new
  return json.loads(c.to_json())

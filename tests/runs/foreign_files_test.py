"""A folder that a stranger sends runs no code and leaves its own place."""

import json

import pytest

from sleep_jax import errors
from sleep_jax.interop import open_model
from sleep_jax.runs import session, session_source
from tests import tiny_study


def _write(home, judge):
  config = json.loads(tiny_study.config().to_json_best_effort())
  config['consolidate'] = {'imitation': {'judge': judge}}
  home.mkdir(parents=True, exist_ok=True)
  (home / 'config.json').write_text(json.dumps(config))


@pytest.mark.parametrize('judge', ['os:system', 'subprocess:run', 'a.b:c'])
@pytest.mark.parametrize('place', ['.', session.RUN])
def test_a_judge_that_a_folder_names_is_not_called(tmp_path, judge, place):
  _write(tmp_path / 'sent' / place, judge)
  with pytest.raises(errors.UsageError, match=f'{judge}.* is not called'):
    session.Session(str(tmp_path / 'sent'))


def test_judges_that_run_no_code_are_accepted(tmp_path):
  for judge in ('match', 'teacher', 'encoder:some/folder'):
    config = {'consolidate': {'imitation': {'judge': judge}}}
    session_source.refuse_code(config, tmp_path)
  session_source.refuse_code({}, tmp_path)


@pytest.mark.parametrize(
  'strategy', ['../../other', '..', '', '/etc', 'a/b', 'a\\b']
)
def test_a_strategy_is_no_path(tmp_path, strategy):
  _write(tmp_path, 'match')
  with pytest.raises(errors.UsageError, match='expected the name of a strat'):
    open_model.open_model(str(tmp_path), strategy=strategy)

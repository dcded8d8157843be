"""Gains of two matched streams, from logs and configs that are written here."""

import json

import numpy as np
import pytest

from benchmarks import agent_gains
from sleep_jax import errors
from sleep_jax.datasets import agent
from sleep_jax.evaluate import agent_gains as gains

SETTINGS = dict(
  num_pretrain=20, pretrain_rows=1, num_days=4, first_days=2, examples=2,
  probes_per_task=2,
)  # fmt: skip
# Scores of the days 1 to 4, in each evaluation; a day is scored from the
# evaluation before it on.
COMPOSITIONAL = (
  (0.1, 0.1, 0.2, 0.0), (0.9, 0.1), (0.9, 0.9, 0.6), (0.8, 0.8, 0.9, 0.5)
)  # fmt: skip
NAIVE = (
  (0.1, 0.1, 0.2, 0.0), (0.9, 0.1), (0.9, 0.9, 0.2), (0.8, 0.7, 0.9, 0.1)
)  # fmt: skip


def write(folder, scores, *, reuse, **changes):
  """Writes a finished study of one strategy and two seeds."""
  settings = SETTINGS | {'reuse': reuse}
  config = {
    'name': f'agent_{reuse}', 'seeds': [0, 1], 'strategies': ['sft'],
    'data': {'dataset': 'agent', 'settings': settings}, **changes,
  }  # fmt: skip
  folder.mkdir()
  (folder / 'config.json').write_text(json.dumps(config))
  for seed in config['seeds']:
    home = folder / f'seed_{seed}' / 'sft'
    home.mkdir(parents=True)
    rows = [
      {
        'event': day, 'kind': 'evaluation', 'cycle': day, 'moment': 'evening',
        'experience': day,
        'scores': {str(j): s for j, s in enumerate(row, 1)},
      }
      for day, row in enumerate((*scores, scores[-1]))
    ]  # fmt: skip
    (home / 'metrics.jsonl').write_text(
      ''.join(json.dumps(row) + '\n' for row in rows)
    )
  return folder


@pytest.fixture
def studies(tmp_path):
  return (
    write(tmp_path / 'compositional', COMPOSITIONAL, reuse=True),
    write(tmp_path / 'naive', NAIVE, reuse=False),
  )


def call(studies, *more):
  names = ('compositional', 'naive')
  agent_gains.main([
    *(f'--{name}={folder}' for name, folder in zip(names, studies,
                                                   strict=True)), *more
  ])  # fmt: skip


def test_a_task_is_met_before_it_is_learned_and_the_last_day_is_held_out():
  matrix = np.array([
    [0.1, 0.2, 0.3], [0.9, 0.4, np.nan], [0.8, 0.7, 0.6], [np.nan, 0.9, 0.9],
  ])  # fmt: skip
  parts = {name: x.tolist() for name, x in gains.split(matrix).items()}
  assert parts == {
    'base_T': [0.1, 0.2], 'first_T': [0.1, 0.4], 'second_T': [0.8, 0.7],
    'held_out_base_U': [0.3], 'held_out_U': [0.6],
  }  # fmt: skip
  alone = gains.gains(**gains.split(np.zeros((2, 1))))
  assert alone['pg'] is None and alone['sg'] is None


def test_gains_and_the_gap_of_two_streams(studies, tmp_path, capsys):
  call(studies, f'--out={tmp_path / "out"}')
  found = json.loads((tmp_path / 'out' / 'gains.json').read_text())
  assert len(found['units']) == 4
  mean = {
    stream: {name: value for name, (value, _) in numbers.items()}
    for stream, numbers in found['mean']['sft'].items()
  }
  # By hand: B 0.4/3, F (0.1 + 0.1 + 0.6)/3, S 2.5/3 in the first stream.
  assert mean['compositional']['pg'] == pytest.approx(0.4 / 3)
  assert mean['compositional']['sg'] == pytest.approx(1.7 / 3)
  assert mean['compositional']['gg'] == pytest.approx(0.5)
  assert mean['gap'] == {
    'pg': pytest.approx(0.4 / 3), 'sg': pytest.approx(-0.3 / 3),
    'gg': pytest.approx(0.4),
  }  # fmt: skip
  assert '| `sft` | gap |' in capsys.readouterr().out


def test_the_majority_answer_is_the_most_frequent_one_of_the_rows():
  made = agent.make(**SETTINGS)
  name, rows = made.experiences[0]
  answer = rows[0].text[rows[0].response_start :]
  made.experiences[0] = name, [*rows, rows[0], rows[0]]
  probe = made.probes['1'][0]
  made.probes['1'] = [probe, type(probe)(prompt='?', answer=answer)]
  made.experiences[:] = [made.experiences[0], made.experiences[3]]
  assert agent_gains.majority(made) == 0.5


def test_studies_that_do_not_match_are_refused(studies, tmp_path):
  other = write(tmp_path / 'other', NAIVE, reuse=False, wake={'steps': 3})
  with pytest.raises(SystemExit, match=r'not matched:\n  config.wake'):
    call((studies[0], other))
  with pytest.raises(SystemExit, match='reuse True: expected .* reuse False'):
    call((studies[0], studies[0]))
  with pytest.raises(SystemExit, match='config.json does not exist: expected'):
    call((tmp_path / 'none', studies[1]))


def test_an_unfinished_or_missing_run_is_refused(studies):
  log = studies[1] / 'seed_1' / 'sft' / 'metrics.jsonl'
  lines = log.read_text().splitlines(keepends=True)
  log.write_text(''.join(lines[:3]))
  with pytest.raises(SystemExit, match='has 2 finished days: expected 4'):
    call(studies)
  log.unlink()
  with pytest.raises(errors.MissingFileError, match='Continue the study'):
    agent_gains.read(studies[1], False)

"""AgentCL's gains, worked out by hand."""

import numpy as np
import pytest

from sleep_jax.evaluate import agent_gains

STREAM = dict(
  base_T=np.array([0.2, 0.4]),
  first_T=np.array([0.5, 0.7]),
  second_T=np.array([0.4, 0.7]),
  held_out_base_U=np.array([0.3, 0.3, 0.3]),
  held_out_U=np.array([0.3, 0.6, 0.9]),
)


def test_each_gain_is_a_mean_difference():
  assert agent_gains.gains(**STREAM) == {
    'pg': pytest.approx(0.3), 'sg': pytest.approx(-0.05),
    'gg': pytest.approx(0.3),
  }  # fmt: skip


def test_a_model_that_does_not_learn_gains_nothing():
  same = STREAM | {
    name: STREAM['base_T'] for name in ('first_T', 'second_T')
  }  # fmt: skip
  found = agent_gains.gains(**same)
  assert found['pg'] == found['sg'] == 0


def test_reuse_is_what_the_naive_stream_lacks():
  naive = STREAM | {'first_T': np.array([0.2, 0.6])}
  found = agent_gains.gains_by_reuse(
    agent_gains.gains(**STREAM), agent_gains.gains(**naive)
  )
  assert found['pg'] == pytest.approx(0.2)
  assert found['sg'] == pytest.approx(-0.2) and found['gg'] == 0


def test_a_missing_score_leaves_a_gain_undefined():
  found = agent_gains.gains(**STREAM | {'held_out_U': np.full(3, np.nan)})
  assert found['gg'] is None and found['pg'] is not None
  assert agent_gains.gains_by_reuse(found, found)['gg'] is None

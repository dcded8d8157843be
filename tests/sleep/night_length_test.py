"""An adaptive night ends by itself, between its bounds, also after a kill."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.sleep import night_length
from tests import testing, tiny_study
from tests.sleep import nights

ADAPTIVE = dict(on=True, min_updates=8, tolerance=0.0, patience=2, decay=0.5)


def _settings(num_updates=40, **changes):
  return nights.make_settings(
    num_updates=num_updates, updates_per_round=2, adaptive=ADAPTIVE | changes
  )


def _run(settings, values):
  """Returns the length after each round, given what is measured before it."""
  length, found = night_length.begin(settings), []
  for number, value in enumerate(values):
    update = jnp.int32(2 * number)
    if update >= length.end:
      break
    length = night_length.observe(
      length, jnp.float32(value), update, settings, settings.adaptive
    )
    found.append(length)
  return found


def test_a_night_that_keeps_improving_takes_the_largest_length():
  found = _run(_settings(), 0.8 ** np.arange(20))
  assert len(found) == 20 and int(found[-1].end) == 40
  # The rate falls in the second half.
  assert int(found[-1].decay_from) == 20


def test_a_night_ends_when_nothing_improves():
  values = [1.0, 0.5, 0.25, *[0.2] * 37]
  found = _run(_settings(80), values)
  start, end = int(found[-1].decay_from), int(found[-1].end)
  assert 8 <= end < 80 and end == 2 * start
  # The end is known when the fall begins, and does not move afterwards.
  assert {int(x.end) for x in found if int(x.decay_from) >= 0} == {end}
  assert len(found) == end // 2


def test_a_night_below_the_tolerance_ends_at_the_smallest_length():
  found = _run(_settings(tolerance=0.5, min_updates=16), [0.1] * 20)
  assert int(found[-1].end) == 16
  falling = 0.1 * 0.9 ** np.arange(20)
  assert int(_run(_settings(tolerance=0.05), falling)[-1].end) > 16


def test_the_rate_falls_from_the_begin_of_the_end_to_the_end():
  length = _run(_settings(tolerance=0.5), [0.1] * 20)[-1]
  start, end = int(length.decay_from), int(length.end)
  share = lambda update: float(night_length.decay_share(length, update))
  assert share(0) == share(start) == 0 and share(end) == 1
  assert share((start + end) // 2) == 0.5
  begun = night_length.begin(_settings())
  assert float(night_length.decay_share(begun, 9)) == 0


def test_a_minimum_above_the_maximum_is_refused():
  with pytest.raises(errors.ConfigError, match='adaptive.min_updates is 41'):
    _settings(min_updates=41)


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  config = tiny_study.config()
  config.consolidate.num_updates = 12
  config.consolidate.updates_per_round = 2
  config.consolidate.adaptive.update(on=True, min_updates=6, tolerance=1e3)
  made = tiny_study.TinyStudy(config)
  return made.make_initial_model(tmp_path_factory.mktemp('pretrain'))


def test_a_night_is_shorter_and_says_so(study, tmp_path):
  _, record = study.run('sleep', tmp_path)
  for night in record['nights']:
    assert night['updates'] == 6
    assert [row['update'] for row in night['held_out']] == [0, 2, 4]
    assert all(row['divergence'] > 0 for row in night['held_out'])


def test_an_interrupted_adaptive_night_ends_like_an_unbroken_one(
  study, tmp_path
):
  whole, _ = study.run('sleep', tmp_path / 'whole')
  state, _ = study.run_in_pieces('sleep', tmp_path / 'broken', every=3)
  assert testing.same(*map(jax.device_get, (whole.weights, state.weights)))

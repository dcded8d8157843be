"""The closed-form linear probe of `images`."""

import ml_collections
import numpy as np
import pytest

from benchmarks.linear_probe import probe
from sleep_jax import errors
from sleep_jax.datasets import dataset, images


def test_ridge_is_the_minimum_of_its_loss():
  rng = np.random.default_rng(0)
  x_NF, label_N = rng.normal(size=(20, 4)), rng.integers(3, size=20)
  found_FC = probe.fit(x_NF, label_N, 3, 2.0)
  # The gradient of |X W - Y|^2 + penalty |W|^2 is zero.
  residual_NC = x_NF @ found_FC - np.eye(3)[label_N]
  np.testing.assert_allclose(x_NF.T @ residual_NC + 2 * found_FC, 0, atol=1e-9)


def test_features_are_one_hot_levels():
  found = probe.features(['01:ba', '11:ko'])
  assert found.shape == (2, 21) and found.sum() == 6
  assert np.flatnonzero(found[0]).tolist() == [0, 11, 20]


def made(rows):
  """Returns a dataset in which pixels have these values and labels."""
  texts = [dataset.Row(text=f'{p}:{y}', response_start=3) for p, y in rows]
  probes = [
    dataset.Probe(prompt=f'{p}:', answer=y, candidates='label') for p, y in rows
  ]
  return dataset.Dataset(
    name='images', pretrain=texts, held_out=[], experiences=[('day 1', texts)],
    probes={'pretrain': probes, '1': probes},
    candidates={'label': [('a', 0), ('b', 1)]},
  )  # fmt: skip


def test_the_probe_solves_what_is_linear_and_not_what_is_not():
  linear = [('00', 'a'), ('01', 'a'), ('10', 'b'), ('11', 'b')]
  assert probe.accuracies(made(linear)) == {
    'pretrain': 1, 'days': 1, 'chance': 0.5,
  }  # fmt: skip
  same = [('00', 'a'), ('01', 'b'), ('10', 'b'), ('11', 'a')]
  assert probe.accuracies(made(same))['days'] < 1


def test_the_generated_images_are_not_solved_by_it():
  found = probe.accuracies(
    images.make(images_per_class=60, probes_per_class=10)
  )
  assert found['days'] < 0.5 and found['pretrain'] < 0.5


def test_another_dataset_is_refused():
  config = ml_collections.ConfigDict(dict(data=dict(dataset='facts')))
  with pytest.raises(errors.ConfigError, match="is 'facts': expected 'images'"):
    probe.run(config)

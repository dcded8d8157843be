"""Discriminant analysis: its definition, and classes that come in parts."""

import numpy as np

from sleep_jax.evaluate import discriminant

RNG = np.random.default_rng(0)
MEANS = np.array([[0.0, 0.0, 0.0], [3.0, 0.0, 1.0], [0.0, 4.0, -1.0]])
CLASS = RNG.integers(0, 3, 300)
X = MEANS[CLASS] + RNG.normal(size=(300, 3)) * [1.0, 0.5, 2.0]


def _known(x=X, classes=CLASS):
  return discriminant.add(discriminant.no_classes(3, 3), x, classes)


def test_scores_have_their_definition():
  """x S^-1 m - m S^-1 m / 2 with the covariance within classes."""
  means = np.stack([X[CLASS == c].mean(0) for c in range(3)])
  rest = X - means[CLASS]
  within = rest.T @ rest / len(X)
  within += 0.1 * np.trace(within) / 3 * np.eye(3)
  weights = np.linalg.solve(within, means.T)
  expected = X @ weights - np.diag(means @ weights) / 2
  found = discriminant.scores(_known(), X, ridge=0.1)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
  assert np.mean(np.argmax(found, 1) == CLASS) > 0.9


def test_classes_in_any_order_give_the_same_scores():
  order = np.argsort(CLASS, kind='stable')
  in_parts = discriminant.no_classes(3, 3)
  for part in np.array_split(order, 7):
    in_parts = discriminant.add(in_parts, X[part], CLASS[part])
  np.testing.assert_allclose(
    discriminant.scores(in_parts, X, ridge=0.01),
    discriminant.scores(_known(), X, ridge=0.01), rtol=1e-8,
  )  # fmt: skip


def test_a_class_without_rows_is_never_chosen():
  known = CLASS != 1
  found = discriminant.scores(_known(X[known], CLASS[known]), X, ridge=0.01)
  assert np.all(np.isneginf(found[:, 1])) and np.isfinite(found[:, 0]).all()


def test_products_of_random_features_approximate_the_kernel():
  features = discriminant.draw_features(3, 20_000, width=2.0, seed=0)
  x = X[:20]
  square = np.sum(np.square(x[:, None] - x[None]), -1)
  found = features(x) @ features(x).T
  np.testing.assert_allclose(found, np.exp(-square / 8), atol=0.05)


def test_the_median_distance_is_that_of_pairs():
  x = np.array([[0.0], [1.0], [3.0]])
  np.testing.assert_allclose(discriminant.median_distance(x), 2.0)

"""Orders of experiences: everything follows its experience."""

import pytest

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import facts, orders
from sleep_jax.runs import inputs
from tests import tiny_study

SMALL = dict(
  num_pretrain=40, num_days=4, people_per_day=3, readings=40, practice=1
)


def _about(dataset, number):
  """Returns the people of the rows, probes and documents of an experience."""
  key = str(number)
  _, rows = dataset.experiences[number - 1]
  names = {row.text[slice(*row.subject)] for row in rows}
  probed = [*dataset.probes[key], *dataset.template_probes[key]]
  probed += dataset.open_probes[key]
  documents = dataset.tasks[key].documents
  return names, probed, {row.text[slice(*row.subject)] for row in documents}


def test_order_0_is_the_order_as_given():
  given = facts.make(**SMALL)
  assert orders.reorder(given, 0, seed=5) is given
  assert orders.permutation(4, 0, 5) == [0, 1, 2, 3]


def test_probes_and_documents_follow_their_experience():
  given = facts.make(**SMALL)
  for order in (1, 2, 3):
    made = orders.reorder(given, order, seed=0)
    assert sorted(n for n, _ in made.experiences) == sorted(
      n for n, _ in given.experiences
    )
    for number in range(1, 5):
      names, probed, documents = _about(made, number)
      assert names == documents
      assert all(any(n in p.prompt for n in names) for p in probed)
    assert made.pretrain is given.pretrain
    assert made.probes['pretrain'] == given.probes['pretrain']
    assert list(made.probes) == ['pretrain', '1', '2', '3', '4']


def test_orders_differ_and_depend_on_number_and_seed_alone():
  found = {tuple(orders.permutation(8, n, seed=0)) for n in range(6)}
  assert len(found) == 6
  assert orders.permutation(8, 3, 1) == orders.permutation(8, 3, 1)
  assert orders.permutation(8, 3, 1) != orders.permutation(8, 3, 2)


def test_a_candidate_becomes_known_with_the_experience_that_teaches_it():
  row = dataset_lib.Row('x')
  given = dataset_lib.Dataset(
    'labels', [], [], [('a', [row]), ('b', [row]), ('c', [row])],
    {key: [] for key in 'pretrain 1 2 3'.split()},
    candidates={'label': [('old', 0), ('a', 1), ('b', 2), ('c', 3)]},
  )  # fmt: skip
  made = orders.reorder(given, 1, seed=0)
  names = [name for name, _ in made.experiences]
  assert names != ['a', 'b', 'c']
  since = dict(made.candidates['label'])
  assert since.pop('old') == 0
  assert since == {name: n for n, name in enumerate(names, 1)}


def test_the_field_of_the_config_orders_a_run_but_not_its_tuning(tmp_path):
  config = tiny_study.config()
  config.data.settings.update(num_days=6, num_pretrain=12)
  read = lambda **kw: [
    name
    for name, _ in inputs.read_dataset(config, tmp_path, 0, **kw).experiences
  ]
  given, tuned = read(), read(validation=True)
  config.data.order = 2
  assert read() != given and sorted(read()) == sorted(given)
  assert read(validation=True) == tuned


def test_a_file_that_grows_has_one_order(tmp_path):
  config = tiny_study.config()
  config.data.update(order=1, growing=True)
  with pytest.raises(errors.ConfigError, match='config.data.order is 1'):
    inputs.read_dataset(config, tmp_path, 0)

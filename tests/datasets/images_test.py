"""Tests of the images dataset: textures, CIFAR's files, text, classes."""

import itertools

import numpy as np
import pytest

from configs.small import images as config
from sleep_jax import errors
from sleep_jax.data import tokenizer
from sleep_jax.datasets import cifar_files, images, textures

SMALL = dict(images_per_class=3, probes_per_class=2)


def write(folder, name, labels, value=lambda n: n % 256):
  """Writes a file of records whose images have one value each."""
  records = [bytes([label]) + bytes([value(n)]) * 3072
             for n, label in enumerate(labels)]  # fmt: skip
  (folder / name).write_bytes(b''.join(records))


@pytest.fixture
def folder(tmp_path):
  write(tmp_path, 'data_batch_1.bin', [*range(10)] * 2)
  write(tmp_path, 'data_batch_2.bin', [*range(10)] * 3)
  write(tmp_path, 'test_batch.bin', [*range(10)] * 2)
  return tmp_path


def test_every_row_repeats_the_order_of_its_class():
  image = textures.draw(
    np.random.default_rng(0), (0, 2, 1), size=5, noise=0.0
  ).tolist()
  following = {pair for row in image for pair in itertools.pairwise(row)}
  assert following == {(0, 2), (2, 1), (1, 0)}
  assert len({row[0] for row in image}) > 1  # Each row begins elsewhere.


def test_no_two_classes_have_the_same_neighbours():
  orders = textures.all_orders(6)
  found = {frozenset((o[i - 1], o[i]) for i in range(6)) for o in orders}
  assert len(found) == len(orders) == 120


def test_every_pixel_of_a_class_has_every_level_equally_often():
  rng, order = np.random.default_rng(0), (0, 3, 1, 4, 2)
  drawn = [textures.draw(rng, order, size=3, noise=0.1) for _ in range(3000)]
  counts = [np.mean(np.array(drawn) == level, 0) for level in range(5)]
  np.testing.assert_allclose(counts, 0.2, atol=0.03)


def test_the_tokenizer_of_the_study_gives_one_token_per_pixel():
  c = config.get_config()
  made = images.make(**SMALL)
  bytes_ = tokenizer.make(**c.tokenizer)
  for row in made.pretrain:
    pixels = row.text[: row.response_start - 1]
    assert len(pixels) == 64 == len(bytes_.encode(pixels))
    assert len(bytes_.encode(row.text)) + 2 <= c.data.context
    assert len(bytes_.encode_prompt(row.text[: row.response_start])) <= (
      c.data.max_prompt
    )


def test_each_class_is_taught_by_one_day_and_competes_from_then_on():
  made = images.make(num_days=20, **SMALL)
  label = lambda row: row.text[row.response_start :]
  days = [{label(r) for r in rows} for _, rows in made.experiences]
  assert [len(day) for day in days] == [2] * 20
  assert len(set.union(*days)) == 40
  for since, day in enumerate([{label(r) for r in made.pretrain}, *days]):
    assert day == {text for text, s in made.candidates['label'] if s == since}
  for day, labels in enumerate(days, 1):
    assert {p.answer for p in made.probes[str(day)]} == labels


def test_every_letter_of_a_label_occurs_in_pretraining():
  made = images.make(num_days=20, **SMALL)
  known = set(''.join(row.text for row in made.pretrain))
  assert {x for _, rows in made.experiences for r in rows for x in r.text} <= (
    known
  )


def test_tuning_has_other_images_and_the_same_pretraining():
  made, tuning = images.make(**SMALL), images.make(stream_seed=1, **SMALL)
  assert made.pretrain == tuning.pretrain and made.guard == tuning.guard
  assert made.experiences != tuning.experiences


def test_a_record_is_a_label_and_three_colours(tmp_path):
  red, green, blue = (bytes([v]) * 1024 for v in (0, 60, 120))
  (tmp_path / 'data_batch_1.bin').write_bytes(b'\x03' + red + green + blue)
  write(tmp_path, 'test_batch.bin', [1])
  train, test = cifar_files.read(str(tmp_path))
  assert train.label_N.tolist() == [3] and test.label_N.tolist() == [1]
  np.testing.assert_array_equal(train.grey_NHW, np.full((1, 32, 32), 60))
  assert train.where_N[0].endswith('data_batch_1.bin, record 1')


def test_shrinking_averages_squares_and_divides_the_range():
  grey = np.zeros((4, 4), np.float32)
  grey[:2, 2:], grey[2:, :2], grey[2:, 2:] = 255, [[100, 110], [90, 120]], 51
  found = images.shrink(grey, size=2, grey_levels=5)
  assert found.tolist() == [[0, 4], [2, 0]]
  assert images.pixels(found) == '0420'


def test_days_of_cifar_have_its_classes_in_order(folder):
  made = images.make(path=str(folder), **SMALL)
  generated = images.make(**SMALL)
  assert made.pretrain == generated.pretrain
  assert len(made.experiences) == 5
  for day, (_, rows) in enumerate(made.experiences, 1):
    # In these files the record of label n, the last digit, has value n.
    numbers = {int(row.where.rsplit(' ', 1)[1]) - 1 for row in rows}
    assert {n % 10 for n in numbers} == {2 * day - 2, 2 * day - 1}
    assert all('data_batch_' in row.where for row in rows)
    assert all('test_batch' in p.where for p in made.probes[str(day)])


def test_tuning_on_cifar_scores_training_images_that_are_not_learned(folder):
  made = images.make(path=str(folder), stream_seed=0, **SMALL)
  learned = {row.where for _, rows in made.experiences for row in rows}
  for day in range(1, 6):
    asked = {probe.where for probe in made.probes[str(day)]}
    assert all('data_batch_' in where for where in asked)
    assert not asked & learned


def test_a_file_of_another_size_is_named(folder):
  (folder / 'data_batch_2.bin').write_bytes(b'\0' * 3074)
  with pytest.raises(
    errors.DataError,
    match=r'data_batch_2.bin: .* 3,074 bytes: expected a multiple of 3,073',
  ):
    images.make(path=str(folder), **SMALL)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda f: write(f, 'test_batch.bin', [3, 10]),
     r'test_batch.bin, record 2: the label is 10: expected 0 to 9'),
    (lambda f: (f / 'test_batch.bin').write_bytes(b''), 'has 0 bytes'),
    (lambda f: (f / 'test_batch.bin').unlink(), 'has no test_batch.bin'),
    (lambda f: write(f, 'test_batch.bin', [0, 0, 1]),
     'test_batch of .* has 1 images with label 1: expected 2 or more'),
  ],
)  # fmt: skip
def test_wrong_files_are_named(folder, change, message):
  change(folder)
  with pytest.raises(
    (errors.DataError, errors.MissingFileError), match=message
  ):
    images.make(path=str(folder), **SMALL)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(grey_levels=11), 'grey_levels is 11: expected 2 to 10'),
    (dict(grey_levels=3), '20 classes are needed, but 3 grey levels make 2'),
    (dict(pretrain_classes=4), 'pretrain_classes is 4: expected 10 or more'),
    (dict(num_days=30), '70 invented names, but there are 50'),
    (dict(noise=1.5), 'noise is 1.5: expected 0 to 1'),
    (dict(images_per_class=0), 'images_per_class is 0: expected 1 or more'),
    (dict(num_days=6, path='x'), '12 classes, but CIFAR-10 has 10'),
    (dict(size=5, path='x'), 'size is 5: expected a divisor of the 32'),
  ],
)
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(errors.DataError, match=message):
    images.make(**SMALL | settings)

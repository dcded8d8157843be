"""Dataset of small images as text; new classes arrive with each experience.

A pixel is one character, its grey level from '0' on, row after row; the label
follows. With the tokenizer 'bytes' a pixel is one token. The label is ranked
among all labels taught so far, as in `intents`: class-incremental learning, the
analogue of Split-CIFAR with 5 times 2 classes.

The images of pretraining are generated (`textures`). Those of the experiences
are generated too, or are those of CIFAR-10, made smaller. A label is an
invented name in both: a new pair of letters that pretraining has.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import cifar_files, dataset, invented_names, textures

_CONSONANTS = invented_names.CONSONANTS[:10]
_END = ':'  # Between the pixels and the label.
_HELD_OUT, _GUARD = 8, 6  # Images of each pretraining class.
_SCALE = 256  # Values of a CIFAR pixel.
# (number of images) -> (image [H, W] of grey levels, where it is from).
_Draw = Callable[[int], list[tuple[np.ndarray, str]]]


@dataclasses.dataclass(frozen=True)
class _Class:
  """A class of images: what draws those to train on and those to ask about."""

  train: _Draw
  ask: _Draw


def make(
  *,
  path: str | None = '',
  size: int = 8,
  grey_levels: int = 6,
  noise: float = 0.1,
  pretrain_classes: int = 10,
  num_days: int = 5,
  classes_per_day: int = 2,
  images_per_class: int = 100,
  probes_per_class: int = 30,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset.Dataset:
  """Returns a stream of image classes.

  Args:
    path: folder with the binary files of CIFAR-10 for the experiences, see
      `cifar_files`; empty: generated images.
    size: pixels per side; of CIFAR's 32 a divisor.
    grey_levels: number of them.
    noise: share of the pixels of a generated image that are random.
    pretrain_classes: classes of generated images in pretraining.
    num_days: number of experiences.
    classes_per_day: new classes in each of them.
    images_per_class: images of a class to train on; of CIFAR at most.
    probes_per_class: scored images of a class; of CIFAR at most.
    seed: draws everything.
    stream_seed: if set, the experiences have other generated classes, or those
      of CIFAR in another order and scored on training images: a stream for
      tuning. Pretraining is unchanged.

  Raises:
    MissingFileError, DataError: a file of CIFAR cannot be used, see
      `cifar_files`; or a number is out of range.
  """
  num_new = num_days * classes_per_day
  _check(grey_levels, noise, pretrain_classes, images_per_class)
  num = pretrain_classes + num_new
  labels = [
    consonant + vowel
    for consonant, vowel in invented_names.draw(
      np.random.default_rng([seed, 0]),
      _CONSONANTS,
      invented_names.VOWELS,
      num,
      what='images',
    )
  ]
  kinds = textures.all_orders(grey_levels)
  if num > len(kinds):
    raise errors.DataError(
      f'images: {num} classes are needed, but {grey_levels} grey levels make '
      f'{len(kinds)} orders of them: raise grey_levels, or lower '
      'pretrain_classes, num_days or classes_per_day.'
    )
  order = np.random.default_rng([seed, 1]).permutation(len(kinds))
  stream = 0 if stream_seed is None else 1 + stream_seed
  later = order[pretrain_classes:]
  if stream:
    later = np.random.default_rng([seed, 2, stream]).permutation(later)

  def generate(indices, stream: int) -> list[_Class]:
    return [
      _generated(
        np.random.default_rng([seed, 3, stream, number]), kinds[index],
        size=size, noise=noise,
      )
      for number, index in enumerate(indices)
    ]  # fmt: skip

  known = generate(order[:pretrain_classes], 0)
  if path:
    new = _of_cifar(path, num_new, size, grey_levels, seed, stream_seed)
  else:
    new = generate(later[:num_new], 1 + stream)
  return _dataset(
    dict(zip(labels[:pretrain_classes], known, strict=True)),
    [
      dict(
        zip(
          labels[pretrain_classes:][start : start + classes_per_day],
          new[start : start + classes_per_day],
          strict=True,
        )
      )
      for start in range(0, num_new, classes_per_day)
    ],
    images_per_class,
    probes_per_class,
  )


def _dataset(
  known: Mapping[str, _Class],
  days: list[dict[str, _Class]],
  images_per_class: int,
  probes_per_class: int,
) -> dataset.Dataset:
  """Returns the dataset of classes by label: of pretraining, and by day."""
  train = lambda classes: [
    _row(image, label, where)
    for label, one in classes.items()
    for image, where in one.train(images_per_class)
  ]
  ask = lambda classes, num: [
    _probe(image, label, where)
    for label, one in classes.items()
    for image, where in one.ask(num)
  ]
  return dataset.Dataset(
    name='images',
    pretrain=train(known),
    held_out=[
      _row(image, label, where)
      for label, one in known.items()
      for image, where in one.ask(_HELD_OUT)
    ],
    experiences=[
      (f'day {day}', train(classes)) for day, classes in enumerate(days, 1)
    ],
    probes={
      'pretrain': ask(known, probes_per_class),
      **{
        str(day): ask(classes, probes_per_class)
        for day, classes in enumerate(days, 1)
      },
    },
    guard=ask(known, _GUARD),
    candidates={
      'label': [
        (label, since)
        for since, classes in enumerate([known, *days])
        for label in classes
      ]
    },
    score='rank',
  )


def pixels(image_HW: np.ndarray) -> str:
  """Returns the text of an image: a character per pixel, row after row."""
  return ''.join(map(str, image_HW.ravel().tolist()))


def shrink(grey_HW: np.ndarray, *, size: int, grey_levels: int) -> np.ndarray:
  """Returns a smaller image, int [size, size], grey levels from 0.

  A pixel is the mean of a square of the old image, in `grey_levels` equal parts
  of the range.

  Args:
    grey_HW: [0, 256), sides of which `size` is a divisor.
  """
  block = len(grey_HW) // size
  mean_HW = grey_HW.reshape(size, block, size, block).mean((1, 3))
  return np.minimum(mean_HW * grey_levels // _SCALE, grey_levels - 1).astype(
    int
  )


def _generated(
  rng: np.random.Generator, order: textures.Order, *, size: int, noise: float
) -> _Class:
  """Returns a class that draws every image anew."""
  draw = lambda num: [
    (textures.draw(rng, order, size=size, noise=noise), 'a generated image')
    for _ in range(num)
  ]
  return _Class(draw, draw)


def _of_cifar(
  path: str,
  num: int,
  size: int,
  grey_levels: int,
  seed: int,
  stream_seed: int | None,
) -> list[_Class]:
  """Returns classes of CIFAR-10, in its order or, for tuning, in another one.

  In tuning one half of the training images is trained on, the other is scored.
  """
  if num > cifar_files.NUM_CLASSES:
    raise errors.DataError(
      f'images: num_days times classes_per_day is {num} classes, but CIFAR-10 '
      f'has {cifar_files.NUM_CLASSES}: lower one of the two.'
    )
  if size < 1 or cifar_files.SIDE % size:
    raise errors.DataError(
      f'images: size is {size}: expected a divisor of the {cifar_files.SIDE} '
      'pixels of a side of CIFAR, such as 8.'
    )
  train, test = cifar_files.read(path)
  rng = np.random.default_rng([seed, 4])
  order = np.arange(cifar_files.NUM_CLASSES)
  if stream_seed is not None:
    order = np.random.default_rng([seed, 5, stream_seed]).permutation(order)

  def draw(images: cifar_files.Images, numbers: np.ndarray) -> _Draw:
    return lambda count: [
      (
        shrink(images.grey_NHW[n], size=size, grey_levels=grey_levels),
        images.where_N[n],
      )
      for n in numbers[:count]
    ]

  found = []
  for label in order[:num]:
    taught, asked = (
      rng.permutation(np.flatnonzero(images.label_N == label))
      for images in (train, test)
    )
    for name, numbers in (('data_batch_*.bin', taught), ('test_batch', asked)):
      if len(numbers) < 2:
        raise errors.DataError(
          f'images: {name} of {path} has {len(numbers)} images with label '
          f'{label}: expected 2 or more of each class that is used.'
        )
    if stream_seed is not None:
      taught, asked = np.array_split(taught, 2)
    scored = test if stream_seed is None else train
    found.append(_Class(draw(train, taught), draw(scored, asked)))
  return found


def _row(image_HW: np.ndarray, label: str, where: str) -> dataset.Row:
  prompt = pixels(image_HW) + _END
  return dataset.Row(
    text=prompt + label, response_start=len(prompt), where=where
  )


def _probe(image_HW: np.ndarray, label: str, where: str) -> dataset.Probe:
  return dataset.Probe(
    prompt=pixels(image_HW) + _END,
    answer=label,
    candidates='label',
    where=where,
  )


def _check(grey_levels, noise, pretrain_classes, images_per_class) -> None:
  if not 2 <= grey_levels <= 10:
    raise errors.DataError(
      f'images: grey_levels is {grey_levels}: expected 2 to 10, because a '
      'pixel is one digit.'
    )
  if not 0 <= noise <= 1:
    raise errors.DataError(f'images: noise is {noise}: expected 0 to 1.')
  least = len(_CONSONANTS)
  if pretrain_classes < least:
    raise errors.DataError(
      f'images: pretrain_classes is {pretrain_classes}: expected {least} or '
      'more, so that pretraining has every letter of a label.'
    )
  if images_per_class < 1:
    raise errors.DataError(
      f'images: images_per_class is {images_per_class}: expected 1 or more.'
    )

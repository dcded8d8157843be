"""Dataset of facts whose answers change in format, or in domain, day by day.

Three streams ask whether a change of format makes a model forget more than a
change of domain. Each day has new things. With `change='none'` they are of one
domain, and the answers have one format. With `change='format'` the answers of
each day have another format. With `change='domain'` the things of each day are
of another domain. Day 1 and the pretraining text are the same in all. Each day
has as many things, facts, values and wordings in one stream as in another.

`none` is the control of `format`: in both, names and values are those of one
domain, and their difference is that of the format. In `domain` no day shares a
name or a value with another.

Pretraining has other things of every domain in every format, with every part of
a name and every value, so that neither a format nor a word is new: what is
forgotten is knowledge, or when to use which format. Exact answers need both.
The text score `contains` looks for the values only, in whatever format they
come; answers of different formats differ in length, so compare this one.

Reference: the question is that of ProtoAda (2606.02576), which is about images
and text; this protocol is ours.
"""

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset as dataset_lib
from sleep_jax.datasets import formats_words as words

_CHANGES = ('none', 'format', 'domain')
_FORMATS = tuple(words.FORMATS)
_NUM_NAMES = words.NUM_NAMES**2
_NUM_SCORED, _NUM_GUARD = 100, 100  # Probes of pretraining; of the guard.


def make(
  *,
  change: str = 'format',
  num_pretrain: int = 60,
  num_days: int = 4,
  subjects_per_day: int = 40,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset_lib.Dataset:
  """Returns one of the three streams.

  Args:
    change: what changes from day to day: 'none', 'format' or 'domain'.
    num_pretrain: things of each domain in the pretraining text; the first 20
      have every part of a name.
    num_days: number of experiences, at most 4.
    subjects_per_day: new things of each experience.
    seed: draws everything, also the order of formats and domains.
    stream_seed: if set, other things are drawn for the experiences: a stream
      for tuning.

  Raises:
    DataError: a setting is out of range.
  """
  _check(change, num_pretrain, num_days, subjects_per_day)
  rng = np.random.default_rng([seed, 0])
  # The same numbers of names in all domains, so that days match.
  names = _order_of_names(rng)
  pretrain, held_out, prior, guard = _pretrain(rng, names[:num_pretrain])
  domains = rng.permutation(len(words.DOMAINS))
  formats = rng.permutation(len(_FORMATS))

  stream = 0 if stream_seed is None else 1 + stream_seed
  rng = np.random.default_rng([seed, 1, stream])
  new_names = rng.permutation(names[num_pretrain:])
  experiences, probes = [], {'pretrain': prior}
  for day in range(num_days):
    domain = words.DOMAINS[domains[day if change == 'domain' else 0]]
    form = _FORMATS[formats[day if change == 'format' else 0]]
    start = day * subjects_per_day
    things = _things(rng, domain, new_names[start : start + subjects_per_day])
    where = f'formats, day {day + 1}'
    *learned, asked = words.WORDINGS
    experiences.append(
      (
        f'day {day + 1}, {domain.name}: {form}',
        [
          _row(domain, thing, wording, form, where)
          for thing in things
          for wording in learned
        ],
      )
    )
    probes[str(day + 1)] = [
      _probe(domain, thing, asked, form, where) for thing in things
    ]
  return dataset_lib.Dataset(
    name='formats', pretrain=pretrain, held_out=held_out,
    experiences=experiences, probes=probes, guard=guard,
    text_score=dataset_lib.TextScore('contains'),
  )  # fmt: skip


def _order_of_names(rng: np.random.Generator) -> np.ndarray:
  """Returns all numbers of names; the first have each part of a name once."""
  firsts, lasts = (rng.permutation(words.NUM_NAMES) for _ in range(2))
  covering = firsts * words.NUM_NAMES + lasts
  others = np.setdiff1d(np.arange(_NUM_NAMES), covering)
  return np.concatenate([covering, rng.permutation(others)])


_Thing = tuple[str, tuple[str, str]]  # Name and values of the attributes.


def _things(
  rng: np.random.Generator, domain: words.Domain, names: np.ndarray
) -> list[_Thing]:
  """Returns things of a domain, by the numbers of their names."""
  each = np.resize(np.arange(words.NUM_VALUES), len(names))
  values_N2 = np.stack([rng.permutation(each) for _ in range(2)], axis=1)
  return [
    (
      f'{domain.first[name // words.NUM_NAMES]} '
      f'{domain.last[name % words.NUM_NAMES]}',
      (domain.values[0][one], domain.values[1][two]),
    )
    for name, (one, two) in zip(names, values_N2, strict=True)
  ]


def _pretrain(rng: np.random.Generator, names: np.ndarray):
  """Returns rows, held-out rows, scored probes and probes of the guard.

  Each thing is asked about in every wording and format. Of every fifth, one row
  that is no probe is held out.
  """
  rows, held_out, probes = [], [], []
  where = 'formats, pretraining'
  for domain in words.DOMAINS:
    for number, thing in enumerate(_things(rng, domain, names)):
      asked = str(rng.choice(_FORMATS))
      probe = _probe(domain, thing, words.WORDINGS[-1], asked, where)
      probes.append(probe)
      own = [
        _row(domain, thing, wording, form, where)
        for wording in words.WORDINGS
        for form in _FORMATS
      ]
      if number % 5 == 4:
        held_out.append(own.pop(int(rng.integers(len(_FORMATS)))))
      rows += own
  probes = [probes[n] for n in rng.permutation(len(probes))]
  half = min(_NUM_SCORED, len(probes) // 2)
  return rows, held_out, probes[:half], probes[half : half + _NUM_GUARD]


def _prompt(domain: words.Domain, name: str, wording: str, form: str) -> str:
  return f'{wording.format(*domain.attributes, name)} {form}'


def _row(
  domain: words.Domain, thing: _Thing, wording: str, form: str, where: str
) -> dataset_lib.Row:
  name, values = thing
  prompt = _prompt(domain, name, wording, form)
  answer = words.FORMATS[form](name, domain.attributes, values)
  start = prompt.index(name)
  return dataset_lib.Row(
    text=f'{prompt} {answer}', response_start=len(prompt),
    subject=(start, start + len(name)), where=where,
  )  # fmt: skip


def _probe(
  domain: words.Domain, thing: _Thing, wording: str, form: str, where: str
) -> dataset_lib.Probe:
  name, values = thing
  answer = words.FORMATS[form](name, domain.attributes, values)
  return dataset_lib.Probe(
    prompt=_prompt(domain, name, wording, form), answer=f' {answer}',
    reference='\n'.join(values), where=where,
  )  # fmt: skip


def _check(
  change: str, num_pretrain: int, num_days: int, subjects_per_day: int
) -> None:
  if change not in _CHANGES:
    raise errors.DataError(
      f'formats: change is {change!r}: expected one of {_CHANGES}.'
    )
  for name, value, least in (
    ('num_pretrain', num_pretrain, 2), ('num_days', num_days, 1),
    ('subjects_per_day', subjects_per_day, 1),
  ):  # fmt: skip
    if value < least:
      raise errors.DataError(
        f'formats: {name} is {value}: set it to {least} or more.'
      )
  if num_days > len(_FORMATS):
    raise errors.DataError(
      f'formats: num_days is {num_days}, but there are {len(_FORMATS)} formats '
      'and as many domains: set it to that or less.'
    )
  needed = num_pretrain + num_days * subjects_per_day
  if needed > _NUM_NAMES:
    raise errors.DataError(
      f'formats: num_pretrain {num_pretrain} and {num_days} days of '
      f'{subjects_per_day} subjects need {needed} names of a domain, but there '
      f'are {_NUM_NAMES}: lower one of them.'
    )

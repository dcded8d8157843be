"""Dataset of several domains in turn: facts, arithmetic, invented languages.

Each experience is of one domain, and the domains take turns. All of them are in
the pretraining text, so a day brings new content of a known kind, and the
update of a day may interfere with those of the same domain or of another.

Reference: 2606.02398, of which the domains here are our reading:
docs/results/domains/README.md.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from sleep_jax import errors
from sleep_jax.datasets import dataset, domain_texts, facts

_PEOPLE_KNOWN = 60  # Of `facts`, in pretraining.
_NAMES_KNOWN = 60  # Of `arithmetic`.
_LANGUAGES_KNOWN = 20
_WORDS_PER_ITEM = 2  # A day of languages has as many rows as one of facts.
_MAX_PROBES = 150  # Scored questions about the pretraining of a domain.


def _facts(
  *, num_days: int, per_day: int, seed: int, stream: int
) -> dataset.Dataset:
  return facts.make(
    num_pretrain=_PEOPLE_KNOWN, num_days=num_days, people_per_day=per_day,
    seed=seed, stream_seed=stream - 1 if stream else None,
  )  # fmt: skip


def _arithmetic(**settings: int) -> dataset.Dataset:
  return domain_texts.arithmetic(num_pretrain=_NAMES_KNOWN, **settings)


def _languages(*, per_day: int, **settings: int) -> dataset.Dataset:
  return domain_texts.languages(
    num_pretrain=_LANGUAGES_KNOWN, per_day=_WORDS_PER_ITEM * per_day, **settings
  )


DOMAINS: dict[str, Callable[..., dataset.Dataset]] = {
  'facts': _facts, 'arithmetic': _arithmetic, 'languages': _languages,
}  # fmt: skip


def make(
  *,
  domains: Sequence[str] = ('facts', 'arithmetic', 'languages'),
  num_days: int = 6,
  items_per_day: int = 6,
  seed: int = 0,
  stream_seed: int | None = None,
) -> dataset.Dataset:
  """Returns a stream whose days take turns between domains.

  Args:
    domains: names of `DOMAINS`, in the order in which they take turns.
    num_days: number of experiences.
    items_per_day: new people or named numbers, or half the number of words of a
      new language.
    seed: draws everything.
    stream_seed: if set, the experiences have other content, and pretraining is
      unchanged: a stream for tuning.

  Raises:
    DataError: a domain is unknown or named twice, or a number does not fit.
  """
  _check(domains, num_days, items_per_day)
  stream = 0 if stream_seed is None else 1 + stream_seed
  turns = [domains[day % len(domains)] for day in range(num_days)]
  made = {
    name: DOMAINS[name](
      num_days=turns.count(name), per_day=items_per_day, seed=seed,
      stream=stream,
    )
    for name in domains
  }  # fmt: skip
  experiences = []
  probes = {'pretrain': _scored([*made.values()], seed)}
  for day, name in enumerate(turns, 1):
    number = turns[:day].count(name)
    _, rows = made[name].experiences[number - 1]
    experiences.append((f'day {day}, {name}', rows))
    probes[str(day)] = made[name].probes[str(number)]
  join = lambda groups: [*itertools.chain.from_iterable(groups)]
  return dataset.Dataset(
    name='domains',
    pretrain=join(one.pretrain for one in made.values()),
    held_out=join(one.held_out for one in made.values()),
    experiences=experiences,
    probes=probes,
    candidates={
      key: texts
      for one in made.values()
      for key, texts in one.candidates.items()
    },
  )


def _scored(made: Sequence[dataset.Dataset], seed: int) -> list[dataset.Probe]:
  """Returns questions about pretraining, as many of each domain at most."""
  found = []
  for number, one in enumerate(made):
    asked = one.probes['pretrain']
    rng = np.random.default_rng([seed, 5, number])
    found += [asked[i] for i in rng.permutation(len(asked))[:_MAX_PROBES]]
  return found


def _check(domains, num_days, items_per_day) -> None:
  unknown = [name for name in domains if name not in DOMAINS]
  if unknown or not domains or len({*domains}) < len(domains):
    raise errors.DataError(
      f'domains: domains is {tuple(domains)!r}: expected different names of '
      f'{tuple(DOMAINS)}.'
    )
  if num_days < len(domains):
    raise errors.DataError(
      f'domains: num_days is {num_days}: expected {len(domains)} or more, one '
      'for each domain.'
    )
  if items_per_day < 3:
    raise errors.DataError(
      f'domains: items_per_day is {items_per_day}: expected 3 or more.'
    )

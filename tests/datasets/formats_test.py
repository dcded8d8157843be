"""Tests of the formats dataset: three streams that match."""

import json

import pytest

from sleep_jax.datasets import formats, formats_words


@pytest.fixture(scope='module')
def streams():
  return {
    change: formats.make(change=change, num_pretrain=8, subjects_per_day=5)
    for change in ('none', 'format', 'domain')
  }


def test_names_and_values_of_all_domains_have_one_size():
  for domain in formats_words.DOMAINS:
    for names in (domain.first, domain.last):
      assert len(set(names)) == formats_words.NUM_NAMES
    for values in domain.values:
      assert len(set(values)) == formats_words.NUM_VALUES


@pytest.mark.parametrize('change', ['format', 'domain'])
def test_streams_have_the_same_pretraining_and_first_day(streams, change):
  one, other = streams['none'], streams[change]
  assert one.pretrain == other.pretrain and one.guard == other.guard
  assert one.held_out == other.held_out and one.held_out
  assert one.experiences[0] == other.experiences[0]
  assert one.probes['pretrain'] == other.probes['pretrain']
  assert one.probes['1'] == other.probes['1']
  sizes = lambda found: [len(rows) for _, rows in found.experiences]
  assert sizes(one) == sizes(other) == [10] * 4
  for made in (one, other):  # A run tells days apart by their names.
    assert len({name for name, _ in made.experiences}) == 4


def test_the_control_has_the_same_things_in_one_format(streams):
  for day in range(1, 5):
    one, other = (streams[change] for change in ('none', 'format'))
    subjects = [
      {row.text[slice(*row.subject)] for row in made.experiences[day - 1][1]}
      for made in (one, other)
    ]
    assert subjects[0] == subjects[1]
    values = lambda made, day=day: [p.reference for p in made.probes[str(day)]]
    assert values(one) == values(other)


@pytest.mark.parametrize('change', ['none', 'format', 'domain'])
def test_no_word_of_a_day_is_new(change):
  made = formats.make(change=change, seed=1)
  words = lambda text: {word.strip('.,;:"{}') for word in text.split()}
  known = set().union(*(words(row.text) for row in made.pretrain))
  for _, rows in made.experiences:
    assert set().union(*(words(row.text) for row in rows)) <= known


def test_only_what_is_named_changes_from_day_to_day(streams):
  kinds = {
    change: [
      name.partition(', ')[2].split(': ') for name, _ in found.experiences
    ]
    for change, found in streams.items()
  }
  domains, forms = zip(*kinds['format'], strict=True)
  assert len(set(domains)) == 1 and len(set(forms)) == 4
  domains, forms = zip(*kinds['domain'], strict=True)
  assert len(set(domains)) == 4 and len(set(forms)) == 1
  assert len(set(kinds['none'][n][0] for n in range(4))) == 1
  assert len(set(kinds['none'][n][1] for n in range(4))) == 1


def test_things_are_new_and_probes_ask_in_a_wording_that_no_row_of_a_day_has(
  streams,
):
  for found in streams.values():
    subject = lambda row: row.text[slice(*row.subject)]
    known = {subject(row) for row in found.pretrain}
    for day, (_, rows) in enumerate(found.experiences, 1):
      things = {subject(row) for row in rows}
      assert len(things) == 5 and not things & known
      known |= things
      learned = {row.text[: row.response_start] for row in rows}
      assert not learned & {probe.prompt for probe in found.probes[str(day)]}


def test_every_format_has_both_values(streams):
  for probe in streams['format'].probes['pretrain']:
    one, two = probe.reference.split('\n')
    assert one in probe.answer and two in probe.answer
    if 'JSON' in probe.prompt:
      assert [*json.loads(probe.answer).values()] == [one, two]


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    (dict(change='both'), "change is 'both': expected one of"),
    (dict(num_days=5), 'num_days is 5, but there are 4 formats'),
    (dict(num_days=0), 'num_days is 0: set it to 1 or more'),
    (dict(num_pretrain=390), 'need 550 names of a domain, but there are 400'),
  ],
)
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    formats.make(**settings)

"""Tests of the formats dataset: two streams that match."""

import json

import pytest

from sleep_jax.datasets import formats, formats_words


@pytest.fixture(scope='module')
def streams():
  return {
    change: formats.make(change=change, num_pretrain=8, subjects_per_day=5)
    for change in ('format', 'domain')
  }


def test_names_and_values_of_all_domains_have_one_size():
  for domain in formats_words.DOMAINS:
    for names in (domain.first, domain.last):
      assert len(set(names)) == formats_words.NUM_NAMES
    for values in domain.values:
      assert len(set(values)) == formats_words.NUM_VALUES


def test_both_streams_have_the_same_pretraining_and_first_day(streams):
  one, other = streams.values()
  assert one.pretrain == other.pretrain and one.guard == other.guard
  assert one.held_out == other.held_out and one.held_out
  assert one.experiences[0] == other.experiences[0]
  assert one.probes['pretrain'] == other.probes['pretrain']
  assert one.probes['1'] == other.probes['1']
  sizes = lambda found: [len(rows) for _, rows in found.experiences]
  assert sizes(one) == sizes(other) == [10] * 4


def test_only_what_is_named_changes_from_day_to_day(streams):
  kinds = {
    change: [name.split(': ') for name, _ in found.experiences]
    for change, found in streams.items()
  }
  domains, forms = zip(*kinds['format'], strict=True)
  assert len(set(domains)) == 1 and len(set(forms)) == 4
  domains, forms = zip(*kinds['domain'], strict=True)
  assert len(set(domains)) == 4 and len(set(forms)) == 1


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
    (dict(num_pretrain=390), 'need 470 names of a domain, but there are 400'),
  ],
)
def test_settings_out_of_range_are_named(settings, message):
  with pytest.raises(ValueError, match=message):
    formats.make(**settings)

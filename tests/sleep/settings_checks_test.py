"""Settings of a night are checked when they are made."""

import dataclasses

import pytest

from tests.sleep import nights


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (dict(teachers=[]), 'teachers is empty'),
    (dict(teachers=[nights.TEACHERS[0] | {'teacher': 'me'}]), "'me'.*'anchor'"),
    (dict(teachers=[nights.TEACHERS[0] | {'prompts': 'new'}]), "'new'.*'day'"),
    (dict(teachers=[nights.TEACHERS[0]] * 2), 'lists .* once'),
    (
      dict(teachers=[nights.TEACHERS[1] | {'skip_repeated': True}]),
      "skip_repeated on 'day' prompts",
    ),
    (dict(num_updates=50), '50 is not a multiple .* 20'),
    (dict(sender_after_sleep='gone'), "'gone'.*'cleared', 'updated'"),
    (dict(into='base', full='merge'), 'without experts no bank fills'),
    (dict(into='brain'), "into is 'brain': expected one of .'expert', 'base'"),
    (dict(full='burst'), "full is 'burst': expected one of .'error', 'merge'"),
    (dict(imitation=nights.IMITATION | {'completions': 1}), 'completions is 1'),
    (dict(imitation=nights.IMITATION, temperature=0), 'temperature is 0, but'),
    (dict(imitation=nights.IMITATION | {'cuts': 9}), 'needs 180 .* writes 16'),
  ],
)
def test_wrong_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    nights.make_settings(**changes)


def test_settings_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    nights.make_settings().beta = 1.0

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
      dict(teachers=[nights.TEACHERS[0] | {'draws': 0}]),
      'draws is 0: expected 1 or',
    ),
    (
      dict(teachers=[nights.TEACHERS[0] | {'cut_share': 1.5}]),
      'cut_share is 1.5: expected 0 to 1',
    ),
    (dict(num_updates=50), '50 is not a multiple .* 20'),
    (dict(sender_after_sleep='gone'), "'gone'.*'cleared', 'updated'"),
    (dict(on_policy=1.0), 'on_policy is 1.0'),
    (dict(beta=-0.1), 'beta is -0.1: expected 0'),
    (dict(beta=1.5), 'beta is 1.5: expected 0'),
    (dict(block_vocab=0), 'block_vocab is 0: expected 1'),
    (dict(into='base', full='merge'), 'without experts no bank fills'),
    (dict(priority=-1.0), 'priority is -1.0: expected 0'),
    (dict(into='brain'), "into is 'brain': expected one of .'expert', 'base'"),
    (dict(full='burst'), "full is 'burst': expected one of .'error', 'merge'"),
    (dict(average_decay=1.0), 'average_decay is 1.0: expected a number'),
    (
      dict(imitation=nights.IMITATION | {'alpha': 1.1}),
      'alpha is 1.1: expected 0',
    ),
    (
      dict(imitation=nights.IMITATION | {'stop_likelihood': -1.0}),
      'stop_likelihood is -1.0: expected 0 or more',
    ),
    (
      dict(imitation=nights.IMITATION | {'gamma': -1}),
      'gamma is -1: expected 0',
    ),
    (dict(imitation=nights.IMITATION | {'completions': 1}), 'completions is 1'),
    (dict(imitation=nights.IMITATION | {'cuts': 9}), 'needs 180 .* writes 16'),
  ],
)
def test_wrong_settings_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    nights.make_settings(**changes)


def test_settings_are_frozen():
  with pytest.raises(dataclasses.FrozenInstanceError):
    nights.make_settings().beta = 1.0

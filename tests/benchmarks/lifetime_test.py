"""A discarded handover is not counted, and the next one carries its days."""

from benchmarks import lifetime


def _night(sender, day, accepted=True):
  return dict(
    kind='night', phase='consolidate', sender=sender, experience=day,
    accepted=accepted, cpu_seconds=1.0,
  )  # fmt: skip


def test_days_of_a_discarded_handover_are_carried_by_the_next_one():
  scores = {day: {'1': 0.8, '2': 0.8, '3': 0.8, '4': 0.8} for day in (1, 2, 3)}
  scores[4] = {'1': 0.2, '2': 0.8, '3': 0.8, '4': 0.8}
  rows = [_night(2, 2, accepted=False), _night(2, 4)]
  (change,) = lifetime.handovers(rows, scores)
  assert change['day'] == 4
  assert round(change['change'], 6) == -0.2  # One of three days lost 0.6.

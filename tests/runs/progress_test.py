"""Progress: one redrawn line on a terminal, a few plain lines elsewhere."""

import io

import pytest

from sleep_jax.report import text_format
from sleep_jax.runs import progress


class Clock:
  """A clock whose time the test sets."""

  def __init__(self):
    self.now = 0.0

  def __call__(self):
    return self.now


class Terminal(io.StringIO):
  def isatty(self):
    return True


def show_phase(stream, seconds_per_step, total=100):
  """Returns what is shown of a phase whose steps take a given time."""
  clock = Clock()
  shown = progress.Progress(stream, clock=clock)
  with shown.phase('night 3', total) as phase:
    for _ in range(total):
      clock.now += seconds_per_step
      phase.advance(loss=0.5)
  return stream.getvalue()


def test_a_file_has_a_line_per_tenth_and_no_control_characters():
  lines = show_phase(io.StringIO(), seconds_per_step=2.0).splitlines()
  assert lines[0] == 'night 3: 100 to do'
  assert lines[1] == 'night 3: 10/100 (10 %), 3 min 00 s left, loss 0.5'
  assert lines[-1] == 'night 3: done in 3 min 20 s, loss 0.5'
  assert len(lines) == 11


def test_a_short_phase_has_a_line_for_its_start_and_its_end():
  assert len(show_phase(io.StringIO(), seconds_per_step=0.01).splitlines()) == 2


def test_a_slow_phase_has_a_line_at_least_every_minute():
  lines = show_phase(io.StringIO(), seconds_per_step=30.0).splitlines()
  assert len(lines) == 51  # Every 60 seconds of 50 minutes, start and end.


def test_a_terminal_has_one_line_that_is_redrawn():
  text = show_phase(Terminal(), seconds_per_step=2.0)
  assert text.count('\n') == 1
  assert text.count('\r') == 100


def test_a_message_on_a_terminal_replaces_the_redrawn_line():
  stream, clock = Terminal(), Clock()
  shown = progress.Progress(stream, clock=clock)
  with shown.phase('day 1', 10) as phase:
    clock.now = 1.0
    phase.advance()
    shown.say('saved')
  assert '\r\x1b[2Ksaved\n' in stream.getvalue()


def test_the_eta_does_not_count_the_first_step_which_compiles():
  clock = Clock()
  phase = progress.Progress(io.StringIO(), clock=clock).phase('day', 10)
  clock.now = 60.0
  phase.advance()
  assert phase.eta() is None
  clock.now = 61.0
  phase.advance()
  assert phase.eta() == pytest.approx(8.0)


def test_the_eta_of_a_resumed_phase_counts_its_new_steps_only():
  clock = Clock()
  shown = progress.Progress(io.StringIO(), clock=clock)
  phase = shown.phase('day', 100, start=90)
  phase.advance()
  clock.now = 2.0
  phase.advance()
  assert phase.eta() == pytest.approx(16.0)


def test_an_interrupted_phase_shows_how_far_it_was():
  stream = io.StringIO()
  shown = progress.Progress(stream, clock=Clock())
  with pytest.raises(KeyboardInterrupt), shown.phase('day', 10) as phase:
    phase.advance(4)
    raise KeyboardInterrupt
  assert 'stopped at 4/10' in stream.getvalue()


def test_durations_have_two_units():
  seconds = (0.42, 12, 185, 7620, 3599.7)
  expected = ['0.4 s', '12 s', '3 min 05 s', '2 h 07 min', '1 h 00 min']
  assert [text_format.duration(s) for s in seconds] == expected

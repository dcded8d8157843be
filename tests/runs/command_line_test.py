"""Messages of the commands: ours are shown, those of the libraries are not."""

import logging as standard_logging
import sys
import types
import warnings

import pytest
from absl import flags, logging

from sleep_jax.runs import command_line


@pytest.fixture
def hushed(monkeypatch):
  """Calls `suppress_library_warnings`; what it changes is restored."""
  monkeypatch.setattr(sys, 'unraisablehook', sys.unraisablehook)
  verbosity = logging.get_verbosity()
  with warnings.catch_warnings():
    command_line.suppress_library_warnings()
    yield
  logging.set_verbosity(verbosity)
  standard_logging.getLogger('asyncio').setLevel(standard_logging.NOTSET)


def _report(error):
  sys.unraisablehook(
    types.SimpleNamespace(
      exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None,
      object=None,
    )
  )  # fmt: skip


def test_writes_that_a_full_disk_left_unfinished_are_not_shown(hushed, capsys):
  _report(RuntimeError('Event loop is closed'))
  with warnings.catch_warnings(record=True) as shown:
    warnings.warn('coroutine x was never awaited', RuntimeWarning, stacklevel=1)
  assert capsys.readouterr().err == '' and shown == []


@pytest.mark.parametrize('given', [False, True])
def test_the_log_is_hidden_unless_verbosity_is_given(monkeypatch, given):
  before = logging.get_verbosity()
  monkeypatch.setattr(flags.FLAGS['verbosity'], 'present', given)
  command_line.show_errors_only()
  found = logging.get_verbosity()
  logging.set_verbosity(before)
  assert found == (before if given else logging.ERROR)


def test_other_errors_and_warnings_are_shown(monkeypatch):
  shown: list = []
  verbosity = logging.get_verbosity()
  monkeypatch.setattr(sys, 'unraisablehook', shown.append)
  with warnings.catch_warnings():
    command_line.suppress_library_warnings()
    logging.set_verbosity(verbosity)
    standard_logging.getLogger('asyncio').setLevel(standard_logging.NOTSET)
    _report(RuntimeError('another'))
    _report(RuntimeError('Event loop is closed'))
    with pytest.warns(UserWarning, match='another'):
      warnings.warn('another', UserWarning, stacklevel=1)
  (found,) = shown
  assert str(found.exc_value) == 'another'


@pytest.mark.parametrize(
  'flag, message',
  [
    ('--wanted=many', "--wanted=many: 'many' is not a whole number. --help"),
    ('--seconds=nan', '--seconds is nan: expected a finite number.'),
    ('--seconds=inf', '--seconds is inf: expected a finite number.'),
    (
      '--wantd=1',
      "Unknown command line flag 'wantd'. Did you mean: wanted. --help",
    ),
    ('--config.wake.steps=3', '--config.wake.steps=3 changes a field of a'),
    ('', '--wanted is missing: How many there are. --help lists all flags.'),
  ],
)
def test_a_wrong_flag_is_one_sentence_that_says_what_to_do(
  flag, message, monkeypatch, capsys
):
  values = flags.FlagValues()
  flags.DEFINE_integer(
    'wanted', None, 'How many there are. More of it.', flag_values=values
  )
  flags.mark_flag_as_required('wanted', flag_values=values)
  flags.DEFINE_float('seconds', 1, 'How long.', 0, flag_values=values)
  monkeypatch.setattr(flags, 'FLAGS', values)
  monkeypatch.setattr(
    'sleep_jax.runtime.processes.exit_now', lambda status: None
  )
  given = ['--wanted=1'] if 'seconds' in flag else []
  with pytest.raises(SystemExit):
    command_line.parser()(['run', *given, *filter(None, [flag])])
  assert capsys.readouterr().err.startswith(f'error: {message}')


@pytest.mark.parametrize(
  'argv, message',
  [
    (['small.py'], "'small.py': did you mean --config=small.py?"),
    (['smoke'], "'smoke': did you mean --config=smoke?"),
    (['seeding:literal', '--workdir=a'], 'did you mean --config=seeding:lit'),
    (['--workdir=a', '--config=tiny', 'runs/a'], "'runs/a': values belong to"),
    (['--workdir', 'a', 'b'], "'b': values belong to a flag"),
  ],
)
def test_a_word_that_would_be_ignored_is_refused(
  argv, message, monkeypatch, capsys
):
  values = flags.FlagValues()
  flags.DEFINE_string('workdir', None, 'Folder.', flag_values=values)
  flags.DEFINE_string('config', None, 'What to run.', flag_values=values)
  flags.mark_flag_as_required('config', flag_values=values)
  monkeypatch.setattr(flags, 'FLAGS', values)
  monkeypatch.setattr(
    'sleep_jax.runtime.processes.exit_now', lambda status: None
  )
  with pytest.raises(SystemExit):
    command_line.parser()(['run', *argv])
  error = capsys.readouterr().err
  assert error.startswith('error: Unexpected argument') and message in error


def test_a_command_may_take_words(monkeypatch):
  values = flags.FlagValues()
  flags.DEFINE_string('model', None, 'A model.', flag_values=values)
  monkeypatch.setattr(flags, 'FLAGS', values)
  parse = command_line.parser(takes_words=True)
  assert parse(['convert', 'out', '--model=a']) == ['convert', 'out']


def test_two_configs_are_refused(monkeypatch, capsys):
  """The overrides of one of them would be lost."""
  monkeypatch.setattr(
    'sleep_jax.runtime.processes.exit_now', lambda status: None
  )
  argv = ['run', '--config=tiny', '--config.wake.steps=3', '--config=smoke']
  with pytest.raises(SystemExit):
    command_line.parser()(argv)
  assert 'Found --config=tiny and --config=smoke' in capsys.readouterr().err

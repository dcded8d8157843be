"""Talk to a model that learns overnight what was said.

    sleep-jax chat --model=FOLDER --workdir=runs/chat

Commands: /sleep (consolidate today's messages), /forget NIGHT [--erase]
[--rollback], /status, /save, /quit. Ctrl-C stops an answer, not the chat.
"""

import contextlib
import io
import sys

from absl import app, flags

from sleep_jax import errors
from sleep_jax.runs import command_line

_CONFIG = command_line.define_config(
  'How nights are spent (default: that of the folder or run, else chat).'
)
_MODEL = flags.DEFINE_string(
  'model', None,
  'Hugging Face model directory, GGUF file, name of a model that was fetched, '
  'or work directory of a run.',
)  # fmt: skip
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  "Folder of the days, their run, and today's messages; an "
  'existing one is continued.',
)
_MAX_NEW = flags.DEFINE_integer(
  'max_new', 256, 'Maximum number of tokens of an answer.', 1
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 0.0, 'Sampling temperature; 0: take the likeliest token.', 0.0
)
_HELP = (
  'Commands: /sleep, /status, /forget NIGHT [--erase] [--rollback], /save, '
  '/quit. Anything else is a message to the model.'
)


def main(argv):
  del argv  # The parser refuses words that are no flags.
  if not flags.FLAGS['verbosity'].present:
    command_line.suppress_library_warnings()
  from sleep_jax import api
  from sleep_jax.runs import chat_session

  if isinstance(sys.stdin, io.TextIOWrapper):
    # A byte that is not UTF-8 is refused together with its message only.
    sys.stdin.reconfigure(errors='surrogateescape')
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors='replace')
  try:
    learner = api.load(_MODEL.value, _WORKDIR.value, config=_CONFIG.value)
    with learner.session.hold():
      chat = chat_session.ChatSession(
        learner, max_new=_MAX_NEW.value, temperature=_TEMPERATURE.value
      )
      learner.chat_template()
      _talk(chat)
  except (errors.SleepJaxError, ValueError, OSError) as error:
    command_line.exit_with_error(error)
  except KeyboardInterrupt:
    print('\n(ended; what was said is kept)', file=sys.stderr)
    sys.exit(130)


def _talk(chat) -> None:
  """Reads lines and answers them until the end of input or /quit."""
  print(_HELP)
  for note in chat.notes():
    print(note)
  if chat.is_unanswered:
    print(f'> {chat.messages[-1]["content"]}')
    _turn(chat, '')
  while True:
    try:
      text = input('> ').strip()
    except (EOFError, KeyboardInterrupt):
      print()
      break
    if text == '/quit':
      break
    if text:
      _turn(chat, text)
  chat.save()


def _turn(chat, text: str) -> None:
  """Handles one line of input; '' answers the last message of a chat."""
  try:
    if not text:
      _print(chat.answer())
    elif text == '/sleep':
      for night in chat.sleep():
        outcome = 'kept' if night['accepted'] else 'discarded'
        print(f'night {night["night"]}: {outcome}')
    elif text == '/status':
      print(chat.status())
    elif text.split()[0] == '/forget':
      _forget(chat, text.split()[1:])
    elif text == '/save':
      chat.save()
      print('saved')
    elif text.startswith('/'):
      print(f'{text} is not a command. {_HELP}')
    else:
      _print(chat.say(text))
  except KeyboardInterrupt:
    night = text == '/sleep'
    print(f'\n(stopped{"; the next /sleep continues" if night else ""})')
  except (errors.SleepJaxError, ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)


def _print(answer) -> None:
  """Prints an answer as it is generated."""
  with contextlib.closing(answer) as pieces:
    for piece in pieces:
      print(piece, end='', flush=True)
  print()


def _forget(chat, words: list[str]) -> None:
  options = set(words[1:])
  if not (words and words[0].isdigit()) or options - {'--erase', '--rollback'}:
    raise errors.UsageError(
      '/forget needs the number of a night, as in /forget 3; --erase also '
      'deletes its text, and --rollback undoes the nights after it.'
    )
  night = int(words[0])
  if options:
    return _erase(chat, night, rollback='--rollback' in options)
  done = chat.forget(night, _confirm)
  days = ' The text stays: /forget NIGHT --erase deletes it.' if done else ''
  print(f'{"forgotten." if done else "kept."}{days}')


def _erase(chat, night: int, rollback: bool) -> None:
  from sleep_jax.runs import erasure

  plan = erasure.make_plan(chat.session, night, rollback=rollback)
  if not _confirm(plan.describe()):
    print('kept.')
    return
  left = erasure.carry_out(chat.session, plan)
  if plan.file is None:
    print('erased. The text was gone before, so it was not searched for.')
    return
  print('erased.' if not left else 'erased, but parts of the text remain:')
  for place in left:
    print(f'  {place.path}: {place.excerpt!r} ({place.what})')


def _confirm(where: str) -> bool:
  try:
    return input(f'{where} Go on? [y/N] ').strip().lower() in ('y', 'yes')
  except EOFError:
    print()
    return False


if __name__ == '__main__':
  flags.adopt_module_key_flags(command_line)
  flags.mark_flags_as_required(['model', 'workdir'])
  app.run(main, flags_parser=command_line.parser())

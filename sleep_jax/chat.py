"""Entry: python -m sleep_jax.chat --model=FOLDER --workdir=runs/chat.

Talk; then /sleep (a night about what was said), /forget NIGHT, /status, /save,
/quit.
Ctrl-C stops an answer, not the conversation.
"""

import contextlib
import io
import sys
import warnings

from absl import app, flags, logging
from ml_collections import config_flags

_CONFIG = config_flags.DEFINE_config_file(
  'config', 'configs/chat.py', 'How nights are spent.', lock_config=True
)
_MODEL = flags.DEFINE_string('model', None, 'A Hugging Face model directory.')
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Keeps the days, the life and what was said today.'
)
_MAX_NEW = flags.DEFINE_integer('max_new', 256, 'Tokens of an answer.', 1)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', 0.0, '0: the likeliest words.', 0.0
)
_HELP = (
  '/sleep, /status, /forget NIGHT, /save, /quit; anything else is said to the '
  'model.'
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments {argv[1:]}: flags start with --.')
  logging.set_verbosity(logging.ERROR)
  # A night gives away what it does not keep: that is meant.
  warnings.filterwarnings('ignore', 'Some donated buffers were not usable')
  from sleep_jax.runs import chat_session

  try:
    talk = chat_session.ChatSession(
      _CONFIG.value, _WORKDIR.value, _MODEL.value, max_new=_MAX_NEW.value,
      temperature=_TEMPERATURE.value,
    )  # fmt: skip
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    sys.exit(1)
  print(_HELP)
  while True:
    try:
      text = input('> ').strip()
    except (EOFError, KeyboardInterrupt):
      print()
      break
    if text == '/quit':
      break
    if text:
      _turn(talk, text)
  talk.save()


def _turn(talk, text: str) -> None:
  """One line of the user's."""
  try:
    if text == '/sleep':
      # The table of a study has nothing to say without questions.
      with contextlib.redirect_stdout(io.StringIO()):
        nights = talk.sleep()
      outcome = 'kept' if nights[-1]['accepted'] else 'discarded'
      print(f'night {nights[-1]["night"]}: {outcome}')
    elif text == '/status':
      print(talk.status())
    elif text.split()[0] == '/forget':
      _forget(talk, text.split()[1:])
    elif text == '/save':
      talk.save()
      print('saved')
    elif text.startswith('/'):
      print(f'{text} is no command: {_HELP}')
    else:
      for piece in talk.say(text):
        print(piece, end='', flush=True)
      print()
  except KeyboardInterrupt:
    night = text == '/sleep'
    print(f'\n(stopped{"; the next /sleep goes on" if night else ""})')
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)


def _forget(talk, said: list[str]) -> None:
  """Forgets the night that was named."""
  if len(said) != 1 or not said[0].isdigit():
    raise ValueError('/forget needs the number of a night, as in /forget 3.')
  done = talk.forget(int(said[0]), _sure)
  kept = ' Its words stay in the folder of days.' if done else ''
  print(f'{"forgotten." if done else "kept."}{kept}')


def _sure(where: str) -> bool:
  try:
    return input(f'{where} Forget it? [y/N] ').strip().lower() in ('y', 'yes')
  except EOFError:
    print()
    return False


if __name__ == '__main__':
  flags.mark_flags_as_required(['model', 'workdir'])
  app.run(main)

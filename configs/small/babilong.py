"""Does sleep keep facts that a context window of the same size has lost?

A story of bAbI, task 1, is scattered in filler text of 0.8, 1.7 or 3.3
windows. The text is read in pages of one window; each night consolidates the
window. The question is asked without the text on the next morning, and with
only the end of the text in front of it (truncation). A small model that is
pretrained here.

    sleep-jax run --config=small/babilong --workdir=runs/babilong
    sleep-jax run --config=small/babilong:640 --workdir=runs/babilong_640

The argument is the tokens of a text, 160, 320 or 640 (nearly), and the number
of levels, 1 to 4. Results: docs/results/babilong/.
"""

from configs.small import niah


def get_config(argument: str = '320:2'):
  length, num_levels = niah.parse(argument, niah.LENGTHS)
  window = niah.LENGTHS[0]
  c = niah.get_config(f'{window}:{num_levels}')
  c.name = f'babilong_{length}_{num_levels}'
  c.data.dataset = 'babilong'
  # 110 words with a title and a question are at most 150 tokens.
  c.data.settings.update(words=110 * length // window, page=110)
  return c

"""Learns what a pretrained model is told or given to read, day by day.

The default of `sleep-jax chat` and `sleep_jax.load`. As configs/pretrained.py:
the model writes questions about the messages or pages of its day, and learns
its own answers. These are more rows than a person would write, about 90 on five
pages, so each is read half as often. After three days of pages the model then
answers 0.67 instead of 0.77 of the questions, and perplexity is 0.4 % instead
of 4.6 % higher. Levels are `independent`, so `convert out` is exact.

    sleep-jax chat --model=smollm2 --workdir=runs/chat

Days of rows were measured with configs/pretrained.py, which reads them ten
times. Results: docs/results/real/.
"""

from configs import pretrained


def get_config():
  c = pretrained.get_config()
  c.name = 'chat'
  c.wake.epochs = 5.0
  # Without decay a day of conversations raises perplexity by 1.3 %.
  (awake,) = c.wake.optimizers
  c.wake.optimizers = (awake | dict(weight_decay=0.15),)
  # It is asked about people, and would say of all what it was told of some.
  c.replay.update(own_texts=320, about_people=64)
  return c

"""Learns what a pretrained model is told or given to read, day by day.

The default of `sleep-jax chat` and `sleep_jax.load`. As configs/pretrained.py:
the model writes questions about the messages or pages of its day, and learns
its own answers. These are five times as many rows as a person would write, so
each is read half as often: that keeps more of the language, and costs the next
morning little. Levels are `independent`, so `convert out` is exact.

    sleep-jax chat --model=smollm2 --workdir=runs/chat

Measured on pages and conversations, see docs/results/real/.
"""

from configs import pretrained


def get_config():
  c = pretrained.get_config()
  c.name = 'chat'
  c.wake.epochs = 5.0
  return c

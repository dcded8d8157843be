"""A model to talk to: each day's conversation is a document of its night.

    python -m sleep_jax.chat --model=FOLDER --workdir=runs/chat

As configs/documents.py: nothing moves awake. When the bank is full, two nights
become one.
"""

from configs import documents


def get_config():
  c = documents.get_config()
  c.name = 'chat'
  c.data.context = 256
  c.data.batch_size = 1
  c.wake.steps = 4
  c.replay.day = 64
  c.consolidate.full = 'merge'
  return c

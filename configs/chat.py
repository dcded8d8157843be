"""Can a chat model remember conversations from earlier days?

The messages of a day are the documents of its night, as in
configs/documents.py: no weight is updated awake, and the night trains one
expert. When the bank is full, two experts are merged.

    sleep-jax chat --model=FOLDER --workdir=runs/chat
"""

from configs import documents


def get_config():
  c = documents.get_config()
  c.name = 'chat'
  c.data.context = 256
  c.data.batch_size = 1
  c.replay.day = 64
  c.consolidate.full = 'merge'
  return c

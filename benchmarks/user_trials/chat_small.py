"""A chat with nights of seconds, for the trials."""

from configs import documents


def get_config():
  c = documents.get_config()
  c.name = 'chat_small'
  reader, own = c.levels
  c.levels = (reader | dict(hidden=16, slots=4, rank=4), own)
  c.data.update(context=256, batch_size=1)
  c.replay.update(past=16, day=16)
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=4, draws=4) for teacher in c.consolidate.teachers
  )
  c.expert_optimizer.warmup = 1
  c.consolidate.full = 'merge'
  c.consolidate.update(num_updates=4, updates_per_round=2, max_new=8)
  return c

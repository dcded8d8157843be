"""The smallest chat: a day is read overnight, and two experts are merged."""

from benchmarks.fault_cases.configs import facts
from configs import documents


def get_config():
  c = facts.shrink(documents.get_config())
  c.name = 'faults'
  c.data.update(context=64, max_prompt=48, overlap=16, batch_size=1)
  c.data.settings.templates = ()
  c.wake.steps = 8
  reader, own = c.levels
  c.levels = (
    reader | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=2,
      rank=4,
    ),
    own | dict(slots=0, rank=0),
  )  # fmt: skip
  c.wake.optimizers = (dict(learning_rate=0.0),)
  c.consolidate.full = 'merge'
  c.consolidate.update(max_length=64, max_new=16, prompt_width=48)
  return c

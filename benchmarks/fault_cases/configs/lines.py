"""The smallest run on a folder of the user's own days."""

from benchmarks.fault_cases.configs import facts
from configs import jsonl


def get_config():
  c = facts.shrink(jsonl.get_config())
  c.name = 'faults'
  # Programs depend on the vocabulary, which other days must not change.
  c.tokenizer.update(kind='bytes')
  c.data.update(context=24, max_prompt=12)
  c.wake.steps = 4
  c.consolidate.num_updates = 4
  return c

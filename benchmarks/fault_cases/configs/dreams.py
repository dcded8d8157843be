"""The smallest run whose nights dream and whose strategies are tuned."""

from benchmarks.fault_cases.configs import facts


def get_config():
  c = facts.get_config()
  c.data.settings = dict(
    num_pretrain=8, num_days=1, people_per_day=2, attributes=3, values=4,
    practice=1, readings=8,
  )  # fmt: skip
  c.data.update(context=40, max_prompt=30)
  c.consolidate.update(max_length=24, max_new=8, prompt_width=16)
  c.dream.update(on=True, whole=False)
  return c

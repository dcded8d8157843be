"""The smallest run with days, nights and probes: for the fault campaign.

Scores mean nothing. Most of the time is spent in tracing programs.
"""

from configs import tiny


def get_config():
  c = tiny.get_config()
  c.name = 'faults'
  c.data.settings = dict(
    num_pretrain=8, num_days=2, people_per_day=2, attributes=2, values=4
  )
  return shrink(c)


def shrink(c):
  """Returns a config with the sizes of this campaign; changes it in place."""
  c.strategies = ('sleep',)
  c.data.update(context=16, max_prompt=12, prefix=8, batch_size=4)
  c.tokenizer.vocab_size = 512
  c.model.update(
    width=16, num_layers=1, num_heads=4, num_kv_heads=2, head_size=4, unroll=1
  )
  day, own = c.levels
  c.levels = (day | dict(hidden=16), own | dict(hidden=16, slots=4, rank=4))
  c.pretrain.steps = 8
  c.pretrain.optimizer.update(learning_rate=1e-2, warmup=1, decay_steps=8)
  c.wake.steps = 12
  c.tune.update(learning_rates=(1e-2,), experiences=1)
  c.replay.update(pretrain=16, past=16, day=16)
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=4, draws=4) for teacher in c.consolidate.teachers
  )
  c.consolidate.update(
    num_updates=12, updates_per_round=2, max_length=16, max_new=4,
    prompt_width=12,
  )  # fmt: skip
  c.expert_optimizer.warmup = 1
  c.dream.update(
    on=False, candidates=4, texts=2, top=2, random=1, old=4, sequences=4,
    num_updates=4, updates_per_round=2,
  )  # fmt: skip
  c.dream.writer.update(steps=2, batch=4)
  c.evaluate.update(chunk=16, held_out_batches=1)
  c.evaluate_samples = 1
  c.checkpoint.every_seconds = 0.0  # A save after every step.
  return c

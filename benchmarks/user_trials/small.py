"""The user's own days with the smallest model: a run of seconds for the trials.

Scores mean nothing.
"""

from configs import jsonl


def get_config():
  c = jsonl.get_config()
  c.name = 'small'
  c.strategies = ('sleep',)
  c.data.update(context=48, max_prompt=40, prefix=8, batch_size=4)
  c.tokenizer.update(kind='bytes')
  c.model.update(
    width=16, num_layers=1, num_heads=4, num_kv_heads=2, head_size=4, unroll=1
  )
  day, own = c.levels
  c.levels = (day | dict(hidden=16), own | dict(hidden=16, slots=6, rank=4))
  c.pretrain.steps = 4
  c.pretrain.optimizer.update(warmup=1, decay_steps=4)
  c.wake.steps = 4
  c.replay.update(pretrain=16, past=16, day=16)
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=4, draws=4) for teacher in c.consolidate.teachers
  )
  c.consolidate.update(
    num_updates=4, updates_per_round=2, max_length=48, max_new=4,
    prompt_width=40,
  )  # fmt: skip
  c.expert_optimizer.warmup = 1
  c.evaluate.update(chunk=16, held_out_batches=1)
  c.evaluate_samples = 1
  return c

"""Does a complete run work on this mesh, machine or set of processes?

The model is so small that only compiling takes time. The run has days, nights
that train an expert each, and dreams that are tried and rewarded. Its scores
mean nothing.

    sleep-jax run --config=tiny --workdir=runs/tiny
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'tiny'
  c.strategies = ('sleep',)
  c.data.settings = dict(
    num_pretrain=16, num_days=2, people_per_day=4, attributes=3, values=4,
    practice=1, readings=64,
  )  # fmt: skip
  c.data.update(context=40, batch_size=16)
  c.tokenizer.vocab_size = 512
  c.model.update(
    width=32, num_layers=2, num_heads=8, num_kv_heads=4, head_size=8, unroll=1
  )
  day, own = c.levels
  c.levels = (day | dict(hidden=64), own | dict(hidden=64, slots=4, rank=8))
  c.pretrain.steps = 40
  c.pretrain.optimizer.update(learning_rate=1e-2, warmup=4, decay_steps=40)
  c.wake.steps = 8
  c.replay.update(pretrain=64, past=64, day=64)
  c.consolidate.teachers = tuple(
    teacher | dict(sequences=16, draws=16) for teacher in c.consolidate.teachers
  )
  # Lengths that every mesh axis of eight devices divides.
  c.consolidate.update(
    num_updates=8, updates_per_round=4, max_length=16, prompt_width=16,
    max_new=8,
  )  # fmt: skip
  c.expert_optimizer.warmup = 1
  # After so short a pretraining no text ends, so unfinished texts count.
  c.dream.update(
    on=True, whole=False, candidates=16, texts=2, top=6, random=2, old=16,
    sequences=16, num_updates=8, updates_per_round=4,
  )  # fmt: skip
  c.dream.writer.update(steps=4, batch=8)
  c.evaluate.update(chunk=64, held_out_batches=1)
  c.evaluate_samples = 1
  return c

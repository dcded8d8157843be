"""Can dreams choose how to learn from each of a sequence of ARC tasks?

Each day brings one task of ARC-AGI-1 (Chollet 2019, Apache-2.0). The model is
pretrained on other, solved tasks. A night writes 60 dreams of the task and
tries 15 of them, as in the paper. Compares `sleep` with `seal` and `sft`.

    sleep-jax run --config=arc --config.data.path=FILE \
      --config.data.settings.pretrain=FILE --workdir=runs/arc

Both files hold JSON lines {"id", "train", "test"}. Results: docs/results/arc/.
"""

from ml_collections import config_dict

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'arc'
  c.strategies = ('sleep', 'seal', 'sft')
  c.data.dataset = 'arc'
  c.data.settings = dict(
    pretrain=config_dict.placeholder(str), num_days=8, longest=380
  )
  c.data.context = 384
  c.data.max_prompt = 384
  c.data.prefix = 16  # BOS and 'Task 017c7c7b', in bytes.
  c.data.batch_size = 8
  c.data.day_batch_size = 1
  c.tokenizer = dict(kind='bytes')
  c.levels = (c.levels[0], c.levels[1] | dict(slots=8))
  c.pretrain.steps = 1000
  c.pretrain.optimizer.decay_steps = 1000
  c.wake.steps = 8
  c.tune = dict(learning_rates=(1e-4, 3e-4, 1e-3), experiences=2)
  c.replay.update(pretrain=256, past=64, day=16)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=8, draws=24, bos_share=0.3, template_share=0.0),
    day | dict(sequences=4, draws=8, template_share=0.0),
  )
  c.consolidate.num_updates = 60
  c.consolidate.updates_per_round = 20
  c.consolidate.max_length = 384
  c.consolidate.prompt_width = 384
  c.consolidate.max_new = 383
  c.dream.update(
    on=True, rounds=1, candidates=60, texts=1, top=12, random=3, old=8,
    sequences=8,
    num_updates=40, updates_per_round=20,
  )  # fmt: skip
  c.dream.trial.update(steps=16, batch=4)
  c.dream.writer.update(steps=20, batch=8)
  c.self_edit.update(steps=40, batch=4)
  c.evaluate.chunk = 8
  return c

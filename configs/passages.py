"""Eight passages in a row, all asked again after each: SEAL's own test.

SQuAD rows (Rajpurkar et al. 2016, CC BY-SA 4.0), {"title", "context",
"question", "answers"}; a small model born on text of one's own ({"text"}, such
as books). One question of each passage is kept for dreams to be tried on.

    python -m sleep_jax.main --config=configs/passages.py \
      --config.data.path=FILE --config.data.settings.pretrain=BOOKS \
      --workdir=runs/passages

One passage alone: --config.data.settings.num_days=1. Many at once, continued
pretraining: and .passages_per_day=200, levels and steps to match.
"""

from ml_collections import config_dict

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'passages'
  c.strategies = ('sleep', 'seal', 'sft')
  c.seeds = (0, 1, 2)
  c.data.dataset = 'passages'
  c.data.settings = dict(
    pretrain=config_dict.placeholder(str), num_days=8, practice=1
  )
  c.data.context = 256
  c.data.overlap = 32  # Longer texts are read in windows.
  c.data.max_prompt = 96
  c.data.prefix = 48
  c.data.batch_size = 16
  c.data.day_batch_size = 2  # A passage is one window, or two.
  c.tokenizer.vocab_size = 4096
  c.levels = (c.levels[0], c.levels[1] | dict(slots=8))
  c.pretrain.steps = 1000
  c.pretrain.optimizer.decay_steps = 1000
  c.wake.steps = 60
  c.tune = dict(learning_rates=(1e-4, 3e-4, 1e-3), experiences=2)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=24, draws=96, bos_share=0.3),
    day | dict(sequences=8, draws=32, template_share=0.0),
  )
  c.consolidate.num_updates = 100
  c.consolidate.updates_per_round = 20
  c.consolidate.max_length = 96
  c.consolidate.prompt_width = 48
  c.consolidate.max_new = 64
  # Five dreams of a passage, as in the paper; none comes to an end of its own.
  c.dream.update(
    rounds=2, candidates=10, texts=4, whole=False, top=4, random=1, repeats=2,
    old=24, sequences=8, reading=4, num_updates=60, updates_per_round=20,
  )  # fmt: skip
  c.dream.writer.update(batch=8, learning_rate=5e-4)
  c.evaluate.chunk = 32
  return c

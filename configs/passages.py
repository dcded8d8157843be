"""How much of a sequence of passages is remembered? The test of SEAL.

Eight days bring one passage of SQuAD each (Rajpurkar et al. 2016, CC BY-SA
4.0), and the questions of all passages are asked after every day. One question
of each passage is not scored; dreams are tried on it. Compares `sleep` with
`seal` and `sft`.

    sleep-jax run --config=passages --config.data.path=FILE \
      --config.data.settings.pretrain=BOOKS --workdir=runs/passages

FILE holds rows {"title", "context", "question", "answers"}; BOOKS holds rows
{"text"} for pretraining. A single passage: --config.data.settings.num_days=1.
Continued pretraining on many passages at once: also .passages_per_day=200, with
levels and steps to match. Results: docs/results/passages/.
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
  c.data.overlap = 32  # Tokens shared by the windows of a longer text.
  c.data.max_prompt = 96
  c.data.prefix = 48
  c.data.batch_size = 16
  c.data.day_batch_size = 2  # A passage has one or two windows.
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
  # Five dreams of a passage are tried, as in the paper. Texts rarely end on
  # their own, so unfinished ones count.
  c.dream.update(
    rounds=2, candidates=10, texts=4, whole=False, top=4, random=1, repeats=2,
    old=24, sequences=8, reading=4, num_updates=60, updates_per_round=20,
  )  # fmt: skip
  c.dream.writer.update(batch=8, learning_rate=5e-4)
  c.evaluate.chunk = 32
  return c

"""Your own days: each file of JSON lines is one, lived in the order of names.

    python -m sleep_jax.main --config=configs/jsonl.py \
      --config.data.path=DAYS --workdir=runs/mine

DAYS is a file, a folder or a quoted pattern; a row is {"text": ...} or
{"prompt": ..., "response": ...}. Any of these may be added:

    --config.data.settings.probes=FILE  Questions, {"prompt", "answer"} rows
      and, in "experience", the day they ask about: its file's name without
      .jsonl. Without them: held-out loss, and the drift from the newborn.
    --config.data.settings.pretrain=FILE   Text known before the first day.
    --config.data.settings.field=NAME   A day is a value of this field.
    --config.pretrain.restore=WORKDIR  The initial model of an earlier run, and
      its tokenizer, instead of pretraining.

With neither birth text nor an earlier run, one is born knowing nothing, and
the tokenizer is made from the words of the days.
"""

from ml_collections import config_dict

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'jsonl'
  c.strategies = ('sleep', 'sft')
  c.data.dataset = 'jsonl'
  c.data.settings = dict(
    probes=config_dict.placeholder(str),
    pretrain=config_dict.placeholder(str),
    field=config_dict.placeholder(str),
  )
  c.data.context = 128  # Longer texts are refused: split them.
  c.data.max_prompt = 64
  c.data.batch_size = 16
  c.tokenizer.vocab_size = 2048
  c.pretrain.steps = 1000
  c.pretrain.optimizer.decay_steps = 1000
  # A person's days have no second stream to tune on: one rate, not the best.
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | dict(draws=256), day)
  c.consolidate.num_updates = 200
  c.consolidate.updates_per_round = 20
  c.consolidate.max_length = 64
  c.consolidate.prompt_width = 48
  c.consolidate.max_new = 48
  return c

"""Learns your own data: each file of JSON lines is one day, sorted by name.

    sleep-jax run --config=jsonl --config.data.path=DAYS --workdir=runs/jsonl

DAYS is a file, a folder or a quoted pattern. A row is {"text": ...}, {"prompt":
..., "response": ...} or {"messages": [...]}; sleep_jax/datasets/row_formats.py
lists all formats. Optional flags:

    --config.data.settings.probes=FILE  Questions as {"prompt", "answer"} rows.
      The optional field "experience" names the day of a question: its file
      name without its ending. Without probes, the held-out loss and the
      divergence from the initial model are reported.
    --config.data.settings.pretrain=FILE  Pretraining text.
    --config.data.settings.field=NAME  Rows with one value of this field are one
      day, instead of one file.
    --config.pretrain.restore=WORKDIR  Uses the initial model and tokenizer of
      an earlier run instead of pretraining.

Without pretraining text and without an earlier run, the initial model is random
and the tokenizer is trained on the text of the days.
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
  c.data.context = 128  # Tokens; longer texts are refused.
  c.data.max_prompt = 64
  c.data.batch_size = 16
  c.tokenizer.vocab_size = 2048
  c.pretrain.steps = 1000
  c.pretrain.optimizer.decay_steps = 1000
  # There is no second stream for tuning, so the rate is fixed.
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | dict(draws=256), day)
  c.consolidate.num_updates = 200
  c.consolidate.updates_per_round = 20
  c.consolidate.max_length = 64
  c.consolidate.prompt_width = 48
  c.consolidate.max_new = 48
  return c

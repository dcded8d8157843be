"""Learns your own documents from the context window, without training on them.

Like configs/jsonl.py, but no weight is updated awake. The night distills what
the model can say about a document in its context window into an expert. The
result is limited by how well the model reads, so the pretraining text should
contain texts with questions about them.

    sleep-jax run --config=documents --config.data.path=DAYS \
      --config.data.settings.pretrain=FILE --workdir=runs/documents

The initial model of an earlier run (--config.pretrain.restore=WORKDIR) can be
used if that run had the levels of this config.
"""

from configs import jsonl

# Self-study prompts: a question, a summary, the structure, a use, a new text.
TEMPLATES = (
  'A question about {} and its answer:',
  'In short, the text that begins {} says:',
  'The text that begins {} has these parts:',
  'What can be done with {} ?',
  'A story that begins like {} :',
)


def get_config():
  c = jsonl.get_config()
  c.name = 'documents'
  c.strategies = ('sleep',)
  c.data.settings.templates = TEMPLATES
  c.data.overlap = 32  # Tokens shared by the windows of a longer text.
  reader, own = c.levels
  c.levels = (
    reader
    | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=10,
      rank=64,
    ),
    own | dict(slots=0, rank=0),
  )  # fmt: skip
  c.wake.epochs = 1  # Each window of a day is read once, and changes nothing.
  c.wake.optimizers = (dict(learning_rate=0.0),)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old, day | dict(teacher='context', draws=96))
  return c

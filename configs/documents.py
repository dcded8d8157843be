"""Your own documents, read and never trained on: from context to weights.

As configs/jsonl.py, but awake nothing moves: what the model can say of a text
while it stands in its window becomes an expert overnight. It can only be as
good as the model is at reading, so birth should hold texts with questions.

    python -m sleep_jax.main --config=configs/documents.py \
      --config.data.path=DAYS --config.data.settings.pretrain=FILE \
      --workdir=runs/documents

The initial model of an earlier run (pretrain.restore) fits if it was made with
the levels of this config.
"""

from configs import jsonl

# Self-study: a question, a summary, the structure, a use, something new.
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
  c.data.overlap = 32  # Longer texts are read in windows.
  reader, own = c.levels
  c.levels = (
    reader
    | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=10,
      rank=64,
    ),
    own | dict(slots=0, rank=0),
  )  # fmt: skip
  c.wake.steps = 32  # Of batch_size texts each: enough to read all of a day.
  c.wake.optimizers = (dict(learning_rate=0.0),)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old, day | dict(teacher='context', draws=96))
  return c

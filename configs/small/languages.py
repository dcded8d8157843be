"""Is the first language forgotten when the second one is learned?

Pretraining has four invented languages, each with its English. Two more are
learned, one a day, from 600 sentences with their translations and a word list.
After each day the model translates new sentences of all of them. Scores: exact
translations, and chrF if sacrebleu is installed. Our small counterpart of the
test with two languages of 2606.03979 (CTNL).

    sleep-jax run --config=small/languages --workdir=runs/languages

Languages from files: --config.data.path=FOLDER, with one folder for each. The
folder and its rows are described in sleep_jax/datasets/languages.py. Results:
docs/results/languages/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'small_languages'
  c.strategies = ('sleep', 'sft')
  c.data.update(
    dataset='languages', context=52, max_prompt=40, batch_size=32,
    loss_on='response',
  )  # fmt: skip
  c.data.settings = dict(
    num_pretrain=4, num_days=2, sentences=600, num_probes=50,
    english='translation',
  )  # fmt: skip
  # Small, so that words of the known languages are pieces, as new words are.
  c.tokenizer.vocab_size = 448
  own, bank = c.levels
  c.levels = (own, bank | dict(slots=2, rank=128))
  c.wake.steps = 300
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  # Prompts are whole questions: the model learns to write answers only.
  whole = dict(template_share=0.0, cut_share=0.0, bos_share=0.0)
  c.consolidate.teachers = (
    old | whole | dict(sequences=32, draws=192),
    day | whole | dict(sequences=32, draws=96),
  )
  c.consolidate.update(
    num_updates=240, max_length=56, prompt_width=40, max_new=24
  )
  c.evaluate.chunk = 64
  return c

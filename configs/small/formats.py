"""Does a change of answer format make a model forget more than one of domain?

Four days of 40 things with two facts each. `none`: all things are people, or
all are ships, ..., and all answers have one format. `format`: each day has
another answer format (brief, sentence, list, JSON). `domain`: each day has
another domain, and one format. The streams start from the same pretraining and
have the same first day. The question is that of ProtoAda (2606.02576); the
protocol is ours.

    sleep-jax run --config=small/formats:none --workdir=runs/formats_none
    sleep-jax run --config=small/formats:format --workdir=runs/formats
    sleep-jax run --config=small/formats:domain --workdir=runs/formats_domain

Compare `bwt_text`, which counts a value in any format; what a change of format
costs is the difference of `format` and `none`. Results: docs/results/formats/.
"""

from configs import base


def get_config(change: str = 'format'):
  c = base.get_config()
  c.name = f'small_formats_{change}'
  c.strategies = ('sleep', 'sft')
  c.data.update(
    dataset='formats', context=56, max_prompt=28, batch_size=32,
    loss_on='response',
  )  # fmt: skip
  c.data.settings = dict(
    change=change, num_pretrain=60, num_days=4, subjects_per_day=40
  )
  own, bank = c.levels
  c.levels = (own, bank | dict(slots=4))
  c.wake.steps = 80
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  # Prompts are whole questions: the model learns to write answers only.
  whole = dict(template_share=0.0, cut_share=0.0, bos_share=0.0)
  c.consolidate.teachers = (
    old | whole | dict(sequences=48, draws=192),
    day | whole | dict(sequences=24, draws=96),
  )
  c.consolidate.update(
    num_updates=240, max_length=56, prompt_width=28, max_new=24
  )
  c.evaluate.chunk = 100
  return c

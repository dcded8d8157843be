"""Does a change of answer format make a model forget more than one of domain?

Four days of 20 things with two facts each. `format`: all things are people, or
all are ships, ..., and each day has another answer format (brief, sentence,
list, JSON). `domain`: each day has another domain, and one format. Both streams
start from the same pretraining and have the same first day. The question is
that of ProtoAda (2606.02576); the protocol is ours.

    sleep-jax run --config=small/formats:format --workdir=runs/formats
    sleep-jax run --config=small/formats:domain --workdir=runs/formats_domain

Compare `bwt` and `forgetting` of the two, and `bwt_text`, which counts a value
in any format. Results: docs/results/formats/.
"""

from configs import base


def get_config(change: str = 'format'):
  c = base.get_config()
  c.name = f'small_formats_{change}'
  c.strategies = ('sleep', 'sft')
  c.data.update(
    dataset='formats', context=48, max_prompt=28, batch_size=32,
    loss_on='response',
  )  # fmt: skip
  c.data.settings = dict(
    change=change, num_pretrain=60, num_days=4, subjects_per_day=20
  )
  own, bank = c.levels
  c.levels = (own, bank | dict(slots=4))
  c.wake.steps = 80
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(sequences=48, draws=192, template_share=0.0),
    day | dict(sequences=24, draws=48, template_share=0.0),
  )
  c.consolidate.update(
    num_updates=240, max_length=48, prompt_width=28, max_new=24
  )
  c.evaluate.chunk = 100
  return c

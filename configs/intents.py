"""How well are classes of real text remembered, without stored labels?

The model is pretrained on 50 intents of CLINC150 (Larson et al. 2019, CC BY
3.0) and learns ten new ones on each of ten days. Stored prompts have no labels.

    sleep-jax run --config=intents --config.data.path=FOLDER \
      --workdir=runs/intents

The folder holds train, val and test as JSON lines {"text", "label"}, plain or
gzipped. Results: docs/results/intents/.
"""

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'intents'
  c.data.dataset = 'intents'
  c.data.settings = dict(texts_per_class=6, num_days=10)
  c.data.context = 64
  c.data.max_prompt = 60
  c.data.batch_size = 20  # Packed rows: about 60 texts.
  c.data.pack = True
  c.tokenizer.vocab_size = 2048
  # An expert has as many units as the level that learned awake.
  c.levels = (c.levels[0], c.levels[1] | {'rank': 256})
  c.pretrain.steps = 1000
  c.pretrain.optimizer.decay_steps = 1000
  c.wake.steps = 150
  # In the evening the model still knows the labels of other days, and so does
  # the teacher of the night.
  c.wake.kl_penalty.update(
    weight=0.5, draws=1024, bos_share=0.05, cut_share=0.05, template_share=0.0
  )
  c.tune = dict(learning_rates=(1e-4, 3e-4, 1e-3), experiences=2)
  c.replay = dict(store='prompts', pretrain=4096, past=4096, day=1024)
  c.consolidate.num_updates = 400
  c.consolidate.updates_per_round = 20
  c.consolidate.priority = 0.0
  # Below 1: a sampling error in a half-learned label makes the rest noise.
  c.consolidate.temperature = 0.5
  c.consolidate.max_length = 36
  c.consolidate.prompt_width = 30  # Longer texts are not rehearsed.
  c.consolidate.max_new = 12
  # With fewer rows of the day a night does not learn it. Prompts are spliced,
  # because the stored ones are soon memorized.
  c.consolidate.teachers = (
    dict(
      teacher='anchor',
      prompts='old',
      sequences=80,
      draws=864,
      bos_share=0.05,
      cut_share=0.05,
      splice_share=0.5,
    ),
    dict(
      teacher='next', prompts='day', sequences=64, draws=192, splice_share=0.5
    ),
  )
  c.expert_optimizer.learning_rate = 6e-3
  c.evaluate.chunk = 32
  return c

"""Does a night make a model better at problems whose solutions it only read?

Pretraining has word problems of one step, arithmetic, and problems that are
solved with the solution in front. Each of two days brings 200 problems of
another kind, of two steps, with their solutions. For `sleep` no weight is
updated awake: at night the teacher reads problem and solution, and the student
sees the problem alone. Then 50 other problems of the kind are asked, with four
samples each: avg@4 of the boxed answer, before and after the night. A small
counterpart of the mathematics of 2606.03979.

    sleep-jax run --config=small/math --workdir=runs/math

Problems from files: --config.data.path=FOLDER with train and test of GSM8K, and
--config.data.settings.test=FILE for rows {"problem", "answer"}. A model that is
pretrained here cannot solve those: see sleep_jax/datasets/math.py. Results:
docs/results/math/.
"""

from ml_collections import config_dict

from configs import base


def get_config():
  c = base.get_config()
  c.name = 'small_math'
  c.strategies = ('sleep', 'opsd', 'sft')
  c.data.update(
    dataset='math', context=88, max_prompt=28, batch_size=24,
    loss_on='response',
  )  # fmt: skip
  c.data.settings = dict(
    test=config_dict.placeholder(str), num_pretrain=3000, num_days=2,
    problems_per_day=200, num_probes=50, samples=4, temperature=0.7,
    max_new=128,
  )  # fmt: skip
  c.tokenizer.vocab_size = 512
  reader, own = c.levels
  c.levels = (
    reader
    | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=2,
      rank=128,
    ),
    own | dict(slots=0, rank=0),
  )  # fmt: skip
  c.pretrain.steps = 1200
  c.pretrain.optimizer.decay_steps = 1200
  c.wake.steps = 60  # Seven passes, for `opsd` and `sft`.
  c.wake.optimizers = (dict(learning_rate=0.0),)  # `sleep` updates nothing.
  c.opsd.update(sequences=24, max_new=24)
  c.tune.learning_rates = (1e-3,)
  old, day = c.consolidate.teachers
  # Prompts are whole problems: the model learns to write solutions only.
  whole = dict(template_share=0.0, cut_share=0.0, bos_share=0.0)
  c.consolidate.teachers = (
    old | whole | dict(sequences=32, draws=128),
    day | whole | dict(teacher='context', sequences=32, draws=96),
  )
  c.consolidate.update(
    num_updates=300, updates_per_round=20, max_length=52, prompt_width=28,
    max_new=24,
  )  # fmt: skip
  c.expert_optimizer.learning_rate = 8e-3
  c.evaluate.chunk = 200
  return c

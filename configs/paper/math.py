"""Does a night make a model better at problems whose solutions it only read?

As configs/small/math.py, at the paper's size, with GSM8K to learn from and one
exam of 30 problems, such as AIME 2024, to solve:

    sleep-jax plan --config=paper/math:qwen3-8b --topology=v5e:8x8
    sleep-jax run --config=paper/math:qwen3-8b \
      --config.pretrain.base_model=DIR --config.data.path=FOLDER \
      --config.data.settings.test=FILE --workdir=WORKDIR

FOLDER has train and test of GSM8K, FILE rows {"problem", "answer"}; without it,
problems of test are asked. The argument is a shape of configs/paper/base.py.
avg@16 is the paper's. Ours: GSM8K, one day of 1024 problems, the temperature,
and all lengths; answers longer than 4096 tokens count as wrong.
"""

from ml_collections import config_dict

from configs.paper import base
from sleep_jax.schedule import chain

_PROBLEMS = 1024  # Of the day; replay.day has room for as many.


def get_config(shape: str = base.SHAPES[0]):
  c = base.get_config(shape)
  c.name = f'math, {shape}'
  c.data.dataset = 'math'
  c.data.settings = dict(
    test=config_dict.placeholder(str), num_days=1, problems_per_day=_PROBLEMS,
    num_probes=30, samples=16, temperature=0.7, max_new=4096,
  )  # fmt: skip
  c.data.update(context=1024, max_prompt=512, batch_size=64, loss_on='response')
  # The context window is consolidated into an expert of the blocks' own MLP.
  c.levels = chain.make_reader(
    num_levels=1, num_days=1, hidden=c.levels[-1]['hidden'], rank=base.RANK
  )
  c.wake.update(steps=_PROBLEMS // c.data.batch_size, optimizers=())
  c.replay.update(pretrain=0, past=_PROBLEMS, day=_PROBLEMS)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(template_share=0.0),
    day | dict(teacher='context', cut_share=0.0, template_share=0.0),
  )  # fmt: skip
  c.consolidate.update(max_length=1024, prompt_width=512, max_new=512)
  c.evaluate.chunk = 64
  return c

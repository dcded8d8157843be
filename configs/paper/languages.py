"""Is the first language forgotten when the second one is learned?

As configs/small/languages.py, at the paper's size and with languages from
files (CTNL):

    sleep-jax plan --config=paper/languages:qwen3-8b --topology=v5e:8x8
    sleep-jax run --config=paper/languages:qwen3-8b \
      --config.pretrain.base_model=DIR --config.data.path=FOLDER \
      --workdir=WORKDIR

FOLDER has one folder for each language, see sleep_jax/datasets/languages.py;
its rows hold English in `translation`, or set
--config.data.settings.english=original. The argument is a shape of
configs/paper/base.py. Two languages in a row are the paper's. Ours: lengths,
the number of sentences asked, and translation to English only.
"""

from configs.paper import base


def get_config(shape: str = base.SHAPES[0]):
  c = base.get_config(shape)
  c.name = f'languages, {shape}'
  c.data.dataset = 'languages'
  c.data.settings = dict(num_days=2, num_probes=100, english='translation')
  c.data.update(context=256, max_prompt=192, batch_size=64, loss_on='response')
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (
    old | dict(template_share=0.0), day | dict(template_share=0.0)
  )  # fmt: skip
  c.consolidate.update(max_length=256, prompt_width=192, max_new=64)
  c.evaluate.chunk = 64
  return c

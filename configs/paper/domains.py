"""How much does an update in one domain damage the others (2606.02398)?

As configs/small/domains.py, with a model of the paper's size. The texts are the
same, and no file is needed:

    sleep-jax plan --config=paper/domains:qwen3-8b --topology=v5e:8x8
    sleep-jax run --config=paper/domains:qwen3-8b \
      --config.pretrain.base_model=DIR --workdir=WORKDIR

The argument is a shape of configs/paper/base.py. All values are ours. Only
`sleep` is planned: `sft`, `refresh` and `rollback` train all weights, which
needs --config.pretrain.dtype=float32. A base model has not read the texts of
pretraining, so `prior` means nothing.
"""

from configs.paper import base


def get_config(shape: str = base.SHAPES[0]):
  c = base.get_config(shape)
  c.name = f'domains, {shape}'
  c.data.dataset = 'domains'
  c.data.settings = dict(num_days=6)
  c.data.update(context=64, max_prompt=48, batch_size=64)
  old, day = c.consolidate.teachers
  # No templates: those of one domain make no sense in another.
  c.consolidate.teachers = (
    old | dict(template_share=0.0), day | dict(template_share=0.0)
  )  # fmt: skip
  c.consolidate.update(max_length=64, prompt_width=48, max_new=32)
  return c

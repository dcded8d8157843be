"""Do classes of images survive days of new classes, at the paper's size?

As configs/small/images.py (Split-CIFAR), with images of 16 x 16 pixels:

    sleep-jax plan --config=paper/images:qwen3-8b:5 --topology=v5e:8x8
    sleep-jax run --config=paper/images:qwen3-8b:5 \
      --config.pretrain.base_model=DIR --config.data.path=FOLDER \
      --workdir=WORKDIR

FOLDER holds data_batch_*.bin and test_batch.bin of CIFAR-10; without it images
are generated, which `:20` needs. The argument is a shape of
configs/paper/base.py and the number of days, 5 or 20. All values are ours. A
base model has not seen the images of pretraining, so `prior` means nothing.
"""

from configs.paper import base

DAYS = ('5', '20')
_SIDE = 16  # Pixels. A character is a token or less.
_PROMPT = _SIDE**2 + 2  # BOS, pixels, ':'.
_LABEL = 3  # Two letters, EOS.


def get_config(argument: str = base.SHAPES[0]):
  shape, _, days = argument.partition(':')
  days = days or DAYS[0]
  if days not in DAYS:
    raise ValueError(
      f'configs/paper/images.py: {days!r} days: expected one of '
      f'{", ".join(DAYS)}.'
    )
  c = base.get_config(shape)
  c.name = f'images, {shape}, {days} days'
  c.data.dataset = 'images'
  c.data.settings = dict(
    size=_SIDE, num_days=int(days), images_per_class=500, probes_per_class=100
  )
  c.data.update(
    context=_PROMPT + _LABEL, max_prompt=_PROMPT, batch_size=64,
    loss_on='response',
  )  # fmt: skip
  # Prompts are whole images: half an image has no label.
  whole = dict(cut_share=0.0, template_share=0.0)
  old, day = c.consolidate.teachers
  c.consolidate.teachers = (old | whole, day | whole)
  c.consolidate.update(
    max_length=_PROMPT + _LABEL, prompt_width=_PROMPT, max_new=_LABEL
  )
  return c

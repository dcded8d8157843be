"""Do classes of images survive five, or twenty, days of new classes?

The analogue of Split-CIFAR for a language model: images of 8 x 8 pixels as
text, one token each, and a label; two new classes a day, ranked among all
labels so far. The images are generated textures. `:20` has 20 days, each with
two classes that were not seen before. Splits of CIFAR-10 itself are read from
its binary files.

    sleep-jax run --config=small/images --workdir=runs/images
    sleep-jax run --config=small/images:20 --workdir=runs/images_20
    sleep-jax run --config=small/images --config.data.path=FOLDER \
      --workdir=runs/images_cifar
    python -m benchmarks.linear_probe --config=small/images

FOLDER holds data_batch_*.bin and test_batch.bin. Results: docs/results/images/.
"""

from configs import base


def get_config(num_days: str = '5'):
  if num_days not in ('5', '20'):
    raise ValueError(
      f'configs/small/images.py:{num_days}: expected a number of days, 5 or 20.'
    )
  c = base.get_config()
  c.name = f'images_{num_days}'
  c.seeds = (0, 1, 2)
  c.strategies = ('sleep', 'sft')
  c.data.dataset = 'images'
  c.data.settings = dict(num_days=int(num_days))
  c.tokenizer = dict(kind='bytes')
  # BOS, 64 pixels, ':', two letters of a label, EOS.
  c.data.context = 69
  c.data.max_prompt = 66
  c.data.batch_size = 32
  c.data.loss_on = 'response'  # Else 64 of 67 targets are pixels.
  c.model.update(width=64, num_layers=2, head_size=16, unroll=2)
  c.levels = (
    c.levels[0] | dict(hidden=192),
    c.levels[1] | dict(hidden=192, slots=int(num_days), rank=32),
  )
  c.pretrain.steps = 600
  c.pretrain.optimizer.decay_steps = 600
  c.wake.steps = 40
  c.tune = dict(learning_rates=(1e-3,), experiences=1)
  c.replay.update(pretrain=1024, past=1024, day=256)
  # Prompts are whole images: half an image has no label.
  c.consolidate.teachers = (
    dict(teacher='anchor', prompts='old', sequences=32, draws=192),
    dict(teacher='next', prompts='day', sequences=16, draws=64),
  )
  c.consolidate.num_updates = 60
  c.consolidate.update(max_length=69, prompt_width=66, max_new=3)
  c.evaluate.chunk = 128
  return c

"""Settings that the experiments of the paper have in common, at its size.

What 2606.03979 (v2) says of them: a base model of 8 billion parameters (Qwen3
8B in its Table 1), banks of 5 experts of width 64, and adapters of rank 64 with
alpha 128, rate 5e-6, batches of 32 and 100 steps for dreaming. The Llama shape
and all other values are ours, see docs/method.md.

These configs are planned and built from shapes; no run was made at this size:

    sleep-jax plan --config=paper/niah:qwen3-8b --topology=v5e:8x8

A run also needs the weights (--config.pretrain.base_model=DIR) and the data.
This file is one day of plain rows, from which the others start.
"""

from configs import scale

SHAPES = ('qwen3-8b', 'llama3-8b')
SLOTS, RANK = 5, 64  # Experts of a bank, and their width.


def get_config(shape: str = SHAPES[0]):
  if shape not in SHAPES:
    raise ValueError(
      f'configs/paper: the shape is {shape!r}: expected one of '
      f'{", ".join(SHAPES)}.'
    )
  c = scale.get_config(shape)
  c.name = f'paper, {shape}'
  fast, own = c.levels
  c.levels = (fast, own | dict(slots=SLOTS, rank=RANK))
  c.consolidate.full = 'merge'  # More days than slots merge two experts.
  c.wake.micro_batches = 1  # A row of a batch on each of 64 devices.
  adapter = dict(rank=64, alpha=128.0)
  c.dream.trial.update(adapter)
  c.dream.writer.update(adapter, learning_rate=5e-6, batch=32, steps=100)
  c.self_edit.update(adapter)
  return c

"""Measures the wake step that trains levels (`sleep`) or all weights (`sft`).

Token counts include padding.

python -m benchmarks.wake --out=docs/results/benchmarks/wake.json
"""

import time

import jax

from benchmarks import shapes, timing
from sleep_jax.strategies import sft, sleep


def measure(repeats: int):
  cases = []
  for shape in ('facts', 'larger'):
    batch = next(shapes.batches(shape, 1))
    rows, T = batch.tokens_BT.shape
    for kind in (sleep.make(2), sft.make(2)):
      program, _ = shapes.make_programs(shape, kind)
      (owner,) = kind.owners
      # Forward pass, activation gradients, and the owner's parameter gradients.
      flops = 2 * shapes.forward_flops(program, T)
      flops += 2 * shapes.size(program, owner)
      cases.append(
        timing.Case(
          f'{shape}/{kind.name}', *_step(program, batch),
          flops=rows * T * flops, tokens=rows * T,
        )
      )  # fmt: skip
  return timing.compare(cases, repeats=repeats)


def _step(program, batch):
  """Returns (function that takes one step, seconds of the first step)."""
  state = shapes.half_full_state(program)

  def call():
    nonlocal state
    state, metrics = program.wake(state, batch, held=())
    jax.block_until_ready((state, metrics))

  start = time.perf_counter()
  call()
  return call, time.perf_counter() - start


if __name__ == '__main__':
  timing.main('benchmarks.wake', __doc__, measure)

"""Speed of the wake step: levels alone (`sleep`), and all weights (`sft`).

python -m benchmarks.wake --out=docs/results/benchmarks/wake.json
"""

import jax
import jax.numpy as jnp

from benchmarks import shapes, timing
from sleep_jax.strategies import sft, sleep


def measure(repeats: int):
  cases = []
  for shape in ('facts', 'larger'):
    batch = next(shapes.batches(shape, 1))
    rows, T = batch.tokens_BT.shape
    for kind in (sleep.make(2), sft.make(2)):
      program, _ = shapes.life(shape, kind)
      (owner,) = kind.owners
      # Forward, the same again for activations, and the owner's gradient.
      flops = 2 * shapes.forward_flops(program, T)
      flops += 2 * shapes.size(program, owner)
      cases.append(
        timing.Case(
          f'{shape}/{kind.name}', *_step(program, batch, owner),
          flops=rows * T * flops, tokens=rows * T,
        )
      )  # fmt: skip
  return timing.compare(cases, repeats=repeats)


def _step(program, batch, owner):
  """(a call that makes one step, seconds of compiling)."""
  held = {owner: jnp.asarray(False)}
  state = program.begin(None, jax.random.key(0))
  step, seconds = timing.compiled(program._wake, state, batch, held, donate=True)

  def call():
    nonlocal state
    state, metrics = step(state, batch, held)
    jax.block_until_ready((state, metrics))

  return call, seconds


if __name__ == '__main__':
  timing.main('benchmarks.wake', __doc__, measure)

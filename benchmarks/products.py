"""CPU-seconds of a pass of a pretrained model, by precision of its products.

    taskset -c 0 python -m benchmarks.products --out=FILE

Passes are interleaved; the smallest of three is reported. The gradient is that
of the up projections of all blocks.
"""

import argparse
import dataclasses
import json
import pathlib
import time

import jax
import jax.numpy as jnp

import sleep_jax
from sleep_jax.model import layers, transformer

ROWS, TOKENS, REPEATS = 8, 96, 3
UP = 'blocks/levels/1/base/mlp/up'


def passes(base: transformer.Transformer, products: str):
  """Returns the compiled passes of a model, by name; each takes weights."""
  settings = dataclasses.replace(
    base.config, products=products, remat='dots', looped=True, unroll=1
  )
  model = transformer.Transformer(settings)
  one = jnp.ones((ROWS, TOKENS), jnp.int32)
  inputs = one, one, jnp.tile(jnp.arange(TOKENS), (ROWS, 1))

  def loss(up, weights):
    return jnp.sum(model.states(weights.with_params({UP: up}), *inputs))

  forward = jax.jit(lambda weights: model.states(weights, *inputs))
  gradient = jax.jit(jax.grad(loss))
  return {
    f'{products}, forward': forward,
    f'{products}, with gradient': lambda w: gradient(w.params[UP], w),
  }


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--out', default='docs/results/real/products.json')
  args = parser.parse_args()
  loaded = sleep_jax.load(args.model, verbose=False).loaded
  programs = {}
  for products in (layers.FLOAT32, layers.BFLOAT16):
    programs |= passes(loaded.model, products)
  found: dict[str, list[float]] = {name: [] for name in programs}
  for repeat in range(1 + REPEATS):
    for name, program in programs.items():
      start = time.process_time()
      jax.block_until_ready(program(loaded.weights))
      if repeat:  # The first call compiles.
        found[name].append(time.process_time() - start)
  result = {
    'tokens': ROWS * TOKENS,
    'cpu_seconds': {name: min(times) for name, times in found.items()},
  }
  text = json.dumps(result, indent=1)
  pathlib.Path(args.out).write_text(text + '\n')
  print(text)


if __name__ == '__main__':
  main()

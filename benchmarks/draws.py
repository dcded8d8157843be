"""Ways to draw a token: is noise over the whole vocabulary worth it?

`sampling.pick` looks one uniform number per row up in sums of blocks. The
others here draw from the same distribution: by Gumbel noise of its own for
every row and word, by noise of a cheaper generator, or in flat sums. 'step'
times one draw, 'sample' a whole sampling with it.

python -m benchmarks.draws --out=docs/results/benchmarks/draws.json
"""

import functools
from unittest import mock

import jax
import jax.numpy as jnp

from benchmarks import night, shapes, timing
from sleep_jax import types
from sleep_jax.model import sampling


def gumbel(key, logits_BV):
  return jax.random.categorical(key, logits_BV)


def gumbel_rbg(key, logits_BV):
  """The same from XLA's own bit generator."""
  data = jax.random.key_data(key)
  key = jax.random.wrap_key_data(jnp.concatenate([data, data]), impl='rbg')
  return jax.random.categorical(key, logits_BV)


def inverse(key, logits_BV):
  """First word whose summed probability passes one uniform number per row."""
  mass_BV = jnp.cumsum(
    jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True)), -1
  )
  at_B1 = jax.random.uniform(key, (len(mass_BV), 1)) * mass_BV[:, -1:]
  return jnp.argmax(mass_BV > at_B1, -1)


WAYS = (gumbel, gumbel_rbg, inverse, sampling.pick)


def measure(repeats: int):
  cases = []
  for shape in ('facts', 'larger'):
    program, c = shapes.life(shape, night.sleep.make(2))
    draws = c.consolidate.teachers[0]['draws']
    V, P = shapes.VOCAB[shape], c.consolidate.prompt_width
    logits_BV = jax.random.normal(jax.random.key(3), (draws, V))
    prompts = types.Prompts(
      jnp.full((draws, P), 9), jnp.full((draws,), P // 2), jnp.zeros((draws, 2))
    )
    weights = program.model.init(jax.random.key(0))
    for way in WAYS:
      name = way.__name__
      cases.append(
        timing.case(f'{shape}/step/{name}', way, jax.random.key(4), logits_BV)
      )
      whole = functools.partial(
        sampling.sample, program.model, max_length=c.consolidate.max_length,
        max_new=c.consolidate.max_new,
        eos=shapes.EOS,
      )  # fmt: skip
      with mock.patch.object(sampling, 'pick', way):
        cases.append(
          timing.case(
            f'{shape}/sample/{name}', whole, weights, prompts,
            jax.random.key(5),
          )
        )  # fmt: skip
  return timing.compare(cases, repeats=repeats)


if __name__ == '__main__':
  timing.main('benchmarks.draws', __doc__, measure)

"""Compares methods to sample a token from logits.

Our method inverts the cumulative distribution with one uniform number per row,
using sums over blocks. The other methods sample from the same distribution:
with Gumbel noise for every row and token, with Gumbel noise from a cheaper
generator, or by inversion without blocks. 'step' times the sampling of one
token, 'sample' that of whole sequences.

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
  """Gumbel sampling with XLA's own bit generator."""
  data = jax.random.key_data(key)
  key = jax.random.wrap_key_data(jnp.concatenate([data, data]), impl='rbg')
  return jax.random.categorical(key, logits_BV)


def inverse(key, logits_BV):
  """Returns the first token whose cumulative probability exceeds a uniform."""
  mass_BV = jnp.cumsum(
    jnp.exp(logits_BV - logits_BV.max(-1, keepdims=True)), -1
  )
  at_B1 = jax.random.uniform(key, (len(mass_BV), 1)) * mass_BV[:, -1:]
  return jnp.argmax(mass_BV > at_B1, -1)


METHODS = (gumbel, gumbel_rbg, inverse, sampling.pick)


def measure(repeats: int):
  cases = []
  for shape in ('facts', 'larger'):
    program, c = shapes.make_programs(shape, night.sleep.make(2))
    draws = c.consolidate.teachers[0]['draws']
    V, P = shapes.VOCAB[shape], c.consolidate.prompt_width
    logits_BV = jax.random.normal(jax.random.key(3), (draws, V))
    prompts = types.Prompts(
      jnp.full((draws, P), 9), jnp.full((draws,), P // 2), jnp.zeros((draws, 2))
    )
    weights = program.model.init(jax.random.key(0))
    for method in METHODS:
      name = method.__name__
      cases.append(
        timing.case(
          f'{shape}/step/{name}', method, jax.random.key(4), logits_BV
        )
      )
      sample = functools.partial(
        sampling.sample, program.model, max_length=c.consolidate.max_length,
        max_new=c.consolidate.max_new,
        eos=shapes.EOS,
      )  # fmt: skip
      with mock.patch.object(sampling, 'pick', method):
        cases.append(
          timing.case(
            f'{shape}/sample/{name}', sample, weights, prompts,
            jax.random.key(5),
          )
        )  # fmt: skip
  return timing.compare(cases, repeats=repeats)


if __name__ == '__main__':
  timing.main('benchmarks.draws', __doc__, measure)

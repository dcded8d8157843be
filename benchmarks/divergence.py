"""Compares the divergence from whole logits with that from blocks of logits.

Measures the value and the gradient for the student's states: milliseconds, and
temporary memory in bytes, at two shapes. At a vocabulary of 151,936 tokens the
programs are only compiled, which gives the memory.

python -m benchmarks.divergence --out=docs/results/benchmarks/divergence.json
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks import shapes, timing
from sleep_jax.objectives import chunked_losses, losses

# Tokens of one update, width, and vocabulary size.
LARGE = (2048, 2048, 151_936)
BLOCKS = {
  'blocks': dict(tokens=1024, vocab_block=8192),
  'small_blocks': dict(tokens=256, vocab_block=1024),
}


def whole_logits(teacher_ND, student_ND, teacher_VD, student_VD, *, beta):
  """Computes the divergence with all logits in memory."""
  teacher_NV = jax.lax.stop_gradient(teacher_ND @ teacher_VD.T)
  student_NV = student_ND @ student_VD.T
  return losses.divergence(teacher_NV[None], student_NV[None], beta=beta)[0]


def measure(repeats: int):
  cases, temporary = [], {}
  for shape in ('facts', 'larger'):
    c = shapes.config(shape)
    rows = sum(teacher['sequences'] for teacher in c.consolidate.teachers)
    size = rows * c.consolidate.max_new, c.model.width, shapes.VOCAB[shape]
    arrays = [
      jax.random.normal(jax.random.key(i), x.shape)
      for i, x in enumerate(_arguments(*size))
    ]
    for name, function in _functions(0.0).items():
      cases.append(
        timing.case(f'{shape}/{name}', function, *arrays, tokens=size[0])
      )
      temporary[f'{shape}/{name}'] = _temporary_bytes(function, size)
  for beta in (0.0, 0.5, 1.0):
    for name, function in _functions(beta).items():
      temporary[f'large/beta_{beta:g}/{name}'] = _temporary_bytes(
        function, LARGE
      )
  N, _, V = LARGE
  return timing.compare(cases, repeats=repeats) | {
    'temporary_bytes': temporary,
    'bytes_of_one_models_large_logits': 4 * N * V,
  }


def _functions(beta):
  functions = {'whole': whole_logits} | {
    name: functools.partial(chunked_losses.divergence, **blocks)
    for name, blocks in BLOCKS.items()
  }

  def with_gradient(function):
    def loss(teacher, student, *heads):
      return jnp.mean(function(teacher, student, *heads, beta=beta))

    return jax.value_and_grad(loss, argnums=1)

  return {name: with_gradient(f) for name, f in functions.items()}


def _arguments(N, D, V):
  array_shapes = ((N, D), (N, D), (V, D), (V, D))
  return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in array_shapes]


def _temporary_bytes(function, size):
  compiled, _ = timing.compiled(function, *_arguments(*size))
  return compiled.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  timing.main('benchmarks.divergence', __doc__, measure)

"""The seeding loss from hidden states on: logits whole, or block by block.

Value and gradient for the student's states, in milliseconds and in bytes of
room beyond the arguments; at two shapes, and the room alone at a vocabulary of
151,936 words, where nothing is run.

python -m benchmarks.divergence --out=docs/results/benchmarks/divergence.json
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks import shapes, timing
from sleep_jax.objectives import chunked_losses, losses

# Tokens, width and words of one update's rows.
LARGE = (2048, 2048, 151_936)
BLOCKS = {
  'blocks': dict(tokens=1024, vocab_block=8192),
  'small_blocks': dict(tokens=256, vocab_block=1024),
}


def whole(teacher_ND, student_ND, teacher_VD, student_VD, *, beta):
  """The same with logits held whole."""
  teacher_NV = jax.lax.stop_gradient(teacher_ND @ teacher_VD.T)
  student_NV = student_ND @ student_VD.T
  return losses.divergence(teacher_NV[None], student_NV[None], beta=beta)[0]


def measure(repeats: int):
  cases, room = [], {}
  for shape in ('facts', 'larger'):
    c = shapes.config(shape)
    rows = sum(teacher['sequences'] for teacher in c.consolidate.teachers)
    size = rows * c.consolidate.max_new, c.model.width, shapes.VOCAB[shape]
    arrays = [
      jax.random.normal(jax.random.key(i), x.shape)
      for i, x in enumerate(_arguments(*size))
    ]
    for name, way in _ways(0.0).items():
      cases.append(timing.case(f'{shape}/{name}', way, *arrays, tokens=size[0]))
      room[f'{shape}/{name}'] = _room(way, size)
  for beta in (0.0, 0.5, 1.0):
    for name, way in _ways(beta).items():
      room[f'large/beta_{beta:g}/{name}'] = _room(way, LARGE)
  N, _, V = LARGE
  return timing.compare(cases, repeats=repeats) | {
    'temporary_bytes': room,
    'bytes_of_one_models_large_logits': 4 * N * V,
  }


def _ways(beta):
  ways = {'whole': whole} | {
    name: functools.partial(chunked_losses.divergence, **blocks)
    for name, blocks in BLOCKS.items()
  }

  def learning(way):
    def total(teacher, student, *heads):
      return jnp.mean(way(teacher, student, *heads, beta=beta))

    return jax.value_and_grad(total, argnums=1)

  return {name: learning(way) for name, way in ways.items()}


def _arguments(N, D, V):
  shapes_of = ((N, D), (N, D), (V, D), (V, D))
  return [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes_of]


def _room(way, size):
  made, _ = timing.compiled(way, *_arguments(*size))
  return made.memory_analysis().temp_size_in_bytes


if __name__ == '__main__':
  timing.main('benchmarks.divergence', __doc__, measure)

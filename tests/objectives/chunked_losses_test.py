"""Losses in blocks equal whole ones and use less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.model import attention_kernels
from sleep_jax.objectives import chunked_losses, losses

N, D, V = 23, 16, 50


def _case(seed=0):
  random = np.random.default_rng(seed)
  draw = lambda *shape: jnp.asarray(random.normal(size=shape), jnp.float32)
  return draw(N, D), draw(N, D), draw(V, D), draw(V, D)


def _whole(
  teacher_ND, student_ND, teacher_VD, student_VD, *, cap=0.0, **settings
):
  logits = (teacher_ND @ teacher_VD.T)[None], (student_ND @ student_VD.T)[None]
  logits = (attention_kernels.soft_cap(x, cap) for x in logits)
  return losses.divergence(*logits, **settings)[0]


ODD = dict(tokens=7, vocab_block=16)


@pytest.mark.parametrize(
  'beta, blocks',
  [
    (0.3, dict(tokens=N, vocab_block=V)),
    (0.3, dict(tokens=8, vocab_block=V)),
    (0.3, dict(tokens=N, vocab_block=10)),  # Blocks that divide the sizes,
    (0.3, ODD),  # and blocks that do not.
    (0.3, dict(tokens=1, vocab_block=1)),
    (0.3, dict(tokens=99, vocab_block=99)),
    (0.0, ODD),  # The divergence has three cases: 0, between, and 1.
    (1.0, ODD),
  ],
)
def test_blocks_change_neither_value_nor_gradient(beta, blocks):
  _compare(blocks, beta=beta, temperature=1.7)


@pytest.mark.parametrize('beta', [0.0, 0.3, 1.0])
def test_blocks_change_nothing_with_capped_logits(beta):
  _compare(ODD, beta=beta, temperature=1.7, cap=3.0)


def _compare(blocks, **settings):
  teacher, student, *heads = _case()
  weight_N = jnp.linspace(-1, 2, N)

  def loss(function, **more):
    def total(student):
      value_N = function(teacher, student, *heads, **settings, **more)
      return jnp.sum(weight_N * value_N), value_N

    (_, value_N), grad_ND = jax.value_and_grad(total, has_aux=True)(student)
    return value_N, grad_ND

  for found, expected in zip(
    jax.jit(lambda: loss(chunked_losses.divergence, **blocks))(),
    loss(_whole),
    strict=True,
  ):
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('beta', [0.0, 0.5, 1.0])
def test_divergence_of_distant_models_is_finite(beta):
  teacher, student, *heads = _case()
  args = (30 * teacher, -30 * student, *heads)

  def total(student):
    value_N = chunked_losses.divergence(
      args[0], student, *heads, beta=beta, tokens=8, vocab_block=16
    )
    return jnp.sum(value_N), value_N

  (_, value_N), grad = jax.value_and_grad(total, has_aux=True)(args[1])
  assert np.isfinite(grad).all() and np.isfinite(value_N).all()
  np.testing.assert_allclose(
    value_N, _whole(*args, beta=beta), rtol=1e-4, atol=1e-4
  )


def test_only_the_student_gets_a_gradient():
  args = _case()
  total = lambda *args: chunked_losses.divergence(
    *args, beta=0.0, tokens=8, vocab_block=16
  ).sum()
  teacher, student, *heads = jax.grad(total, argnums=(0, 1, 2, 3))(*args)
  assert np.abs(student).max() > 0.01
  for grad in (teacher, *heads):
    assert not np.asarray(grad).any()


def test_the_logits_are_never_materialised():
  tokens, vocab = 256, 20_000
  arrays = [
    jax.ShapeDtypeStruct((size, 32), jnp.float32)
    for size in (tokens, tokens, vocab, vocab)
  ]

  def num_bytes(function, **settings):
    grad = jax.grad(lambda t, s, *h: function(t, s, *h, **settings).sum(), 1)
    compiled = jax.jit(grad).lower(*arrays).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  logits = 4 * tokens * vocab
  assert num_bytes(_whole, beta=0.0) > logits
  assert (
    num_bytes(chunked_losses.divergence, beta=0.0, tokens=64, vocab_block=1024)
    < logits / 8
  )

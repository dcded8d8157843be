"""The divergence of two models whose predictions are never held whole.

Logits `[N, V]` of teacher and student are the largest arrays of a night, and
all that is wanted of them is one number per token. So they are made block by
block, of some tokens and some words, and what is kept is the number and its
gradient, which is only as wide as the model. The gradient is taken along with
the value: going back costs one multiplication.

References: the running log-sum-exp of 2112.05682; gradients of a loss taken
with its value, 2410.10989 (Liger).
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import attention_kernels
from sleep_jax.objectives import losses

Array = types.Array


def divergence(
  teacher_ND: Array,
  student_ND: Array,
  teacher_VD: Array,
  student_VD: Array,
  *,
  beta: float,
  temperature: float = 1.0,
  tokens: int,
  vocab_block: int,
  cap: float = 0.0,
  place: Callable[[Array], Array] = lambda x: x,
) -> Array:
  """`losses.divergence` of `x_ND @ x_VD.T`, capped; nats per token, `[N]`.

  Its gradient goes to `student_ND` alone: teacher and heads are taken as they
  are.

  Args:
    teacher_ND, student_ND: what the heads read.
    teacher_VD, student_VD: the heads.
    beta, temperature: see `losses.divergence`.
    tokens, words: most of N and of V that logits are made of at a time.
    cap: of logits, see `attention.capped`.
    place: where what the heads read of a block, `[N, D]`, lies on a mesh.
  """
  types.check_shapes(
    teacher_ND=teacher_ND, student_ND=student_ND, teacher_VD=teacher_VD,
    student_VD=student_VD,
  )  # fmt: skip
  size = len(student_ND)
  rows = -(-size // -(-size // tokens))  # Blocks of equal size, the last less.
  pad = lambda x: jnp.pad(x, ((0, -size % rows), (0, 0)))
  # A block has its share of every part of N, so that rows which are spread
  # over devices stay where they are.
  fold = lambda x: pad(x).reshape(rows, -1, x.shape[1]).swapaxes(0, 1)
  given = jax.lax.stop_gradient((fold(teacher_ND), teacher_VD, student_VD))
  settings = (beta, temperature, min(vocab_block, len(student_VD)), cap, place)
  value = _divergence(settings, fold(student_ND), *given)
  return value.swapaxes(0, 1).reshape(-1)[:size]


def log_likelihood(
  states_BTD: Array,
  said_BT: Array,
  logits: Callable[[Array], Array],
  *,
  tokens: int,
  place: Callable[[Array], Array] = lambda x: x,
) -> Array:
  """Log-probability `[B, T]` of words; backward makes the logits again.

  Args:
    logits: `[B, T, D]` -> `[B, T, V]`.
    tokens: most that logits are made of at a time, but one of each row.
    place: where what the head reads of a block, `[B, T, D]`, lies on a mesh.
  """
  B, T = said_BT.shape
  places = -(-T // min(-(-B * T // tokens), T))  # Of a block, in each row.

  @jax.checkpoint
  def block(one):
    x_BTD, word_BT = one
    return losses.token_log_likelihood(logits(place(x_BTD)), word_BT)

  # A block has its share of every part of a row, as of every row: neither rows
  # nor places that are spread over devices are sent for.
  def fold(x):
    x = jnp.pad(x, ((0, 0), (0, -T % places), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(B, places, -1, *x.shape[2:]), 2, 0)

  score = jax.lax.map(block, (fold(states_BTD), fold(said_BT)))
  return jnp.moveaxis(score, 0, 2).reshape(B, -1)[:, :T]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _divergence(settings, student, teacher, teacher_VD, student_VD):
  return _forward(settings, student, teacher, teacher_VD, student_VD)[0]


def _forward(settings, student, teacher, teacher_VD, student_VD):
  def block(states):
    student_ND, teacher_ND = map(settings[-1], states)
    return _block(settings, student_ND, teacher_ND, teacher_VD, student_VD)

  value, grad = jax.lax.map(block, (student, teacher))
  return value, (grad, teacher, teacher_VD, student_VD)


def _backward(settings, kept, value):
  del settings
  grad, *given = kept
  grad = (value[..., None] * grad).astype(grad.dtype)
  return grad, *jax.tree.map(jnp.zeros_like, given)


_divergence.defvjp(_forward, _backward)


def _block(settings, student_ND, teacher_ND, teacher_VD, student_VD):
  """(divergence `[N]`, its gradient for `student_ND`) of a block of tokens."""
  beta, temperature, vocab_block, cap, _ = settings
  vocab = len(student_VD)

  def predict(index):
    # The last block begins early enough to be full; what it shares with the
    # one before it is not counted twice.
    start = jnp.minimum(index * vocab_block, vocab - vocab_block)
    new_V = start + jnp.arange(vocab_block) >= index * vocab_block
    heads = [
      jax.lax.dynamic_slice_in_dim(x, start, vocab_block)
      for x in (teacher_VD, student_VD)
    ]
    logits = [
      attention_kernels.capped(
        jnp.dot(x, head.T, preferred_element_type=jnp.float32), cap
      )
      for x, head in zip((teacher_ND, student_ND), heads, strict=True)
    ]
    slope = 1 - jnp.square(logits[1] / cap) if cap else 1.0
    return *(x / temperature for x in logits), slope, new_V, heads[1]

  def normalise(lse, index):
    *logits, _, new_V, _ = predict(index)
    return tuple(
      jnp.logaddexp(old, jax.nn.logsumexp(x, -1, where=new_V))
      for old, x in zip(lse, logits, strict=True)
    ), None

  def compare(sums, index):
    value_N, grad_ND, mass_N, mean_ND = sums
    p, q, slope, new_V, head_VD = predict(index)
    p, q = p - lse[0][:, None], q - lse[1][:, None]
    f_NV, w_NV = (jnp.where(new_V, x, 0) for x in _pointwise(p, q, beta))
    read = lambda x_NV: jnp.dot(
      (slope * x_NV).astype(head_VD.dtype),
      head_VD,
      preferred_element_type=jnp.float32,
    )
    value_N, grad_ND = value_N + f_NV.sum(-1), grad_ND + read(w_NV)
    if beta:
      q_NV = jnp.where(new_V, jnp.exp(q), 0)
      mass_N, mean_ND = mass_N + w_NV.sum(-1), mean_ND + read(q_NV)
    return (value_N, grad_ND, mass_N, mean_ND), None

  blocks = jnp.arange(-(-vocab // vocab_block))
  zero_N = jnp.zeros(len(student_ND), jnp.float32)
  zero_ND = jnp.zeros(student_ND.shape, jnp.float32)
  lse, _ = jax.lax.scan(normalise, (zero_N - jnp.inf,) * 2, blocks)
  sums = (zero_N, zero_ND, zero_N, zero_ND)
  sums, _ = jax.lax.scan(compare, sums, blocks)
  value_N, grad_ND, mass_N, mean_ND = sums
  grad_ND = (grad_ND - mass_N[:, None] * mean_ND) / temperature
  return value_N, grad_ND.astype(student_ND.dtype)


def _pointwise(p, q, beta):
  """Of log-probabilities: each word's part f of the divergence, and w.

  With respect to the student's logits z the divergence D has the gradient
  `dD/dz_v = w_v - q_v sum(w)`, with `w = q dD/dq`. At beta 0 that sum is known
  beforehand, and w is the whole gradient.
  """
  if beta == 0:
    return jnp.exp(p) * (p - q), jnp.exp(q) - jnp.exp(p)
  if beta == 1:
    part = jnp.exp(q) * (q - p)
    return part, part
  m = jnp.logaddexp(p + jnp.log(beta), q + jnp.log1p(-beta))
  part = (1 - beta) * jnp.exp(q) * (q - m)
  return beta * jnp.exp(p) * (p - m) + part, part

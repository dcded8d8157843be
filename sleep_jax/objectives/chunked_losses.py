"""Losses computed in blocks, without materialising the logits.

The logits `[N, V]` of teacher and student are the largest arrays of a night,
although a loss needs only one number per token. They are therefore computed in
blocks of tokens and vocabulary entries, and only the loss and its gradient with
respect to the head's input, `[N, D]`, are kept. The divergence computes this
gradient in the forward pass, so its backward pass is one multiplication.

References: running log-sum-exp, 2112.05682; gradients computed in the forward
pass, 2410.10989 (Liger).
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
  """Returns `losses.divergence` of two models' logits, nats per token, `[N]`.

  Logits are `x_ND @ x_VD.T`, soft-capped. The gradient flows to `student_ND`
  only; teacher and heads are constants.

  Args:
    teacher_ND, student_ND: inputs of the heads.
    teacher_VD, student_VD: the heads.
    beta, temperature: see `losses.divergence`.
    tokens: largest number of tokens per block.
    vocab_block: largest number of vocabulary entries per block.
    cap: of the logits, see `attention_kernels.soft_cap`.
    place: constrains the sharding of a block's inputs, `[N, D]`.
  """
  types.check_shapes(
    teacher_ND=teacher_ND, student_ND=student_ND, teacher_VD=teacher_VD,
    student_VD=student_VD,
  )  # fmt: skip
  size = len(student_ND)
  rows = -(-size // -(-size // tokens))  # Equal blocks; the last is padded.
  pad = lambda x: jnp.pad(x, ((0, -size % rows), (0, 0)))
  # A block takes every k-th token, so that tokens that are sharded over devices
  # stay on their device.
  fold = lambda x: pad(x).reshape(rows, -1, x.shape[1]).swapaxes(0, 1)
  constants = jax.lax.stop_gradient((fold(teacher_ND), teacher_VD, student_VD))
  settings = (beta, temperature, min(vocab_block, len(student_VD)), cap, place)
  value = _divergence(settings, fold(student_ND), *constants)
  return value.swapaxes(0, 1).reshape(-1)[:size]


def log_likelihood(
  states_BTD: Array,
  tokens_BT: Array,
  logits: Callable[[Array], Array],
  *,
  tokens: int,
  place: Callable[[Array], Array] = lambda x: x,
) -> Array:
  """Returns the log-probability of tokens, nats, `[B, T]`.

  The backward pass recomputes the logits block by block.

  Args:
    states_BTD: inputs of the head.
    tokens_BT: int32.
    logits: the head, `[B, T, D]` -> `[B, T, V]`.
    tokens: largest number of tokens per block, but at least one of each row.
    place: constrains the sharding of a block's inputs, `[B, T, D]`.
  """
  B, T = tokens_BT.shape
  places = -(-T // min(-(-B * T // tokens), T))  # Per row of a block.

  @jax.checkpoint
  def block(one):
    x_BTD, target_BT = one
    return losses.token_log_likelihood(logits(place(x_BTD)), target_BT)

  # A block takes every k-th place of every row, so that sharded rows and places
  # need no communication.
  def fold(x):
    x = jnp.pad(x, ((0, 0), (0, -T % places), *((0, 0),) * (x.ndim - 2)))
    return jnp.moveaxis(x.reshape(B, places, -1, *x.shape[2:]), 2, 0)

  score = jax.lax.map(block, (fold(states_BTD), fold(tokens_BT)))
  return jnp.moveaxis(score, 0, 2).reshape(B, -1)[:, :T]


def target_log_likelihood(
  states_BTD: Array,
  tokens_BT: Array,
  target_BT: Array,
  logits: Callable[[Array], Array],
  *,
  tokens: int,
) -> Array:
  """Returns `log_likelihood` of the targets, and 0 elsewhere, nats, `[B, T]`.

  Targets are put first, and blocks without a target are skipped. Where only
  responses are targets, this saves most of the head's work.

  Args:
    states_BTD, tokens_BT, logits, tokens: see `log_likelihood`; `logits` takes
      `[1, N, D]`.
    target_BT: whether a token is a target.
  """
  order_N = jnp.argsort(target_BT.reshape(-1) <= 0, stable=True)
  size = min(tokens, len(order_N))

  def fold(x):
    x = x.reshape(-1, *x.shape[2:])[order_N]
    x = jnp.pad(x, ((0, -len(x) % size), *((0, 0),) * (x.ndim - 1)))
    return x.reshape(-1, 1, size, *x.shape[1:])

  @jax.checkpoint
  def score(x_1ND, token_1N):
    return losses.token_log_likelihood(logits(x_1ND), token_1N)

  def block(one):
    x_1ND, token_1N, target_1N = one
    skip = lambda x_1ND, token_1N: jnp.zeros(token_1N.shape, jnp.float32)
    value_1N = jax.lax.cond(
      jnp.any(target_1N > 0), score, skip, x_1ND, token_1N
    )
    return jnp.where(target_1N > 0, value_1N, 0)

  value = jax.lax.map(
    block, tuple(map(fold, (states_BTD, tokens_BT, target_BT)))
  )
  value_N = value.reshape(-1)[: len(order_N)]
  return (
    jnp.zeros_like(value_N).at[order_N].set(value_N).reshape(tokens_BT.shape)
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _divergence(settings, student, teacher, teacher_VD, student_VD):
  return _forward(settings, student, teacher, teacher_VD, student_VD)[0]


def _forward(settings, student, teacher, teacher_VD, student_VD):
  def block(states):
    student_ND, teacher_ND = map(settings[-1], states)
    return _block(settings, student_ND, teacher_ND, teacher_VD, student_VD)

  value, grad = jax.lax.map(block, (student, teacher))
  return value, (grad, teacher, teacher_VD, student_VD)


def _backward(settings, residuals, grad_value):
  del settings
  grad, *constants = residuals
  grad = (grad_value[..., None] * grad).astype(grad.dtype)
  return grad, *jax.tree.map(jnp.zeros_like, constants)


_divergence.defvjp(_forward, _backward)


def _block(settings, student_ND, teacher_ND, teacher_VD, student_VD):
  """Returns a block's divergence `[N]` and its gradient by `student_ND`."""
  beta, temperature, vocab_block, cap, _ = settings
  vocab = len(student_VD)

  def predict(index):
    # The last block starts early enough to be full; entries that it shares with
    # the block before it are masked.
    start = jnp.minimum(index * vocab_block, vocab - vocab_block)
    new_V = start + jnp.arange(vocab_block) >= index * vocab_block
    heads = [
      jax.lax.dynamic_slice_in_dim(x, start, vocab_block)
      for x in (teacher_VD, student_VD)
    ]
    logits = [
      attention_kernels.soft_cap(
        jnp.dot(
          x.astype(head.dtype), head.T, preferred_element_type=jnp.float32
        ),
        cap,
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
  """Returns each vocabulary entry's part of the divergence, and weights w.

  With respect to the student's logits z the divergence D has the gradient
  `dD/dz_v = w_v - q_v sum(w)`, with `w = q dD/dq`. At beta 0 the sum is -1, so
  the w returned there is the whole gradient.

  Args:
    p, q: log-probabilities of teacher and student.
    beta: see `losses.divergence`.
  """
  if beta == 0:
    return jnp.exp(p) * (p - q), jnp.exp(q) - jnp.exp(p)
  if beta == 1:
    part = jnp.exp(q) * (q - p)
    return part, part
  m = jnp.logaddexp(p + jnp.log(beta), q + jnp.log1p(-beta))
  part = (1 - beta) * jnp.exp(q) * (q - m)
  return beta * jnp.exp(p) * (p - m) + part, part

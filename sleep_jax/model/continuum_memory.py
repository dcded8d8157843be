"""Continuum memory: the MLP levels of one block, fastest first.

The slowest level is the SwiGLU of the block itself. Faster levels are added to
it. Their output matrix starts as zero, so that they start as the identity, and
they are updated awake. In the arrangement 'depth' nothing is added: the MLPs of
the blocks are divided among the levels. Every level may hold a bank of experts
that are trained in sleep.

References: 2512.24695 section 7 (Continuum Memory System), 2606.03979
section 3.1.
"""

import functools

import jax.numpy as jnp
from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import experts, layers

Array = types.Array


class Level(nn.Module):
  """Base MLP and expert bank of one level: a residual branch.

  Attributes:
    number: number of the level, 1 = fastest.
  """

  config: config_lib.Model
  number: int

  def setup(self):
    level = self.config.levels[self.number - 1]
    slowest = self.number == self.config.num_levels
    self.base = Base(
      self.config,
      level.hidden,
      zero_out=not slowest and self.config.arrangement != 'depth',
      pre_norm=self._has_pre_norm(slowest or level.beside),
    )
    if level.slots:
      self.experts = experts.ExpertBank(
        level.slots,
        level.rank,
        self.config.router,
        self.config.top_k,
        self.config.gate_bias,
        self.config.act,
        self.config.gated_experts,
        self.config.products,
      )

  def _has_pre_norm(self, in_base_model):
    c = self.config
    if c.arrangement == 'independent':
      return False  # They share one, see `ContinuumMemory`.
    # In 'depth' every level consists of MLPs of the base model.
    return c.pre_norms or not (in_base_model or c.arrangement == 'depth')

  def __call__(self, x_BTD, active_E, fresh, opened_BE=None):
    y_BTD, x_BTD = self.base(x_BTD)
    slots = self.config.levels[self.number - 1].slots
    if slots:
      opened_BE = None if opened_BE is None else opened_BE[:, :slots]
      y_BTD = y_BTD + self.experts(x_BTD, active_E[:slots], fresh, opened_BE)
    return y_BTD


class Base(nn.Module):
  """MLP of a level and its norm, if it has one of its own."""

  config: config_lib.Model
  hidden: int
  zero_out: bool
  pre_norm: bool

  @nn.compact
  def __call__(self, x_BTD):
    """Returns the branch and its input, which the experts also read."""
    c = self.config
    if self.pre_norm:
      x_BTD = layers.RMSNorm(c.norm_eps, c.norm_offset, name='norm')(x_BTD)
    mlp = layers.SwiGLU(
      self.hidden, self.zero_out, c.act, c.products, name='mlp'
    )
    return mlp(x_BTD), x_BTD


class ContinuumMemory(nn.Module):
  """The levels of one block: `[B, T, D]` -> `[B, T, D]`.

  Attributes:
    numbers: numbers of the levels of the block.
  """

  config: config_lib.Model
  numbers: tuple[int, ...]

  @nn.compact
  def __call__(
    self, h_BTD: Array, active_NE: Array, fresh=None, opened_BNE=None
  ) -> Array:
    c, fresh = self.config, fresh or {}
    norm = functools.partial(layers.RMSNorm, c.norm_eps, c.norm_offset)
    if c.arrangement == 'independent':
      x_BTD = norm(name='norm')(h_BTD) if c.pre_norms else h_BTD
      branch_BTD = jnp.zeros_like(h_BTD)
    beside: list[Array] = []  # Outputs that the next level adds to its own.
    for number in self.numbers:
      level = Level(c, number, name=str(number))
      opened_BE = None if opened_BNE is None else opened_BNE[:, number - 1]
      gating = active_NE[number - 1], fresh.get(str(number)), opened_BE
      y_BTD = level(x_BTD if c.arrangement == 'independent' else h_BTD, *gating)
      if c.levels[number - 1].beside:
        beside.append(y_BTD)
        continue
      while beside:  # The last first, as before the chain grew.
        y_BTD = y_BTD + beside.pop()
      if c.arrangement == 'independent':
        branch_BTD += y_BTD
        continue
      # Only the MLP branch of the base model has a post-norm, not added levels.
      if c.post_norms and number == self.numbers[-1]:
        y_BTD = norm(name='post_norm')(y_BTD)
      h_BTD = h_BTD + y_BTD
    if c.arrangement != 'independent':
      return h_BTD
    if c.post_norms:
      branch_BTD = norm(name='post_norm')(branch_BTD)
    return h_BTD + branch_BTD

"""The continuum memory: a chain of MLP levels, fastest first.

The slowest level is the block's own SwiGLU; the faster ones are added, start
as the identity (their output matrix is zero) and move awake. Or the blocks'
own MLPs are shared out among the levels. Every level may hold a bank of experts
that sleep fills.

References: 2512.24695 section 7 (Continuum Memory System), 2606.03979
section 3.1.
"""

from flax import linen as nn

from sleep_jax import types
from sleep_jax.model import config as config_lib
from sleep_jax.model import experts, layers

Array = types.Array


class Level(nn.Module):
  """Base MLP and expert bank of one level: a residual branch."""

  config: config_lib.Model
  number: int  # 1 = fastest.

  def setup(self):
    level = self.config.levels[self.number - 1]
    own = self.number == self.config.num_levels
    self.base = Base(
      level.hidden,
      normed=self.config.arrangement != 'independent',
      zero_out=not own and self.config.arrangement != 'depth',
      eps=self.config.norm_eps,
    )
    if level.slots:
      self.experts = experts.ExpertBank(
        level.slots,
        level.rank,
        self.config.router,
        self.config.router_spread,
        self.config.top_k,
        self.config.gate_bias,
      )

  def __call__(self, x_BTD, active_E, fresh, opened_BE=None):
    y_BTD, x_BTD = self.base(x_BTD)
    slots = self.config.levels[self.number - 1].slots
    if slots:
      opened_BE = None if opened_BE is None else opened_BE[:, :slots]
      y_BTD = y_BTD + self.experts(x_BTD, active_E[:slots], fresh, opened_BE)
    return y_BTD


class Base(nn.Module):
  """What moves awake: the norm (of a chain) and the MLP of a level."""

  hidden: int
  normed: bool
  zero_out: bool
  eps: float

  @nn.compact
  def __call__(self, x_BTD):
    """Returns the branch and the normed input that the experts read too."""
    if self.normed:
      x_BTD = layers.RMSNorm(self.eps, name='norm')(x_BTD)
    mlp = layers.SwiGLU(self.hidden, self.zero_out, name='mlp')
    return mlp(x_BTD), x_BTD


class Memory(nn.Module):
  """The levels of one block: `[B, T, D]` in, `[B, T, D]` out."""

  config: config_lib.Model
  numbers: tuple[int, ...]

  @nn.compact
  def __call__(
    self, h_BTD: Array, active_NE: Array, fresh=None, opened_BNE=None
  ) -> Array:
    fresh, x_BTD = fresh or {}, None
    if self.config.arrangement == 'independent':
      x_BTD = layers.RMSNorm(self.config.norm_eps, name='norm')(h_BTD)
    for number in self.numbers:
      level = Level(self.config, number, name=str(number))
      read_BTD = h_BTD if x_BTD is None else x_BTD
      opened_BE = None if opened_BNE is None else opened_BNE[:, number - 1]
      h_BTD = h_BTD + level(
        read_BTD, active_NE[number - 1], fresh.get(str(number)), opened_BE
      )
    return h_BTD

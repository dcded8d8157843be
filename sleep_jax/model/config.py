"""Model configuration and its validation.

Two periods of each level define the schedule of the method: `update_period` is
the number of wake steps between updates of its base, `sleep_period` the number
of wake steps between consolidations into the next slower level.

References: 2606.03979, section 3; 2512.24695, section 7.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax import errors
from sleep_jax.model import rope_scaling as rope_scaling_lib

INFINITE = 'infinite'
EXPERIENCE = 'experience'
ROUTERS = ('sigmoid', 'softmax', 'always')
ACTS = ('silu', 'gelu')
ATTENTIONS = ('auto', 'xla', 'splash', 'cudnn')
REMATS = ('none', 'full', 'dots')
ARRANGEMENTS = ('sequential', 'independent', 'depth')
# Fields of `Model` that select how it is computed. They change only rounding.
EXECUTION_FIELDS = ('attention', 'unroll', 'looped', 'remat', 'products')
PRODUCTS = ('float32', 'bfloat16', 'auto')


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of the continuum memory, fastest first.

  Attributes:
    hidden: hidden size of its base SwiGLU.
    update_period: wake steps between two updates of its base, or 'infinite':
      the slowest level, and a bank level, which only collects experts.
    sleep_period: wake steps between two consolidations, 'experience' (at the
      end of each experience), 'N days' (at the end of every Nth experience) or
      'infinite' (never sleeps).
    slots: number of expert slots in its bank. 0 for a level that is never a
      receiver.
    rank: hidden size of one expert.
    context_sleep_period: for the fastest level, wake steps between two
      consolidations of the context window (level 0) into it. Same values as
      `sleep_period`.
    beside: whether it reads what the next level reads and adds into the same
      branch, as if both were one level; of a bank that was the slowest level
      until its chain grew (`runs.growth`).
  """

  hidden: int
  update_period: int | str
  sleep_period: int | str
  slots: int = 0
  rank: int = 0
  context_sleep_period: int | str = INFINITE
  beside: bool = False

  @property
  def learns_awake(self) -> bool:
    """Whether its base is updated awake."""
    return self.update_period != INFINITE


def num_awake(levels: Sequence[Level]) -> int:
  """Returns how many levels are updated awake; they are the fastest ones."""
  return sum(level.learns_awake for level in levels)


@dataclasses.dataclass(frozen=True)
class Model:
  """A decoder-only transformer with a chain of MLP levels after attention.

  Attributes:
    vocab_size: number of tokens of the vocabulary.
    width: size of the residual stream.
    num_layers: number of blocks.
    num_heads: number of query heads.
    num_kv_heads: number of key and value heads.
    head_size: size of a head, even.
    levels: the levels, fastest first.
    arrangement: 'sequential' (a chain of levels in every block), 'independent'
      (all levels of a block read one norm and add to one residual branch) or
      'depth' (every block has one MLP, which belongs to one level).
    layer_levels: for 'depth', the level of each block from the input on. The
      blocks of a level are neighbours.
    router: 'sigmoid' (independent gates), 'softmax' (competing gates) or
      'always' (every gate is 1).
    top_k: number of active experts used per token. 0 means all.
    gate_bias: initial logit of the gates. 0 gives a sigmoid gate of 1/2.
    gated_experts: whether the gate and up projections of an expert are two
      matrices, as in the MLP of a level, instead of one.
    qk_norm: whether queries and keys are normed.
    qk_norm_whole: whether that norm is over all heads together, before they are
      split, instead of over each head.
    qkv_bias, out_bias: whether the projections of queries, keys and values, and
      the output projection of attention, have a bias.
    tied: whether the head shares the embedding.
    rope_theta, rope_scaling: of rotary positions, see `rope.frequencies`.
    norm_eps: added to the mean square in every norm.
    act: activation of all MLPs and experts, 'silu' or 'gelu' (tanh form).
    norm_offset: added to the stored scale of every norm.
    pre_norms: whether the residual branches of the base model norm their input.
      Faster levels of a chain always do.
    post_norms: whether the residual branches of the base model are normed
      before they are added.
    embed_scale: factor of the embeddings.
    query_scale: factor of the queries. 0 means 1 / sqrt(head_size).
    attention: kernel for whole rows: 'xla', 'splash' (TPU), 'cudnn' (GPU; falls
      back to 'xla' for f32 or with a cap), or 'auto' (chosen by the machine).
    attention_cap, logit_cap: soft caps of attention scores and of logits. 0
      means none.
    window: number of tokens that local blocks attend to, including the query. 0
      means that no block is local.
    local: for each block, whether it is local.
    local_theta, local_scaling: `rope_theta` and `rope_scaling` of local blocks.
      A theta of 0 means that they use the frequencies of the other blocks.
    rotated: for each block, whether it has rotary positions. Empty means that
      all have.
    unroll: layers per step of the compiled loop over layers.
    looped: whether decoding also loops over layers. It is slower on a CPU, but
      a deep model compiles in a fraction of the time.
    products: 'float32', 'bfloat16' (factors of matrix products are rounded to
      16 bits and summed in f32) or 'auto' (the faster of them here).
    remat: what the backward pass recomputes: 'none', 'full' (everything but the
      inputs of blocks) or 'dots' (everything but matrix products).
  """

  vocab_size: int
  width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_size: int
  levels: tuple[Level, ...]
  arrangement: str = 'sequential'
  layer_levels: tuple[int, ...] = ()
  router: str = 'sigmoid'
  top_k: int = 0
  gate_bias: float = 0.0
  gated_experts: bool = False
  qk_norm: bool = True
  qk_norm_whole: bool = False
  qkv_bias: bool = False
  out_bias: bool = False
  tied: bool = True
  rope_theta: float = 10_000.0
  rope_scaling: rope_scaling_lib.Scaling = ()
  norm_eps: float = 1e-6
  act: str = 'silu'
  norm_offset: float = 0.0
  pre_norms: bool = True
  post_norms: bool = False
  embed_scale: float = 1.0
  query_scale: float = 0.0
  attention: str = 'auto'
  attention_cap: float = 0.0
  logit_cap: float = 0.0
  window: int = 0
  local: tuple[bool, ...] = ()
  local_theta: float = 0.0
  local_scaling: rope_scaling_lib.Scaling = ()
  rotated: tuple[bool, ...] = ()
  unroll: int = 1
  looped: bool = False
  products: str = 'float32'
  remat: str = 'none'

  @property
  def num_levels(self) -> int:
    return len(self.levels)

  @property
  def max_slots(self) -> int:
    return max(level.slots for level in self.levels)

  @property
  def rope_depends_on_length(self) -> bool:
    """Whether rotary frequencies depend on the length of the sequence."""
    scalings = self.rope_scaling, self.local_scaling
    return any(map(rope_scaling_lib.depends_on_length, scalings))

  @property
  def groups(self) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """Groups of neighbouring blocks with the same levels.

    Each is (start, stop, level numbers), with layers in [start, stop).
    """
    if self.arrangement != 'depth':
      return ((0, self.num_layers, tuple(range(1, self.num_levels + 1))),)
    groups, start = [], 0
    for level, blocks in itertools.groupby(self.layer_levels):
      stop = start + len(list(blocks))
      groups.append((start, stop, (level,)))
      start = stop
    return tuple(groups)

  def num_layers_of(self, level: int) -> int:
    """Returns the number of blocks that have a level."""
    return sum(
      stop - start for start, stop, levels in self.groups if level in levels
    )


def make_level(fields: Mapping[str, Any]) -> Level:
  """Returns a level of a config.

  Args:
    fields: of `Level`, and `night`, the settings of its own nights, which are
      no part of the model (see `sleep.sender_settings`).
  """
  return Level(**{k: v for k, v in fields.items() if k != 'night'})


def make(
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
  *,
  vocab_size: int,
) -> Model:
  """Builds and validates a model config.

  Args:
    settings: fields of `Model` without `levels` and `vocab_size`.
    levels: fields of each `Level`, fastest first.
    vocab_size: vocabulary size of the tokenizer.

  Raises:
    ConfigError: a field is invalid, or two fields are inconsistent.
  """
  config = Model(
    vocab_size=vocab_size,
    levels=tuple(map(make_level, levels)),
    **{
      **settings,
      'layer_levels': tuple(settings.get('layer_levels', ())),
      'rope_scaling': _scaling(settings.get('rope_scaling', ())),
      'local_scaling': _scaling(settings.get('local_scaling', ())),
      'local': tuple(settings.get('local', ())),
      'rotated': tuple(settings.get('rotated', ())),
    },
  )
  if config.num_heads % config.num_kv_heads:
    raise errors.ConfigError(
      f'model.num_heads {config.num_heads} is not a multiple of '
      f'model.num_kv_heads {config.num_kv_heads}: expected a multiple, because '
      'all key heads have the same number of query heads.'
    )
  if config.head_size % 2:
    raise errors.ConfigError(
      f'model.head_size {config.head_size} is odd: expected an even size, '
      'because rotary positions rotate pairs.'
    )
  for field, value, allowed in (
    ('router', config.router, ROUTERS),
    ('arrangement', config.arrangement, ARRANGEMENTS),
    ('act', config.act, ACTS),
    ('remat', config.remat, REMATS),
    ('products', config.products, PRODUCTS),
    ('attention', config.attention, ATTENTIONS),
  ):
    if value not in allowed:
      raise errors.ConfigError(
        f'model.{field} is {value!r}: expected one of {allowed}.'
      )
  for field in ('rope_scaling', 'local_scaling'):
    scaling = getattr(config, field)
    if isinstance(scaling, tuple) and len(scaling) not in (0, 1, 4):
      raise errors.ConfigError(
        f'model.{field} is {scaling}: expected (), (factor,) or '
        '(factor, low, high, positions), see sleep_jax/model/rope.py.'
      )
  if len(config.rotated) not in (0, config.num_layers):
    raise errors.ConfigError(
      f'model.rotated has {len(config.rotated)} entries: expected one for each '
      f'of the {config.num_layers} blocks, or none.'
    )
  if not config.pre_norms and not config.post_norms:
    raise errors.ConfigError(
      'model.pre_norms and model.post_norms are False: expected at least one '
      'of them, because residual branches without a norm diverge.'
    )
  if len(config.local) != (config.num_layers if config.window else 0):
    raise errors.ConfigError(
      f'model.local has {len(config.local)} entries with model.window '
      f'{config.window}: expected one entry for each of the '
      f'{config.num_layers} blocks, or none if model.window is 0.'
    )
  _check_depth(config)
  for number, level in enumerate(config.levels):
    if level.hidden < 1:
      raise errors.ConfigError(
        f'config.levels[{number}].hidden is {level.hidden}: expected at least '
        '1.'
      )
    if level.slots and not level.rank:
      raise errors.ConfigError(
        f'config.levels[{number}] has {level.slots} expert slots of rank 0: '
        'set rank to at least 1, or slots to 0.'
      )
  return config


def _scaling(value: Any) -> rope_scaling_lib.Scaling:
  """Returns a scaling with lists, as JSON has them, as tuples."""
  return tuple(value) if isinstance(value, list | tuple) else value


def _check_depth(config: Model) -> None:
  found = config.layer_levels
  if config.arrangement != 'depth':
    if found:
      raise errors.ConfigError(
        f'model.layer_levels is {found}, but model.arrangement is '
        f'{config.arrangement!r}: leave it empty, or set the arrangement to '
        "'depth'."
      )
    return
  if any(level.beside for level in config.levels):
    raise errors.ConfigError(
      "A level is beside another, but model.arrangement is 'depth', where no "
      'block has two levels: set beside to False.'
    )
  neighbours = [level for level, _ in itertools.groupby(found)]
  if len(found) != config.num_layers or sorted(neighbours) != [
    *range(1, config.num_levels + 1)
  ]:
    raise errors.ConfigError(
      f'model.layer_levels is {found}: expected {config.num_layers} entries, '
      f'one per block, in which each of the {config.num_levels} levels has '
      'neighbouring blocks, for example '
      f'{_even_layer_levels(config.num_layers, config.num_levels)}.'
    )


def _even_layer_levels(num_layers, num_levels):
  """Returns the level of each block, slowest first, as even as possible."""
  return tuple(
    num_levels - layer * num_levels // num_layers for layer in range(num_layers)
  )

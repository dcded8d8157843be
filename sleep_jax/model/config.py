"""What a model is made of, checked before anything is built.

A level's two periods are the clock of the whole method: `update_period` says
how often its base moves, `sleep_period` how often it is consolidated into the
next slower level (method: arXiv 2606.03979, section 3; 2512.24695, section 7).
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

INFINITE = 'infinite'
EXPERIENCE = 'experience'
ROUTERS = ('sigmoid', 'softmax', 'always', 'centroid')
ACTS = ('silu', 'gelu')
ATTENTIONS = ('auto', 'xla', 'splash', 'cudnn')
REMATS = ('none', 'full', 'dots')
ARRANGEMENTS = ('sequential', 'independent', 'depth')
# Fields of a model that say how it is computed: they change rounding alone.
COMPUTED = ('attention', 'unroll', 'looped', 'remat')


@dataclasses.dataclass(frozen=True)
class Level:
  """One level of the continuum memory, fastest first.

  Attributes:
    hidden: hidden size of its base SwiGLU.
    update_period: wake steps between two moves of its base, or 'infinite'.
    sleep_period: wake steps between two consolidations, 'experience' (the end
      of each experience) or 'infinite' (never sleeps).
    slots: expert slots in its bank; 0 where it never receives.
    rank: hidden size of one expert.
    context_sleep_period: of the fastest level, wake steps between two
      consolidations of the context window (level 0) into it; as sleep_period.
  """

  hidden: int
  update_period: int | str
  sleep_period: int | str
  slots: int = 0
  rank: int = 0
  context_sleep_period: int | str = INFINITE


@dataclasses.dataclass(frozen=True)
class Model:
  """A decoder-only transformer with a chain of levels after attention.

  Attributes:
    arrangement: 'sequential' (a chain in every block), 'independent' (all
      levels of a block read one norm and add into one residual branch) or
      'depth' (every block has one MLP, which belongs to one level).
    layer_levels: of 'depth', the level of each block, from the lowest on; the
      blocks of a level are neighbours.
    router: 'sigmoid' (each expert its own gate), 'softmax' (gates compete),
      'always' (every gate 1) or 'centroid' (the nearer to the mean of an
      expert's own inputs, the wider its gate; not trained).
    router_spread: of 'centroid', the distance at which a gate has fallen to
      exp(-1/2), in root mean squares of a difference per feature.
    top_k: active experts that take part per token; 0 means all.
    gate_bias: initial offset of the sigmoid gate; 0 opens it half.
    tied: the head shares the embedding.
    qkv_bias, out_bias: queries, keys and values have an offset each, and what
      attention adds has one.
    rope_theta, rope_scaling: of rotary positions, see `layers.frequencies`.
    act: of all MLPs and experts, 'silu' or 'gelu' (its tanh form).
    norm_offset: what is added to the scale of every norm.
    post_norms: whether a branch of the host is normed before it is added.
    embed_scale: of embeddings as they are read.
    query_scale: of queries; 0: 1 / sqrt(head_size).
    attention: kernel of whole rows: 'xla', 'splash' (TPUs), 'cudnn' (GPUs; bf16
      without a cap, else as 'xla'), or 'auto': the one of this machine.
    attention_cap, logit_cap: bounds that scores and logits near but never
      reach; 0: none.
    window: tokens that local blocks see, themselves included; 0: no block is
      local.
    local: of each block, whether it is.
    local_theta: `rope_theta` of local blocks, which have no scaling then; 0:
      they turn as all others.
    unroll: layers per step of the compiled loop over layers.
    looped: whether decoding loops over layers as well: slower on a CPU, but a
      deep model compiles in a fraction of the time.
    remat: what backward computes anew of a block: 'none', 'full' (all but the
      block's input is) or 'dots' (all but its matrix products).
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
  router_spread: float = 1.0
  top_k: int = 0
  gate_bias: float = 0.0
  qk_norm: bool = True
  qkv_bias: bool = False
  out_bias: bool = False
  tied: bool = True
  rope_theta: float = 10_000.0
  rope_scaling: tuple[float, ...] = ()
  norm_eps: float = 1e-6
  act: str = 'silu'
  norm_offset: float = 0.0
  post_norms: bool = False
  embed_scale: float = 1.0
  query_scale: float = 0.0
  attention: str = 'auto'
  attention_cap: float = 0.0
  logit_cap: float = 0.0
  window: int = 0
  local: tuple[bool, ...] = ()
  local_theta: float = 0.0
  unroll: int = 1
  looped: bool = False
  remat: str = 'none'

  @property
  def num_levels(self) -> int:
    return len(self.levels)

  @property
  def max_slots(self) -> int:
    return max(level.slots for level in self.levels)

  @property
  def groups(self) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """Runs of like blocks, [start, stop) and the levels that each holds."""
    if self.arrangement != 'depth':
      return ((0, self.num_layers, tuple(range(1, self.num_levels + 1))),)
    runs, start = [], 0
    for level, blocks in itertools.groupby(self.layer_levels):
      stop = start + len(list(blocks))
      runs.append((start, stop, (level,)))
      start = stop
    return tuple(runs)

  def layers_of(self, level: int) -> int:
    """In how many blocks a level stands."""
    return sum(b - a for a, b, levels in self.groups if level in levels)


def make(
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
  *,
  vocab_size: int,
) -> Model:
  """Builds and checks a model config.

  Args:
    settings: fields of `Model` but for `levels` and `vocab_size`.
    levels: fields of `Level`, fastest first.
    vocab_size: from the tokenizer.

  Raises:
    ValueError: two fields disagree; says which and what to do.
  """
  config = Model(
    vocab_size=vocab_size,
    levels=tuple(Level(**level) for level in levels),
    **{
      **settings,
      'layer_levels': tuple(settings.get('layer_levels', ())),
      'rope_scaling': tuple(settings.get('rope_scaling', ())),
      'local': tuple(settings.get('local', ())),
    },
  )
  if config.num_heads % config.num_kv_heads:
    raise ValueError(
      f'model.num_heads {config.num_heads} is not a multiple of '
      f'model.num_kv_heads {config.num_kv_heads}: each key head serves a '
      'whole group of query heads.'
    )
  if config.head_size % 2:
    raise ValueError(
      f'model.head_size {config.head_size} is odd: rotary positions turn '
      'pairs. Use an even size.'
    )
  for field, value, known in (
    ('router', config.router, ROUTERS),
    ('arrangement', config.arrangement, ARRANGEMENTS),
    ('act', config.act, ACTS),
    ('remat', config.remat, REMATS),
    ('attention', config.attention, ATTENTIONS),
  ):
    if value not in known:
      raise ValueError(f'model.{field} is {value!r}: expected one of {known}.')
  if config.router_spread <= 0:
    raise ValueError(
      f'model.router_spread is {config.router_spread}: expected more than 0.'
    )
  if len(config.rope_scaling) not in (0, 1, 4):
    raise ValueError(
      f'model.rope_scaling is {config.rope_scaling}: expected nothing, one '
      'factor, or four numbers as in layers.frequencies.'
    )
  if len(config.local) != (config.num_layers if config.window else 0):
    raise ValueError(
      f'model.window is {config.window} and model.local has '
      f'{len(config.local)} entries: expected one for each of the '
      f'{config.num_layers} blocks with a window, none without.'
    )
  _check_depth(config)
  for number, level in enumerate(config.levels, 1):
    if level.hidden < 1:
      raise ValueError(
        f'levels[{number}].hidden is {level.hidden}: expected 1 or more hidden '
        'units.'
      )
    if level.slots and not level.rank:
      raise ValueError(
        f'levels[{number}] has {level.slots} expert slots of rank 0: '
        'set rank, or slots to 0.'
      )
  return config


def _check_depth(config: Model) -> None:
  found = config.layer_levels
  if config.arrangement != 'depth':
    if found:
      raise ValueError(
        f'model.layer_levels is {found}, but model.arrangement is '
        f"{config.arrangement!r}: it belongs to 'depth'. Leave it empty."
      )
    return
  runs = [level for level, _ in itertools.groupby(found)]
  if len(found) != config.num_layers or sorted(runs) != [
    *range(1, config.num_levels + 1)
  ]:
    raise ValueError(
      f'model.layer_levels is {found}: expected {config.num_layers} entries, '
      f'one per block, in which each of the {config.num_levels} levels has one '
      'run of neighbours, for example '
      f'{_shared_out(config.num_layers, config.num_levels)}.'
    )


def _shared_out(num_layers, num_levels):
  """The slowest level lowest, as even as it gets."""
  return tuple(
    num_levels - layer * num_levels // num_layers for layer in range(num_layers)
  )

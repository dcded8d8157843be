"""What a model is made of, checked before anything is built.

A level's two periods are the clock of the whole method: `update_period` says
how often its base moves, `sleep_period` how often it is consolidated into the
next slower level (method: arXiv 2606.03979, section 3; 2512.24695, section 7).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

INFINITE = 'infinite'
EXPERIENCE = 'experience'
ROUTERS = ('sigmoid', 'softmax', 'always')
ARRANGEMENTS = ('sequential', 'independent')


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
  """

  hidden: int
  update_period: int | str
  sleep_period: int | str
  slots: int = 0
  rank: int = 0


@dataclasses.dataclass(frozen=True)
class Model:
  """A decoder-only transformer with a chain of levels after attention.

  Attributes:
    arrangement: 'sequential' (a chain) or 'independent' (all levels read one
      norm and add into one residual branch).
    router: 'sigmoid' (each expert its own gate), 'softmax' (gates compete) or
      'always' (every gate 1).
    top_k: active experts that take part per token; 0 means all.
    gate_bias: initial offset of the sigmoid gate; 0 opens it half.
    tied: the head shares the embedding.
    unroll: layers per step of the compiled loop over layers.
  """

  vocab_size: int
  width: int
  num_layers: int
  num_heads: int
  num_kv_heads: int
  head_size: int
  levels: tuple[Level, ...]
  arrangement: str = 'sequential'
  router: str = 'sigmoid'
  top_k: int = 0
  gate_bias: float = 0.0
  qk_norm: bool = True
  tied: bool = True
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  unroll: int = 1

  @property
  def num_levels(self) -> int:
    return len(self.levels)

  @property
  def max_slots(self) -> int:
    return max(level.slots for level in self.levels)


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
    **settings,
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
  ):
    if value not in known:
      raise ValueError(f'model.{field} is {value!r}: expected one of {known}.')
  for number, level in enumerate(config.levels, 1):
    if level.slots and not level.rank:
      raise ValueError(
        f'levels[{number}] has {level.slots} expert slots of rank 0: '
        'set rank, or slots to 0.'
      )
  return config

"""What a life needs of each device: bytes by kind, and time at best.

Bytes of what is kept are read off the shapes and places of a state. What a
program needs besides is reckoned from its shapes, and so is its time: the
longer of its products at the chip's peak speed and of reading its weights at
the memory's. Traffic between chips is left out: no real run is faster.
"""

import collections
import dataclasses
import math
import re
from typing import Any

import jax

from sleep_jax.dream import settings as dream_settings
from sleep_jax.model import config as config_lib
from sleep_jax.optim import optimizer
from sleep_jax.planning import tpu_topology
from sleep_jax.runtime import sharding
from sleep_jax.sleep import settings as sleep_settings

FROZEN, LEARNED = 'frozen model', 'levels and experts'
ACTIVATIONS, CACHES, GATHERED = 'activations', 'caches', 'gathered weights'
LOGITS, GRADIENTS, ADAPTERS = 'logits', 'gradients', 'adapters'
# First match wins, by the name of an array in a state.
_KINDS = (
  (r'^(opt|night/opt|night/opt_next)/', 'moments'),
  (r'^sums/', 'gradient sums'),
  (r'^(anchor|average)/', 'anchors'),
  (r'^night/(sender_next|fresh)/', 'what a night proposes'),
  (r'^night/|^kl_penalty/', 'rehearsals'),
  (r'^(?!weights/params/)', 'replay and counters'),
)
# What to turn when a kind is too large.
KNOBS = {
  FROZEN: 'raise mesh.fsdp or mesh.tensor, or take more chips',
  LEARNED: 'lower levels[].hidden, .slots or .rank, or raise mesh.fsdp',
  'moments': 'lower levels[].hidden, or raise mesh.fsdp',
  'gradient sums': 'lower levels[].hidden, or raise mesh.fsdp',
  'anchors': 'lower levels[].hidden, or raise mesh.fsdp',
  'what a night proposes': 'lower levels[].hidden, or raise mesh.fsdp',
  'rehearsals': 'lower draws of consolidate.teachers, or raise '
  'consolidate.updates_per_round',
  'replay and counters': 'lower replay.day, .past or .birth',
  ACTIVATIONS: 'raise micro_batches (of wake, or of consolidate) or '
  'mesh.sequence, shorten rows (data.context, consolidate.max_length), or set '
  "model.remat='full'",
  CACHES: 'lower draws of consolidate.teachers, or consolidate.max_new, or '
  'raise mesh.sequence',
  GATHERED: 'raise mesh.tensor',
  LOGITS: 'lower block_tokens (of wake, or of consolidate)',
  GRADIENTS: 'lower levels[].hidden, or raise mesh.fsdp; of dreams, lower '
  "dream.trial.targets, or set dream.importance to 'random'",
  ADAPTERS: 'lower dream.trial.rank and .writer.rank, or name fewer .targets',
}


@dataclasses.dataclass(frozen=True)
class Work:
  """What one call of a program does, all devices together.

  Attributes:
    flops: of products.
    passes: over all weights, that a device reads of its memory whole,
    reads: and over its own part of them alone, token by token.
  """

  flops: float
  passes: float
  reads: float = 0.0

  def __add__(self, other: 'Work') -> 'Work':
    return Work(*map(sum, zip(self._all, other._all, strict=True)))

  def times(self, count: float) -> 'Work':
    return Work(*(count * x for x in self._all))

  @property
  def _all(self):
    return self.flops, self.passes, self.reads

  def seconds(
    self, chip: tpu_topology.Chip, mesh: Any, weights: float
  ) -> float:
    """At best.

    Args:
      weights: bytes of the model.
    """
    whole = weights / mesh['tensor']
    own = whole / mesh['fsdp'] / mesh['sequence']
    read = self.passes * whole + self.reads * own
    return max(
      self.flops / chip.flops / math.prod(mesh.values()), read / chip.bandwidth
    )


def kept(state: Any, *, num_levels: int) -> dict[str, float]:
  """Bytes per TPU of a state, by kind, with what fills its tiles up.

  Args:
    state: shapes with shardings.
  """
  found: dict[str, float] = collections.defaultdict(float)
  for path, leaf in jax.tree_util.tree_leaves_with_path(state):
    name = sharding.path_name(path)
    own = leaf.sharding.shard_shape(leaf.shape)
    size = leaf.dtype.itemsize
    if 'key' in str(leaf.dtype):
      own, size = (*own, 2), 4
    found[kind(name, num_levels)] += tpu_topology.padded_bytes(own, size)
  return dict(found)


def kind(name: str, num_levels: int) -> str:
  """Of an array of a state, by its name."""
  for pattern, found in _KINDS:
    if re.search(pattern, name):
      return found
  path = name.removeprefix('weights/params/')
  moves = optimizer.owner(path, num_levels=num_levels) != 'core'
  return LEARNED if moves else FROZEN


@dataclasses.dataclass(frozen=True)
class Budget:
  """What programs need beside a state, from the shapes of model and config.

  Attributes:
    width: bytes of a number that is computed with.
    mesh: size of each axis.
  """

  model: config_lib.Model
  config: Any
  night: sleep_settings.Settings
  width: int
  mesh: Any

  @property
  def rows(self) -> int:
    """Devices that rows are spread over."""
    return self.mesh['data'] * self.mesh['fsdp']

  @property
  def block_parameters(self) -> float:
    """In the matrices of one block."""
    m = self.model
    heads = (2 * m.num_heads + 2 * m.num_kv_heads) * m.head_size
    levels = sum(3 * x.hidden + 2 * x.slots * x.rank for x in m.levels)
    return m.width * (heads + levels)

  @property
  def moving(self) -> float:
    """Parameters that learn awake."""
    m = self.model
    return sum(3.0 * m.width * x.hidden * m.num_layers for x in m.levels[:-1])

  @property
  def fresh(self) -> float:
    """Parameters of the widest fresh expert."""
    m = self.model
    return max(2.0 * m.width * x.rank * m.num_layers for x in m.levels)

  def forward(self, tokens: float, length: int, *, read: float = 1.0) -> float:
    """Products of reading, in flops.

    Args:
      tokens: in rows of `length`.
      read: share of them that meets the head.
    """
    m = self.model
    scores = 2.0 * m.num_heads * m.head_size * length
    blocks = m.num_layers * (self.block_parameters + scores)
    return 2.0 * tokens * (blocks + read * m.width * m.vocab_size)

  def learning(
    self, tokens: float, length: int, parts: int, moving: float, read: float
  ) -> Work:
    """Forward, forward again where a block forgets, and backward."""
    forward = self.forward(tokens, length, read=read)
    times = 2 if self.model.remat == 'none' else 3
    return Work(times * forward + 2.0 * tokens * moving, times * parts)

  def wake(self) -> Work:
    """One wake step."""
    c = self.config
    tokens = self.day_rows * c.data.context
    parts = c.wake.micro_batches
    return self.learning(tokens, c.data.context, parts, self.moving, 1.0)

  @property
  def day_rows(self) -> int:
    data = self.config.data
    return data.day_batch_size or data.batch_size

  def seed(self) -> Work:
    """One round of a night: rehearsing, then its updates."""
    s = self.night
    share = s.max_new / s.max_length
    update = self.learning(
      s.tokens, s.max_length, s.micro_batches, self.fresh, 2 * share
    )
    work = update.times(s.updates_per_round)
    for teacher in s.teachers:
      writers = 2 if s.on_policy else 1
      work += self._written(teacher.draws).times(writers)
    return work

  def dream(self) -> Work:
    """A night's dreams: written, tried, and learned to write."""
    d, s = self.config.dream, self.night
    texts = d.candidates * d.texts
    kept = (d.top + d.random) * d.repeats

    def learned(steps, batch):
      tokens = batch * s.max_length
      share = s.max_new / s.max_length
      return self.learning(tokens, s.max_length, 1, 0.0, share).times(steps)

    work = self._written(texts) + learned(1, texts)  # Their importance.
    # Trials are made side by side: they share the weights.
    tried = learned(d.trial.steps, kept * d.trial.batch)
    return (work + tried + learned(d.writer.steps, d.writer.batch)).times(
      d.rounds
    )

  def _written(self, draws):
    """What a teacher writes and reads."""
    s = self.night
    prompts = self.forward(draws * s.prompt_width, s.prompt_width, read=0)
    new = self.forward(draws * s.max_new, s.max_length)
    read = self.forward(draws * s.max_length, s.max_length, read=0)
    return Work(prompts + new + read, passes=2, reads=s.max_new)

  def awake(self) -> dict[str, float]:
    """Bytes per device that a wake step needs, by kind."""
    c, rows = self.config, self.day_rows
    tokens = c.wake.block_tokens or rows * c.data.context
    own = rows / c.wake.micro_batches / self.rows
    return self._learning(own, c.data.context, tokens, self.moving)

  def asleep(self) -> dict[str, float]:
    """Likewise of a round of a night: its updates, or its writing."""
    s = self.night
    own = s.rows / s.micro_batches / self.rows
    learning = self._learning(own, s.max_length, s.block_tokens, self.fresh)
    draws = max(t.draws for t in s.teachers) / self.rows
    writing = self._writing(draws, s.prompt_width + s.max_new, s.max_length)
    return max(learning, writing, key=lambda x: sum(x.values()))

  def _writing(self, rows, places, length):
    """Rows written with caches of so many places, and read as a whole."""
    m = self.model
    keys = m.num_kv_heads * m.head_size / self.mesh['tensor']
    places = places / self.mesh['sequence']
    return {
      CACHES: 2 * rows * places * m.num_layers * keys * self.width,
      ACTIVATIONS: self._block(rows, length),
      GATHERED: self._gathered,
    }

  @property
  def _gathered(self):
    return 2 * self.block_parameters * self.width / self.mesh['tensor']

  def dreaming(self) -> dict[str, float]:
    """Likewise of a night's dreams: their importance, a trial, or the writer.

    Trials stand side by side, one on each device and whole; the gradient that
    importance asks for is as large as the matrices, and spread as they are.
    """
    d, s, m = self.config.dream, self.night, self.model
    inner = math.prod(self.mesh.values()) / self.mesh['data']
    texts = d.candidates * d.texts / self.rows
    read = self.config.data.context + s.max_length  # With the document.
    tokens = s.max_new  # Logits are made row by row.

    def learned(reader, adapter, rows, length, tokens):
      numbers = sum(D + F for D, F in self._targeted(adapter.targets))
      numbers *= adapter.rank * m.num_layers
      # With two moments, and its own gradient.
      return reader._learning(rows, length, tokens, 0.0) | {
        ADAPTERS: 4 * 4 * numbers
      }

    grads = sum(D * F for D, F in self._targeted(d.trial.targets))
    grads *= (d.importance != dream_settings.RANDOM) * m.num_layers / inner
    everywhere = tokens * math.prod(self.mesh.values())
    plain = dataclasses.replace(  # As `Transformer.plain`.
      self, model=dataclasses.replace(m, attention='xla')
    )
    parts = (
      plain._learning(texts, s.max_length, tokens, 0.0)
      | {GRADIENTS: 2 * self.width * grads},
      learned(
        plain, d.trial, min(d.trial.batch, d.texts), s.max_length, everywhere
      ),
      learned(self, d.writer, d.writer.batch / self.rows, read, tokens),
      self._writing(texts, read, read),
    )  # fmt: skip
    return max(parts, key=lambda x: sum(x.values()))

  def uneven(self) -> list[str]:
    """Numbers of rows that the devices do not divide, in words.

    Of such rows each device reads all.
    """
    c, s, d = self.config, self.night, self.config.dream
    asked = {
      'data.batch_size over wake.micro_batches':
        self.day_rows // c.wake.micro_batches,
      'rows of an update over consolidate.micro_batches':
        s.rows // s.micro_batches,
      'evaluate.chunk': c.evaluate.chunk,
    } | {
      f'consolidate.teachers[{place}].draws': teacher.draws
      for place, teacher in enumerate(s.teachers)
    }  # fmt: skip
    if d.on:
      asked['dream.candidates times dream.texts'] = d.candidates * d.texts
      asked['dream.writer.batch'] = d.writer.batch
    return [
      f'{name} is {size}, which the {self.rows} devices of rows do not divide: '
      f'each reads all of them. Set it to {size + -size % self.rows}.'
      for name, size in asked.items()
      if size % self.rows
    ]

  def _targeted(self, names):
    """Sides of one block's matrices that adapters stand beside."""
    m = self.model
    heads, keys = m.num_heads * m.head_size, m.num_kv_heads * m.head_size
    sides = {
      'query': [(m.width, heads)], 'out': [(heads, m.width)],
      'key': [(m.width, keys)], 'value': [(m.width, keys)],
      'gate': [(m.width, x.hidden) for x in m.levels],
      'up': [(m.width, x.hidden) for x in m.levels],
      'down': [(x.hidden, m.width) for x in m.levels],
    }  # fmt: skip
    return [pair for name in names for pair in sides[name]]

  def _learning(self, rows, length, tokens, moving):
    m, mesh = self.model, self.mesh
    rows = max(rows, 1.0)
    places = rows * length / mesh['sequence']
    kept = places * m.width * self.width * m.num_layers
    once = self._block(rows, length)
    if m.remat != 'full':
      kept, once = once * m.num_layers, 0.0
    inner = mesh['fsdp'] * mesh['sequence'] * mesh['tensor']
    return {
      ACTIVATIONS: kept + 2 * once,
      GATHERED: self._gathered,
      LOGITS: 3 * 4 * min(tokens, rows * length * self.rows)
      / mesh['data'] * m.vocab_size / inner,
      GRADIENTS: 4 * moving / inner,
    }  # fmt: skip

  def _block(self, rows, length):
    """What one block makes of rows."""
    m, share, shards = self.model, self.mesh['tensor'], self.mesh['sequence']
    hidden = 3 * sum(x.hidden + x.slots * x.rank for x in m.levels) / share
    keys = 2 * m.num_kv_heads * m.head_size / share
    heads = m.num_heads * m.head_size / share + keys
    # Other kernels than XLA's never hold them.
    scores = 0.0
    if m.attention == 'xla':
      scores = (4 + self.width) * m.num_heads * length / share
    place = self.width * (4 * m.width + hidden + 2 * heads) + scores
    # Keys and values of whole rows are gathered for a while.
    gathered = keys * self.width if shards > 1 else 0.0
    return rows * length * (place / shards + gathered)

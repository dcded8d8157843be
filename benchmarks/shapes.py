"""Two model shapes for benchmarks, their batches, and their flops.

'facts' is the shape of configs/base.py. 'larger' is the size at which similar
libraries are commonly measured on a CPU. Tokens are random, because time
depends only on shapes. The exception is sampling, which stops when all rows
have produced EOS. An untrained model rarely produces it, so the measured
sampling time is the worst case.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import base
from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.learner import programs
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.runtime import sharding
from sleep_jax.strategies import strategy

VOCAB = {'facts': 1024, 'larger': 4096}
_FIRST_TOKEN = 8  # Lower ids are special tokens or padding.
BOS, EOS = 1, 2


def config(shape: str) -> ml_collections.ConfigDict:
  """Returns the config of a shape."""
  c = base.get_config()
  if shape == 'larger':
    c.model.update(width=256, num_layers=4, head_size=64, unroll=4)
    c.levels = tuple(
      level | {'hidden': 704, 'rank': 64 if level['slots'] else 0}
      for level in c.to_dict()['levels']
    )
    c.data.update(context=64, max_prompt=32, batch_size=16)
    c.consolidate.update(
      max_length=64, prompt_width=32, max_new=32, updates_per_round=10
    )  # fmt: skip
    c.consolidate.teachers = (
      dict(teacher='anchor', prompts='old', sequences=16, draws=48),
      dict(teacher='next', prompts='day', sequences=8, draws=24),
    )
  return c


def make_programs(
  shape: str, kind: strategy.Strategy
) -> tuple[programs.Programs, ml_collections.ConfigDict]:
  """Builds the programs of a strategy at a shape; also returns the config."""
  c = config(shape)
  model_config = config_lib.make(c.model, c.to_dict()['levels'],
                         vocab_size=VOCAB[shape])  # fmt: skip
  random = np.random.default_rng(0)
  tokens = lambda: jnp.asarray(random.integers(8, VOCAB[shape], (10, 4)), 'i4')
  size = jnp.full((10,), 3, jnp.int32)
  templates = types.PromptTemplates(tokens(), size, tokens(), size - 2)
  program = programs.Programs(
    c,
    transformer.Transformer(model_config),
    kind,
    sharding.make(),
    templates=templates,
    bos=BOS,
    eos=EOS,
    judge=jax.tree_util.Partial(lambda *texts: jnp.zeros(len(texts[0]))),
  )
  return program, c


def half_full_state(program: programs.Programs) -> state_lib.State:
  """Returns an initial state in which half of the expert slots are active."""
  state = program.begin(None, jax.random.key(0))
  active_NE = state.weights.active_NE
  for row, level in enumerate(program.model.config.levels):
    active_NE = active_NE.at[row, : level.slots // 2].set(1)
  return state.replace(weights=state.weights.replace(active_NE=active_NE))


def batches(shape: str, num: int) -> Iterator[types.Batch]:
  """Yields padded batches whose rows fill half of the context or more."""
  c, random = config(shape), np.random.default_rng(1)
  rows, T, P = c.data.batch_size, c.data.context, c.data.max_prompt
  for _ in range(num):
    tokens_BT = random.integers(_FIRST_TOKEN, VOCAB[shape], (rows, T))
    tokens_BT[:, 0] = BOS
    length_B1 = random.integers(T // 2, T + 1, (rows, 1))
    position = np.arange(T)[None]
    is_token = position < length_B1
    batch = types.Batch(
      tokens_BT=tokens_BT.astype('i4'),
      segments_BT=np.where(is_token, 1, -1).astype('i4'),
      positions_BT=np.where(is_token, position, 0).astype('i4'),
      loss_BT=(is_token & (position > 0)).astype('f4'),
      prompts=types.Prompts(
        tokens_BP=tokens_BT[:, :P].astype('i4'),
        length_B=random.integers(4, P - 3, (rows,)).astype('i4'),
        subject_B2=np.tile(np.array([[1, 3]], 'i4'), (rows, 1)),
      ),
    )
    yield jax.tree.map(jnp.asarray, batch)


def forward_flops(
  program: programs.Programs, length: int, *, head_share: float = 1.0
) -> float:
  """Returns the flops of the matrix products of one token.

  Args:
    program: the programs; half of the expert slots are counted.
    length: tokens of the row.
    head_share: share of the tokens for which logits are computed.
  """
  m = program.model.config
  heads = m.num_heads * m.head_size
  attention = m.width * (2 * heads + 2 * m.num_kv_heads * m.head_size)
  attention += 2 * length * heads
  levels = sum(
    3 * m.width * level.hidden
    + level.slots // 2 * m.width * (2 * level.rank + 1)
    for level in m.levels
  )
  head = head_share * m.width * m.vocab_size
  return 2.0 * (m.num_layers * (attention + levels) + head)


def size(program: programs.Programs, owner: str) -> int:
  """Returns the number of parameters that an optimizer owner trains.

  Their gradient costs 2 flops per parameter and token.
  """
  return sum(
    int(np.prod(leaf.shape))
    for leaf in jax.tree.leaves(program.abstract(None).sums[owner])
  )

"""Cartridges, a baseline: trained keys and values in place of the documents.

Each experience trains a prefix of keys and values, which all tokens attend to
in every layer (`model.prefix`); nothing else is trained. The teacher is the
initial model with the text of a row before its prompt, and writes the answers.
The student is the initial model with the prefix, and without the text. A
finished prefix is frozen, and stays before those of later experiences.

References: 2506.06266: self-study, with the divergence from the model that has
the document in its context; a prefix starts as the keys and values of the first
tokens of the document. There a prefix is trained by itself for one document; a
new one is trained here with the earlier ones before it, as it is asked later.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import prefix
from sleep_jax.optim import gradient_accumulation, optimizer
from sleep_jax.schedule import events
from sleep_jax.strategies import (
  method,
  own_answers,
  self_distillation,
  strategy,
)

NAME = 'cartridge'


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the prefixes.

  Attributes:
    tokens: places of the prefix of one experience.
    tasks: most experiences; there is room for the prefixes of so many.
    sequences: answers that a wake step reads, to prompts of its batch.
    max_new: most tokens of an answer; 0: as many as `data.context` has room
      for.
    optimizer: arguments of `optim.optimizer.make`.
  """

  tokens: int
  tasks: int
  sequences: int
  max_new: int
  optimizer: Mapping[str, Any]


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  return strategy.fine_tuning(
    NAME, num_levels, owners={NAME: (optimizer.ADAPTER,)}, extend=_extend,
    trains=lambda path: path.endswith(('/key', '/value')),
    reviews=(events.START, events.END), build=_build,
  )  # fmt: skip


def _extend(config, key, weights):
  """Returns weights with room for all prefixes; none is attended to."""
  del key
  settings = Settings(**config[NAME])
  adapter = prefix.init(
    weights.params, tokens=settings.tokens, past=settings.tasks
  )
  return weights.replace(adapter=adapter)


def first_tokens(batch: types.Batch, num: int) -> types.Array:
  """Returns the first tokens of a batch without padding, `[num]`.

  If the batch has fewer, they are repeated.
  """
  valid_T = (batch.segments_BT >= 0).reshape(-1)
  order_T = jnp.argsort(~valid_T, stable=True)
  index = jnp.arange(num) % jnp.maximum(jnp.sum(valid_T), 1)
  return batch.tokens_BT.reshape(-1)[order_T[index]]


def keep(own: types.Params, count: types.Array) -> types.Params:
  """Returns a prefix whose trained part is finished: frozen, and off.

  Args:
    own: see `prefix.init`.
    count: number of parts that were finished before.
  """
  num = own['key'].shape[1]
  start = count * num
  put = lambda name: jax.lax.dynamic_update_slice_in_dim(
    own[f'past_{name}'], own[name], start, 1
  )
  on = jax.lax.dynamic_update_slice_in_dim(
    own['on'], jnp.ones_like(own['on'][:, :num]), start, 1
  )
  return own | {
    'past_key': put('key'), 'past_value': put('value'),
    'on': on.at[:, -num:].set(0),
  }  # fmt: skip


def _build(parts: method.Parts) -> method.Method:
  """Returns the loss, and reviews that begin a prefix and that finish it.

  Raises:
    ConfigError: `wake.micro_batches` does not divide the number of answers.
  """
  settings = Settings(**parts.config[NAME])
  num = parts.config.wake.micro_batches
  gradient_accumulation.check_divisible(
    num, {f'{NAME}.sequences': settings.sequences}, 'wake.micro_batches'
  )
  size = own_answers.longest(parts.config, settings.max_new)

  def loss_fn(state, batch):
    teacher = state.weights.replace(adapter=None)
    answers, sampling_costs = own_answers.write(
      parts, state, batch, prompts=settings.sequences, max_new=size,
      teacher=teacher,
    )  # fmt: skip
    found, reading_costs = self_distillation.mean_divergence(
      parts.model, teacher, answers, beta=0.0, size=size, num=num
    )
    costs = jax.tree.map(jnp.add, sampling_costs, reading_costs)
    return state, [found], costs

  def replaced(state, own):
    weights = state.weights.replace(adapter={prefix.PATH: own})
    return state.replace(weights=weights)

  def read(state, batch):
    P = settings.tokens
    tokens_1P = first_tokens(batch, P)[None]
    before_1P = jnp.arange(-P, 0)[None]  # Positions.
    initial = state.weights.replace(adapter=None)
    key, value = parts.model.keys_and_values(
      initial, tokens_1P, jnp.ones_like(tokens_1P), before_1P
    )
    own = state.weights.adapter[prefix.PATH]
    flat = lambda x: x.reshape(own['key'].shape).astype(own['key'].dtype)
    start = {'key': flat(key), 'value': flat(value)}
    return replaced(state, own | start), method.counts(forward=P)

  def finish(state, *, moment):
    own, count = state.weights.adapter[prefix.PATH], state.strategy['count']
    if moment == events.END:
      state = state.replace(strategy={'count': count + 1})
      return replaced(state, keep(own, count)), method.counts()
    on = own['on'].at[:, -settings.tokens :].set(1)
    zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
    state = state.replace(opt=zeros(state.opt), sums=zeros(state.sums))
    return replaced(state, own | {'on': on}), method.counts()

  return method.Method(
    allocate=lambda weights: {'count': jnp.zeros((), jnp.int32)},
    penalty=loss_fn, learns_rows=False, read=read, finish=finish,
    num_batches=1, read_at=(events.START,), most_experiences=settings.tasks,
  )  # fmt: skip

"""Groups of adapters by prototypes (ProtoAda), a baseline.

A reconstruction from the abstract: the equations of the paper were not at hand.
Each experience has a prototype: the mean feature of its prompts, and the
format of its answers. It joins the group with the most similar prototype, or
founds one. All groups are a part of the model at once.

- An experience trains one adapter, of which a group keeps the factor `a` of its
  founder. The directions that this factor reads are the subspace of the group.
- An experience that joins starts from that factor. Its update, the product of
  its adapter, has a part that reads the subspace and a part that reads only
  what is orthogonal to it. The first is averaged over the experiences of the
  group: of the n-th, 1 / n is added. The second is added as it is.

References: 2606.02576, the abstract; everything else is our reading.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.optim import optimizer
from sleep_jax.schedule import events
from sleep_jax.strategies import lora, method, strategy

NAME = 'protoada'
Array = types.Array
_KEY_OFFSET = 2**30 + 2**27  # Keeps its keys apart from others.


@dataclasses.dataclass(frozen=True)
class Settings(lora.Settings):
  """Settings of the groups and of their adapters.

  Attributes:
    rank, targets, optimizer: see `lora.Settings`.
    threshold: cosine of two prototypes above which an experience joins.
    batches: most batches of an experience that its prototype is made of.
    tasks: most experiences; there is room for so many groups.
  """

  threshold: float
  batches: int
  tasks: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy; it is the same for any number of levels."""
  return strategy.fine_tuning(
    NAME, num_levels, owners={NAME: (optimizer.ADAPTER,)},
    extend=lora.adapter_of(NAME), reviews=(events.START, events.END),
    build=_build,
  )  # fmt: skip


def count_tokens(
  batch: types.Batch, states_BTD: Array, vocab_size: int
) -> dict[str, Array]:
  """Returns what a prototype is made of, summed over a batch.

  Args:
    batch: rows of one text, or packed. The answer of a text is what follows its
      stored prompt, EOS included.
    states_BTD: features of the tokens.
    vocab_size: V.

  Returns:
    'feature_D', the sum over tokens of prompts; 'answers_V', how often each
    token is in answers; and 'num', the number of answers.
  """
  length_BK = batch.prompts.length_B.reshape(len(batch.tokens_BT), -1)
  # The k-th prompt of a row is that of its k-th text, see `Source.batch`.
  text_BT = jnp.clip(batch.segments_BT - 1, 0, length_BK.shape[1] - 1)
  length_BT = jnp.take_along_axis(length_BK, text_BT, 1)
  inside_BT = (batch.segments_BT > 0) & (length_BT > 0)
  asks_BT = inside_BT & (batch.positions_BT < length_BT)
  answers_BT = inside_BT & ~asks_BT
  feature_D = jnp.sum(jnp.where(asks_BT[..., None], states_BTD, 0), (0, 1))
  return {
    'feature_D': feature_D.astype(jnp.float32),
    'answers_V': jnp.zeros(vocab_size).at[batch.tokens_BT].add(answers_BT),
    'num': jnp.sum(length_BK > 0).astype(jnp.float32),
  }


def prototype(sums: dict[str, Array], longest: int) -> Array:
  """Returns the prototype of an experience, `[D + 2]`.

  It is the mean feature of the prompts, of length 1, followed by the format of
  the answers, two numbers from 0 to 1: their mean length as a share of
  `longest`, and the entropy of their tokens as a share of the largest one.

  Args:
    sums: see `count_tokens`.
    longest: tokens of a row.
  """
  feature_D, count_V = sums['feature_D'], sums['answers_V']
  share_V = count_V / jnp.maximum(jnp.sum(count_V), 1)
  entropy = -jnp.sum(jax.scipy.special.xlogy(share_V, share_V))
  length = jnp.sum(count_V) / jnp.maximum(sums['num'], 1)
  size = jnp.maximum(jnp.linalg.norm(feature_D), 1e-6)
  format_2 = jnp.stack([length / longest, entropy / jnp.log(len(count_V))])
  return jnp.concatenate([feature_D / size, format_2])


def choose_group(
  new_F: Array, prototypes_NF: Array, days_N: Array, threshold: float
) -> Array:
  """Returns the number of the group of an experience, from 0.

  Args:
    new_F: its prototype.
    prototypes_NF: of the groups; groups are founded in their order.
    days_N: number of experiences of each group; 0 where there is none yet.
    threshold: of the cosine.
  """
  sizes_N = jnp.linalg.norm(prototypes_NF, axis=1) * jnp.linalg.norm(new_F)
  cosine_N = prototypes_NF @ new_F / jnp.maximum(sizes_N, 1e-6)
  cosine_N = jnp.where(days_N > 0, cosine_N, -jnp.inf)
  joins = jnp.max(cosine_N) > threshold
  return jnp.where(joins, jnp.argmax(cosine_N), jnp.sum(days_N > 0))


def split(update: Array, factor: Array) -> tuple[Array, Array]:
  """Splits an update by what it reads; the sum of both parts is the update.

  Args:
    update: of a matrix, `[L, D, F]`.
    factor: `[L, D, R]`, whose columns span the subspace of each layer.

  Returns:
    The part that reads the subspace, and the part that reads only what is
    orthogonal to it.
  """
  basis, _ = jnp.linalg.qr(factor)
  inside = basis @ (jnp.swapaxes(basis, 1, 2) @ update)
  return inside, update - inside


def _build(parts: method.Parts) -> method.Method:
  """Returns reviews that choose a group, and that merge an adapter into it."""
  settings = Settings(**parts.config[NAME])
  context = parts.config.data.context
  vocab_size = parts.model.config.vocab_size

  def no_tokens(width):
    return {
      'feature_D': jnp.zeros(width), 'answers_V': jnp.zeros(vocab_size),
      'num': jnp.zeros(()),
    }  # fmt: skip

  def allocate(weights):
    width, num = parts.model.config.width, settings.tasks
    return {
      'initial': {p: jnp.copy(weights.params[p]) for p in weights.adapter},
      'factors': {
        path: {'a': jnp.zeros((num, *low['a'].shape))}
        for path, low in weights.adapter.items()
      },
      'prototypes_NF': jnp.zeros((num, width + 2)),
      'days_N': jnp.zeros((num,), jnp.int32),
      'sums': no_tokens(width),
      'new_F': jnp.zeros((width + 2,)),
      'group': jnp.zeros((), jnp.int32),
    }

  def read(state, batch):
    own = state.strategy
    initial = state.weights.replace(adapter=None).with_params(own['initial'])
    states_BTD = parts.model.states(
      initial, batch.tokens_BT, batch.segments_BT, batch.positions_BT
    )
    found = count_tokens(batch, states_BTD, vocab_size)
    own = own | {'sums': jax.tree.map(jnp.add, own['sums'], found)}
    num_read = jnp.sum(batch.segments_BT >= 0)
    return state.replace(strategy=own), method.counts(forward=num_read)

  def start(state, key):
    """Chooses the group, and starts an adapter from its factor."""
    own = state.strategy
    new_F = prototype(own['sums'], context)
    group = choose_group(
      new_F, own['prototypes_NF'], own['days_N'], settings.threshold
    )
    state = lora.fresh(state, key, params={})
    joins = own['days_N'][group] > 0
    adapter = {
      path: low | {'a': jnp.where(joins, known['a'][group], low['a'])}
      for path, low, known in _paired(state.weights.adapter, own['factors'])
    }
    own = own | {
      'sums': no_tokens(parts.model.config.width), 'new_F': new_F,
      'group': group.astype(jnp.int32),
    }  # fmt: skip
    weights = state.weights.replace(adapter=adapter)
    return state.replace(weights=weights, strategy=own)

  def end(state, key):
    """Merges the adapter into its group, and the rest into the model."""
    own, group = state.strategy, state.strategy['group']
    days, factors, params = own['days_N'][group], {}, {}
    for path, low, known in _paired(state.weights.adapter, own['factors']):
      factor = jnp.where(days > 0, known['a'][group], low['a'])
      inside, rest = split(low['a'] @ low['b'], factor)
      params[path] = state.weights.params[path] + inside / (days + 1) + rest
      factors[path] = {'a': known['a'].at[group].set(factor)}
    old_F = own['prototypes_NF'][group]
    mean_F = old_F + (own['new_F'] - old_F) / (days + 1)
    own = own | {
      'factors': factors,
      'prototypes_NF': own['prototypes_NF'].at[group].set(mean_F),
      'days_N': own['days_N'].at[group].add(1),
    }
    return lora.fresh(state, key, params=params).replace(strategy=own)

  def finish(state, *, moment):
    key = jax.random.fold_in(
      jax.random.fold_in(state.key, state.step), _KEY_OFFSET
    )
    change = start if moment == events.START else end
    return change(state, key), method.counts()

  return method.Method(
    allocate=allocate, read=read, finish=finish, moves_core=True,
    num_batches=settings.batches, read_at=(events.START,),
    most_experiences=settings.tasks,
  )  # fmt: skip


def _paired(adapter, factors):
  """Returns each path, its adapter, and the factors that the groups keep."""
  return [(path, low, factors[path]) for path, low in adapter.items()]

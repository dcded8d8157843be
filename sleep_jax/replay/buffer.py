"""The replay generator: prompts that were met, asked again.

What is kept of a day is how its texts began, never their answers: whatever a
rehearsal holds beyond its prompt is written by a teacher. Entries live in
bands (birth, the past, each sleeper's day), each a reservoir, so that a slow
sender still finds its own day and old age bands are never crowded out.

References: 2606.03979 section 3.3; reservoir sampling, Vitter 1985; self-study
stems, 2506.06266.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sleep_jax import state, types

Array = types.Array
# JAX orders a dict by its keys, and random numbers follow that order: the group
# of pretraining sorts before the days, these before the past.
PRETRAIN, PAST, _DAY = 'corpus', 'past', 'day/'


def day(level: int) -> str:
  """Name of the band that holds a sender's day."""
  return f'{_DAY}{level}'


def empty(
  capacities: Mapping[str, int], *, width: int, document: int = 0
) -> dict:
  """Bands by name.

  Args:
    capacities: prompts of each.
    width: of the longest prompt, in tokens.
    document: likewise, of the document that days keep for a teacher; 0: none.
  """

  def age_group(capacity, document):
    documents = None
    if document:
      documents = types.Texts(
        tokens_BT=jnp.zeros((capacity, document), jnp.int32),
        length_B=jnp.ones((capacity,), jnp.int32),
      )
    return state.AgeGroup(
      tokens_CP=jnp.zeros((capacity, width), jnp.int32),
      length_C=jnp.zeros((capacity,), jnp.int32),
      subject_C2=jnp.zeros((capacity, 2), jnp.int32),
      step_C=jnp.zeros((capacity,), jnp.int32),
      count=jnp.zeros((), jnp.int32),
      documents=documents,
    )

  return {
    name: age_group(size, document * name.startswith(_DAY))
    for name, size in capacities.items()
    if size
  }


def insert(
  age_group: state.AgeGroup,
  prompts: types.Prompts,
  step: Array,
  key: Array,
  *,
  documents: types.Texts | None = None,
) -> state.AgeGroup:
  """Offers a batch of prompts to a reservoir; absent prompts do not count.

  Args:
    band: keeps the documents as well if it has room for them.
    prompts: [B, P].
    step: wake step at which they are met.
    key: consumed.
    documents: what each prompt began, [B, W]; needed where they are kept.
  """
  capacity = age_group.length_C.shape[0]
  slot_B, count = reservoir(
    age_group.count, prompts.length_B > 0, capacity, key
  )
  put = lambda old, new: old.at[slot_B].set(new, mode='drop')
  return state.AgeGroup(
    tokens_CP=put(age_group.tokens_CP, prompts.tokens_BP),
    length_C=put(age_group.length_C, prompts.length_B),
    subject_C2=put(age_group.subject_C2, prompts.subject_B2),
    step_C=put(age_group.step_C, jnp.broadcast_to(step, slot_B.shape)),
    count=count,
    documents=jax.tree.map(put, age_group.documents, documents)
    if age_group.documents is not None
    else None,
  )


def reservoir(
  count: Array, present_B: Array, capacity: int, key: Array
) -> tuple[Array, Array]:
  """Where each of a batch of items goes in a uniform reservoir.

  Returns:
    slot_B: int32, `capacity` where the item is not kept (out of bounds, for
      writes that drop), and the count after the batch.
  """
  order_B = jnp.cumsum(present_B.astype(jnp.int32)) - 1
  place_B = count + order_B  # Items offered before this one.
  drawn_B = jnp.floor(
    jax.random.uniform(key, place_B.shape) * (place_B + 1)
  ).astype(jnp.int32)
  slot_B = jnp.where(place_B < capacity, place_B, drawn_B)
  slot_B = jnp.where(present_B & (slot_B < capacity), slot_B, capacity)
  # Of two items for one slot the later stays, on every backend alike.
  later = jnp.triu(slot_B[:, None] == slot_B[None, :], 1).any(1)
  slot_B = jnp.where(later, capacity, slot_B)
  return slot_B, count + jnp.sum(present_B.astype(jnp.int32))


def stored_tokens(replay: Mapping[str, state.AgeGroup]) -> int:
  """Room for tokens in all bands: what a replay buffer may use as well."""
  return sum(age_group.tokens_CP.size for age_group in replay.values())

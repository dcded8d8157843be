"""Replay buffer: stored prompts, from which teachers generate rehearsals.

The buffer stores the beginnings of texts, and their answers only for
`sleep_rows`. Without stored answers, a teacher generates everything in a
rehearsal that follows the prompt. Entries are in age groups (pretraining, the
past, and the day of each sender). Each group is a reservoir of its own, so that
a slow sender still finds the prompts of its day and new entries do not displace
those of older groups.

References: 2606.03979 section 3.3; reservoir sampling, Vitter 1985, and of
prompts that are offered several times, see `priorities`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sleep_jax import state, types
from sleep_jax.replay import priorities

Array = types.Array
# JAX orders a dict by its keys, and random numbers depend on that order: the
# group of pretraining sorts before the days, and the days before the past.
PRETRAIN, PAST, _DAY = 'corpus', 'past', 'day/'
OWN_TEXTS = 'own_texts'  # Whole texts of the initial model.


def day_group(level: int) -> str:
  """Returns the name of the age group of the day of a sender."""
  return f'{_DAY}{level}'


def allocate(
  capacities: Mapping[str, int],
  *,
  width: int,
  document_width: int = 0,
  replaces: bool = False,
  answer_width: int = 0,
) -> dict[str, state.AgeGroup]:
  """Allocates empty age groups.

  Args:
    capacities: number of prompts of each group. A group of capacity 0 is left
      out.
    width: maximum length of a prompt in tokens.
    document_width: maximum length of the document that the days store with each
      prompt, in tokens. 0 means no documents.
    replaces: whether documents may stand for more of a prompt than its BOS, see
      `types.Texts`.
    answer_width: most tokens that are stored of what follows a prompt. 0 means
      no answers.

  Returns:
    Name -> age group.
  """

  def allocate_group(capacity, document_width):
    documents = None
    if document_width:
      documents = types.Texts(
        tokens_BT=jnp.zeros((capacity, document_width), jnp.int32),
        length_B=jnp.ones((capacity,), jnp.int32),
        replaces_B=jnp.ones((capacity,), jnp.int32) if replaces else None,
      )
    return state.AgeGroup(
      tokens_CP=jnp.zeros((capacity, width), jnp.int32),
      length_C=jnp.zeros((capacity,), jnp.int32),
      subject_C2=jnp.zeros((capacity, 2), jnp.int32),
      step_C=jnp.zeros((capacity,), jnp.int32),
      count=jnp.zeros((), jnp.int32),
      documents=documents,
      answers=no_answers(capacity, answer_width) if answer_width else None,
    )

  return {
    name: allocate_group(capacity, document_width * name.startswith(_DAY))
    for name, capacity in capacities.items()
    if capacity
  }


def no_answers(num: int, width: int) -> types.Texts:
  """Returns answers of prompts that are not known."""
  return types.Texts(
    jnp.zeros((num, width), jnp.int32), jnp.zeros((num,), jnp.int32)
  )


def allocate_own_texts(
  capacity: int, *, width: int, state_size: int
) -> state.AgeGroup:
  """Allocates texts of the initial model, with its states.

  Args:
    capacity: number of texts.
    width: maximum tokens of a text.
    state_size: size of an input of the head.
  """
  (group,) = allocate({OWN_TEXTS: capacity}, width=width).values()
  states_CGD = jnp.zeros((capacity, width - 1, state_size), jnp.float32)
  return group.replace(states_CGD=states_CGD)


def draw_own_texts(
  age_group: state.AgeGroup,
  key: Array,
  *,
  num: int,
  max_length: int,
) -> types.Rollout:
  """Draws texts of the initial model, each once before one is drawn again.

  Their states stay where they are, see `own_states`.

  Args:
    age_group: of `allocate_own_texts`, filled.
    key: consumed.
    num: number of texts.
    max_length: tokens of a text; longer ones are cut.
  """
  capacity = age_group.length_C.shape[0]
  order_C = jax.random.permutation(key, capacity)
  at_B = order_C[jnp.arange(num) % capacity]
  return types.Rollout(
    tokens_BT=age_group.tokens_CP[at_B, :max_length],
    prompt_length_B=age_group.subject_C2[at_B, 0],
    length_B=jnp.minimum(age_group.length_C[at_B], max_length),
    own_text_B=at_B.astype(jnp.int32),
  )


def own_states(
  age_group: state.AgeGroup, rollout: types.Rollout, *, max_new: int
) -> Array:
  """Returns the states of the initial model on its own texts, `[B, G, D]`.

  Args:
    age_group: of `allocate_own_texts`, filled.
    rollout: texts of `draw_own_texts`.
    max_new: most tokens of a text that are learned, from the start of its
      subject on.
  """
  return age_group.states_CGD[rollout.own_text_B, :max_new]


def insert(
  age_group: state.AgeGroup,
  prompts: types.Prompts,
  step: Array,
  key: Array,
  *,
  documents: types.Texts | None = None,
  once: bool = False,
) -> state.AgeGroup:
  """Offers a batch of prompts to an age group. Absent prompts do not count.

  Args:
    age_group: the reservoir.
    prompts: [B, P]. A group that stores answers stores theirs, or that they
      have none.
    step: wake step of the batch.
    key: consumed; with `once` that of the run, the same for all batches.
    documents: document of each prompt, [B, W]. Required if the group stores
      documents, else ignored.
    once: whether a prompt with the same document and the same answer is stored
      once, however often it is offered: a day is read several times. All
      prompts of a group are offered with it, or none.
  """
  capacity = age_group.length_C.shape[0]
  present_B = prompts.length_B > 0
  if age_group.answers is None:
    prompts = prompts.replace(answers=None)
  elif prompts.answers is None:
    width = age_group.answers.tokens_BT.shape[1]
    prompts = prompts.replace(answers=no_answers(len(present_B), width))
  if once:
    new_B, old_C = _priorities(age_group, prompts, documents, key)
    new_B = jnp.where(present_B, new_B, priorities.EMPTY)
    slot_B = priorities.slots(new_B, old_C)
    used = jnp.sum(slot_B < capacity) - jnp.sum(slot_B < age_group.count)
    count = jnp.minimum(age_group.count, capacity) + used
  else:
    slot_B, count = reservoir_slots(age_group.count, present_B, capacity, key)
  put = lambda old, new: old.at[slot_B].set(new, mode='drop')
  kept = age_group.documents
  if kept is not None and kept.replaces_B is not None:
    if documents.replaces_B is None:
      documents = documents.replace(replaces_B=jnp.ones_like(slot_B))
  return state.AgeGroup(
    tokens_CP=put(age_group.tokens_CP, prompts.tokens_BP),
    length_C=put(age_group.length_C, prompts.length_B),
    subject_C2=put(age_group.subject_C2, prompts.subject_B2),
    step_C=put(age_group.step_C, jnp.broadcast_to(step, slot_B.shape)),
    count=count,
    documents=None if kept is None else jax.tree.map(put, kept, documents),
    answers=jax.tree.map(put, age_group.answers, prompts.answers),
  )


def _priorities(
  age_group: state.AgeGroup,
  prompts: types.Prompts,
  documents: types.Texts | None,
  key: Array,
) -> tuple[Array, Array]:
  """Returns the priorities of new prompts, `[B]`, and of the entries, `[C]`."""

  def parts(tokens, length, documents, answers):
    found = [(tokens, length)]
    if age_group.documents is not None:
      found.append((documents.tokens_BT, documents.length_B))
    if age_group.answers is not None:
      found.append((answers.tokens_BT, answers.length_B))
    return found

  new = parts(prompts.tokens_BP, prompts.length_B, documents, prompts.answers)
  old = parts(
    age_group.tokens_CP, age_group.length_C, age_group.documents,
    age_group.answers,
  )  # fmt: skip
  old_C = priorities.of_texts(old, key)
  is_used_C = jnp.arange(len(old_C)) < age_group.count
  return (
    priorities.of_texts(new, key),
    jnp.where(is_used_C, old_C, priorities.EMPTY),
  )


def reservoir_slots(
  count: Array, present_B: Array, capacity: int, key: Array
) -> tuple[Array, Array]:
  """Assigns a batch of items to the slots of a uniform reservoir.

  Args:
    count: number of items offered before.
    present_B: bool, whether an item exists.
    capacity: number of slots.
    key: consumed.

  Returns:
    slot_B: int32, `capacity` where an item is not stored. This is out of
      bounds, for writes with mode 'drop'.
    count: number of items offered, including this batch.
  """
  order_B = jnp.cumsum(present_B.astype(jnp.int32)) - 1
  index_B = count + order_B  # Number of items offered before each.
  random_B = jnp.floor(
    jax.random.uniform(key, index_B.shape) * (index_B + 1)
  ).astype(jnp.int32)
  slot_B = jnp.where(index_B < capacity, index_B, random_B)
  slot_B = jnp.where(present_B & (slot_B < capacity), slot_B, capacity)
  # Of two items in one slot the last is stored, on every backend.
  overwritten = jnp.triu(slot_B[:, None] == slot_B[None, :], 1).any(1)
  slot_B = jnp.where(overwritten, capacity, slot_B)
  return slot_B, count + jnp.sum(present_B.astype(jnp.int32))


def token_capacity(replay: Mapping[str, state.AgeGroup]) -> int:
  """Returns the number of tokens that all age groups can hold.

  Those of prompts and answers count.
  """
  groups = replay.values()
  answers = [g.answers.tokens_BT.size for g in groups if g.answers is not None]
  return sum(g.tokens_CP.size for g in groups) + sum(answers)

"""Self-edits: all weights learn what helped, and nothing keeps the old.

SEAL's way, for comparison: the model writes about a document, texts that helped
in a trial of their own are learned together with the document, by a low-rank
adapter that is then added to the matrices; so is what the writer has learned.
The next document finds the model so edited.

References: 2506.10943 (SEAL), sections 3 and 4.
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.dream import rounds, settings, trials
from sleep_jax.model import lora

Array = types.Array


@dataclasses.dataclass(frozen=True)
class SelfEdit:
  """The program of an edit.

  Attributes:
    curriculum: what is written and tried.
    adapter: how an edit is learned.
  """

  curriculum: rounds.DreamRounds
  adapter: settings.Adapter

  def edit(
    self,
    state: state_lib.State,
    prompts: types.PromptTemplates,
    task: types.Task,
  ) -> tuple[state_lib.State, dict]:
    """Writes, tries, and learns for good.

    Args:
      prompts, task: see `Curriculum.dream`.

    Returns:
      The state, one step later, and the journal.
    """
    c, a = self.curriculum, self.adapter
    key = jax.random.fold_in(state.key, state.step)
    dream_key, begin_key, learn_key = jax.random.split(key, 3)
    writer, (texts, _, weight_B), journal = c.dream(
      state.weights, dream_key, prompts, task
    )
    weights = lora.merged(state.weights, writer, scale=c.dreams.writer.scale)
    rows, weight_R = lessons(texts, weight_B, task.prompts.context)
    learned = trials.learn(
      c.model, weights, rows, weight_R, learn_key,
      adapter=lora.init(
        begin_key, weights.params, rank=a.rank, targets=a.targets
      ),
      settings=a, size=rows.tokens_BT.shape[1],
    )  # fmt: skip
    weights = lora.merged(weights, learned, scale=a.scale)
    return state.replace(weights=weights, step=state.step + 1), journal

  def tokens(self, task: types.Task) -> int:
    """Read by an edit beside its dreams, padding included."""
    width = max(
      task.prompts.context.tokens_BT.shape[1],
      self.curriculum.settings.max_length,
    )
    return self.adapter.steps * self.adapter.batch * width


def lessons(
  texts: types.Rollout, weight_B: Array, documents: types.Texts
) -> tuple[types.Rollout, Array]:
  """What is learned of an edit: texts that helped, and every document whole.

  Returns:
    Rows of one width, texts first, without documents in front; their weights.
  """
  sizes = [x.tokens_BT.shape[1] for x in (texts, documents)]
  wide = lambda tokens_BT: jnp.pad(
    tokens_BT, ((0, 0), (0, max(sizes) - tokens_BT.shape[1]))
  )
  one_N = jnp.ones_like(documents.length_B)
  rows = types.Rollout(
    tokens_BT=jnp.concatenate(
      [wide(texts.tokens_BT), wide(documents.tokens_BT)]
    ),
    prompt_length_B=jnp.concatenate([texts.prompt_length_B, one_N]),
    length_B=jnp.concatenate([texts.length_B, documents.length_B]),
  )
  return rows, jnp.concatenate([weight_B, one_N.astype(weight_B.dtype)])

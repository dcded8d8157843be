"""Implements self-edits (SEAL), a baseline that trains all weights on dreams.

The model writes texts about documents and tries them as in a dreaming night.
A low-rank adapter is then trained on the rewarded texts and on the whole
documents, and merged into the matrices for good; the writer's adapter is merged
as well. Old knowledge is not rehearsed. The next experience starts from the
edited model.

References: 2506.10943 (SEAL), sections 3 and 4.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.dream import settings, trials
from sleep_jax.model import lora

Array = types.Array


@dataclasses.dataclass(frozen=True)
class SelfEdit:
  """The program of a self-edit.

  Attributes:
    dream_rounds: a `rounds.DreamRounds`, which writes and tries the texts.
    adapter: settings of the adapter that is trained and merged.
  """

  dream_rounds: Any
  adapter: settings.Adapter

  def edit(
    self,
    state: state_lib.State,
    templates: types.PromptTemplates,
    task: types.Task,
  ) -> tuple[state_lib.State, dict]:
    """Writes and tries texts, and merges what was learned into the weights.

    Args:
      state: before the edit.
      templates, task: see `DreamRounds.dream`.

    Returns:
      The state one step later, and the dream records.
    """
    d, a = self.dream_rounds, self.adapter
    key = jax.random.fold_in(state.key, state.step)
    dream_key, init_key, train_key = jax.random.split(key, 3)
    writer, (texts, _, weight_B), records = d.dream(
      state.weights, dream_key, templates, task
    )
    weights = lora.merge(state.weights, writer, scale=d.dreams.writer.scale)
    rows, weight_R = training_rows(texts, weight_B, task.prompts.context)
    trained = trials.train_adapter(
      d.model,
      weights,
      rows,
      weight_R,
      train_key,
      adapter=lora.init(
        init_key, weights.params, rank=a.rank, targets=a.targets
      ),
      settings=a,
      size=rows.tokens_BT.shape[1],
    )
    weights = lora.merge(weights, trained, scale=a.scale)
    return state.replace(weights=weights, step=state.step + 1), records

  def count_tokens(self, task: types.Task) -> int:
    """Returns the tokens that the merged adapter is trained on.

    Padding is included; the tokens of the dreams are not.
    """
    width = max(
      task.prompts.context.tokens_BT.shape[1],
      self.dream_rounds.settings.max_length,
    )
    return self.adapter.steps * self.adapter.batch * width


def training_rows(
  texts: types.Rollout, weight_B: Array, documents: types.Texts
) -> tuple[types.Rollout, Array]:
  """Returns the training rows of an edit: texts, then whole documents.

  Args:
    texts: texts of dreams, `[B, T]`.
    weight_B: 1 for a text of a rewarded dream, else 0.
    documents: of the task, `[N, T]`; each has weight 1.

  Returns:
    Rows of one width, `[B + N, T]`, without documents in front; their weights.
  """
  sizes = [x.tokens_BT.shape[1] for x in (texts, documents)]
  pad = lambda tokens_BT: jnp.pad(
    tokens_BT, ((0, 0), (0, max(sizes) - tokens_BT.shape[1]))
  )
  one_N = jnp.ones_like(documents.length_B)
  rows = types.Rollout(
    tokens_BT=jnp.concatenate([pad(texts.tokens_BT), pad(documents.tokens_BT)]),
    prompt_length_B=jnp.concatenate([texts.prompt_length_B, one_N]),
    length_B=jnp.concatenate([texts.length_B, documents.length_B]),
  )
  return rows, jnp.concatenate([weight_B, one_N.astype(weight_B.dtype)])

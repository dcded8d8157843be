"""Imitation: the student ends, in its own words, what a teacher began.

Sequences that a teacher has just written are cut; the student writes the rest
of each several times and is rewarded for what comes close. Each ending teaches
one update.

References: 2606.03979 v2 section 3.3 (Learning to Imitate); docs/method.md,
"The loop in short".
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.objectives import imitation, judges, losses
from sleep_jax.phases import night

Array = types.Array
Endings = tuple[types.Rollout, Array]  # Of the student; their advantages.


def endings(
  written: Sequence[types.Rollout],
  sample: Callable[[types.Prompts, Array], types.Rollout],
  judge: judges.Judge,
  key: Array,
  *,
  updates: int,
  max_new: int,
  settings: night.Imitation,
) -> tuple[Endings, dict[str, Array]]:
  """Lets the student end what was written.

  Args:
    written: by each teacher, `cuts * updates` sequences.
    sample: (prompts, key) -> the student's endings of them.
    judge: see `judges`.
    key: consumed.
    updates: U, of a round.
    max_new: tokens of an ending that are compared.
    settings: see `night.Imitation`.

  Returns:
    Endings and advantages `[U, M, ...]`, M = teachers x cuts x completions;
    and means over all of them: `reward`, its parts `meaning` and `closeness`,
    lengths in tokens, `moved` (the share that differs from its group), and the
    number of tokens `written`.
  """
  made = []
  for number, theirs in enumerate(written):
    cut_key, own_key = jax.random.split(jax.random.fold_in(key, number))
    num = len(theirs.length_B)
    cut_B = jax.random.randint(
      cut_key, (num,), theirs.prompt_length_B, theirs.length_B
    )
    prompts = types.Prompts(
      theirs.tokens_BT[:, :-1], cut_B, jnp.zeros((num, 2), jnp.int32)
    )
    theirs, prompts = jax.tree.map(
      lambda x: jnp.repeat(x, settings.completions, 0), (theirs, prompts)
    )
    own = sample(prompts, own_key)
    parts = _reward(theirs, own, judge, max_new, settings)
    reward_BG = parts['reward'].reshape(num, settings.completions)
    advantage_B = imitation.advantages(reward_BG).reshape(-1)
    moved_B = (advantage_B != 0).astype(jnp.float32)
    made.append((own, advantage_B, parts | {'moved': moved_B}))
  fold = lambda x: x.reshape(updates, -1, *x.shape[1:])
  own, advantage, parts = jax.tree.map(
    lambda *x: jnp.concatenate([fold(one) for one in x], 1), *made
  )
  tokens = jnp.sum(own.length_B - own.prompt_length_B)
  return (own, advantage), jax.tree.map(jnp.mean, parts) | {'written': tokens}


def gained(
  states_BGD: Array,
  head_VD: Array,
  own: types.Rollout,
  advantage_B: Array,
  *,
  temperature: float,
) -> Array:
  """A scalar whose gradient is that of the expected reward (REINFORCE).

  Args:
    states_BGD: what foretells the tokens of each ending, first one first.
    head_VD: logits are `states @ head.T`.
    own: the endings.
    advantage_B: of each.
    temperature: at which they were sampled.
  """
  tokens_BG, _ = imitation.continuation(
    own, own.prompt_length_B, size=states_BGD.shape[1]
  )
  logits_BGV = (states_BGD @ head_VD.T).astype(jnp.float32) / temperature
  score_BG = losses.chosen(logits_BGV, tokens_BG)
  mask_BG = losses.generated(own, states_BGD.shape[1])
  score_B = jnp.sum(jnp.where(mask_BG, score_BG, 0), 1)
  return jnp.mean(advantage_B * score_B)


def _reward(theirs, own, judge, max_new, settings):
  """Is each end meant, and worded, like theirs? All `[B]`."""
  rest = lambda rollout: imitation.continuation(
    rollout, own.prompt_length_B, size=max_new
  )
  wanted, said = rest(theirs), rest(own)
  meaning_B = judge(*wanted, *said)
  closeness_B = imitation.closeness(
    *wanted, *said, threshold=settings.threshold
  )
  gamma = settings.gamma
  return {
    'reward': gamma * meaning_B + (1 - gamma) * closeness_B,
    'meaning': meaning_B,
    'closeness': closeness_B,
    'length': said[1].astype(jnp.float32),
    'length_wanted': wanted[1].astype(jnp.float32),
  }

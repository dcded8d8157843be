"""Imitation: the student ends, in its own words, what a teacher began.

Sequences that a teacher has just written are cut; the student writes the rest
of each several times and is rewarded for what comes close. Each ending teaches
one update.

References: 2606.03979 v2 section 3.3 (Learning to Imitate); docs/method.md,
"The loop in short".
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.objectives import imitation_reward, judges, losses
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
Endings = tuple[types.Rollout, Array]  # Of the student; their advantages.


class Reader(NamedTuple):
  """Somebody who reads what was generated.

  Attributes:
    states: (rollout, shift) -> `[B, G, D]`, what the head reads at each
      generated token; with a shift of -1 before it, which foretells it.
    logits: what the head makes of states, `[..., V]`.
  """

  states: Callable[[types.Rollout, int], Array]
  logits: Callable[[Array], Array]


def endings(
  written: Sequence[types.Rollout],
  teachers: Sequence[Reader],
  student: Reader,
  sample: Callable[[types.Prompts, Array], types.Rollout],
  judge: judges.Judge,
  key: Array,
  *,
  updates: int,
  max_new: int,
  settings: settings_lib.Imitation,
) -> tuple[Endings, dict[str, Array]]:
  """Lets the student end what was written.

  Args:
    written: by each teacher, `cuts * updates` sequences.
    teachers, student: as readers of the endings.
    sample: (prompts, key) -> the student's endings of them.
    judge: see `judges`.
    key: consumed.
    updates: U, of a round.
    max_new: tokens of an ending that are compared.
    settings: see `night.Imitation`.

  Returns:
    Endings and advantages `[U, M, ...]`, M = teachers x cuts x completions;
    and means over all of them: `reward`, its parts `meaning` and `closeness`,
    what the judge found, `moved` (the share that differs from its group);
    of the student's endings `length` (tokens), `repetition`, `entropy` (nats
    per token, the student's own) and `likelihood` (nats per token, the
    teacher's); of the teacher's own `length_wanted` and `repetition_wanted`;
    and the number of tokens `written`.
  """
  made = []
  for number, (theirs, teacher) in enumerate(
    zip(written, teachers, strict=True)
  ):
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
    theirs = theirs.replace(prompt_length_B=prompts.length_B)
    own = sample(prompts, own_key).replace(context=theirs.context)
    parts = _reward(theirs, own, teacher, judge, max_new, settings)
    parts |= _wording(own, teacher, student, rows=updates)
    reward_BG = parts['reward'].reshape(num, settings.completions)
    advantage_B = imitation_reward.advantages(reward_BG).reshape(-1)
    moved_B = (advantage_B != 0).astype(jnp.float32)
    alone = own.replace(context=None)
    made.append((alone, advantage_B, parts | {'moved': moved_B}))
  fold = lambda x: x.reshape(updates, -1, *x.shape[1:])
  own, advantage = jax.tree.map(
    lambda *x: jnp.concatenate([fold(one) for one in x], 1),
    *((own, advantage_B) for own, advantage_B, _ in made),
  )
  tokens = jnp.sum(own.length_B - own.prompt_length_B)
  means = [jax.tree.map(jnp.mean, parts) for _, _, parts in made]
  earned = jax.tree.map(lambda *x: jnp.stack(x).mean(), *means)
  return (own, advantage), earned | {'written': tokens}


def collapse(
  first: Mapping[str, float],
  now: Mapping[str, float],
  settings: settings_lib.Imitation,
) -> str:
  """Why a night is to end: what the student says has come apart; or ''.

  Args:
    first, now: what `endings` found in the night's first and latest round.
    settings: see `night.Imitation`.
  """
  fall = first['likelihood'] - now['likelihood']
  excess = now['repetition'] - now['repetition_wanted']
  if not fall <= settings.stop_likelihood:  # NaN has come apart as well.
    return (
      'collapse: the teachers give the endings of the student '
      f'{now["likelihood"]:.3g} nats per token, {first["likelihood"]:.3g} '
      'in the first round, a fall of more than imitation.stop_likelihood '
      f'{settings.stop_likelihood}'
    )
  if not excess <= settings.stop_repetition:
    return (
      f'collapse: the endings of the student repeat {now["repetition"]:.2f} '
      f'of themselves, those of the teachers {now["repetition_wanted"]:.2f}: '
      f'more by over imitation.stop_repetition {settings.stop_repetition}'
    )
  return ''


def gained(
  logits_BGV: Array,
  own: types.Rollout,
  advantage_B: Array,
  *,
  temperature: float,
) -> Array:
  """A scalar whose gradient is that of the expected reward (REINFORCE).

  Args:
    logits_BGV: what foretells the tokens of each ending, first one first.
    own: the endings.
    advantage_B: of each.
    temperature: at which they were sampled.
  """
  tokens_BG, _ = imitation_reward.continuation(
    own, own.prompt_length_B, size=logits_BGV.shape[1]
  )
  score_BG = losses.chosen(logits_BGV / temperature, tokens_BG)
  mask_BG = losses.generated(own, logits_BGV.shape[1])
  score_B = jnp.sum(jnp.where(mask_BG, score_BG, 0), 1)
  return jnp.mean(advantage_B * score_B)


def _reward(theirs, own, teacher, judge, max_new, settings):
  """Is each end meant, and worded, like theirs? All `[B]` or scalars."""

  def ending(rollout):
    said = imitation_reward.continuation(
      rollout, rollout.prompt_length_B, size=max_new
    )
    return judges.Ending(*said, lambda: teacher.states(rollout, 0))

  wanted, said = ending(theirs), ending(own)
  meaning_B, found = judge(wanted, said)
  texts = (*wanted[:2], *said[:2])
  closeness_B = imitation_reward.closeness(*texts, threshold=settings.threshold)
  gamma = settings.gamma
  return {
    'reward': gamma * meaning_B + (1 - gamma) * closeness_B,
    'meaning': meaning_B,
    'closeness': closeness_B,
    'length': said.length_B.astype(jnp.float32),
    'length_wanted': wanted.length_B.astype(jnp.float32),
    'repetition': imitation_reward.repetition(*said[:2]),
    'repetition_wanted': imitation_reward.repetition(*wanted[:2]),
    **found,
  }


def _wording(own, teacher, student, *, rows):
  """How sure the student is of its words, and how likely to the teacher."""

  def row(one):
    tokens_G, student_GD, teacher_GD = one
    log_GV = jax.nn.log_softmax(student.logits(student_GD))
    return -jnp.sum(jnp.exp(log_GV) * log_GV, -1), losses.chosen(
      teacher.logits(teacher_GD), tokens_G
    )

  student_BGD = student.states(own.replace(context=None), -1)
  size = student_BGD.shape[1]
  tokens_BG, _ = imitation_reward.continuation(
    own, own.prompt_length_B, size=size
  )
  # A few rows at a time: the vocabulary is wide.
  entropy_BG, score_BG = jax.lax.map(
    row, (tokens_BG, student_BGD, teacher.states(own, -1)),
    batch_size=max(len(tokens_BG) // rows, 1),
  )  # fmt: skip
  mask_BG = losses.generated(own, size)
  return {
    'entropy': losses.masked_mean(entropy_BG, mask_BG),
    'likelihood': losses.masked_mean(score_BG, mask_BG),
  }

"""Imitation: rewards the student for completing texts as a teacher did.

Sequences that a teacher has just written are cut. The student samples several
completions of each, and completions that are close to the teacher's own are
rewarded. Each completion is used in one update.

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
Completions = tuple[types.Rollout, Array]  # The student's; their advantages.


class ModelFunctions(NamedTuple):
  """Functions that run one model on generated tokens.

  Attributes:
    states: (rollout, shift) -> `[B, G, D]`, the head's inputs: with a shift of
      0 those at the generated tokens, with -1 those that predict them.
    logits: the head, `[..., D]` -> `[..., V]`.
  """

  states: Callable[[types.Rollout, int], Array]
  logits: Callable[[Array], Array]


def sample_completions(
  rollouts: Sequence[types.Rollout],
  teachers: Sequence[ModelFunctions],
  student: ModelFunctions,
  sample: Callable[[types.Prompts, Array], types.Rollout],
  judge: judges.Judge,
  key: Array,
  *,
  num_updates: int,
  max_new: int,
  settings: settings_lib.Imitation,
) -> tuple[Completions, dict[str, Array]]:
  """Samples the student's completions of the teachers' texts and scores them.

  Args:
    rollouts: of each teacher, `cuts * num_updates` sequences.
    teachers, student: their functions, to score completions with.
    sample: (prompts, key) -> the student's completions of them.
    judge: see `judges`.
    key: consumed.
    num_updates: U, updates per round.
    max_new: tokens of a completion that are compared.
    settings: see `settings.Imitation`.

  Returns:
    Completions and advantages `[U, M, ...]`, M = teachers x cuts x
    completions; and metrics, each a mean over all of them: `reward`, its parts
    `meaning` and `closeness`, the judge's own metrics, and `moved`, the share
    whose reward differs from its group's mean. Of the student's completions
    `length` (tokens), `repetition`, `entropy` (nats per token, the student's)
    and `likelihood` (nats per token, the teacher's); of the teachers' texts
    `length_wanted` and `repetition_wanted`. `written` is the number of
    generated tokens, `forward` that of their prompts and of what the teacher
    and the student read to score them.
  """
  made = []
  for number, (target, teacher) in enumerate(
    zip(rollouts, teachers, strict=True)
  ):
    cut_key, own_key = jax.random.split(jax.random.fold_in(key, number))
    num = len(target.length_B)
    cut_B = jax.random.randint(
      cut_key, (num,), target.prompt_length_B, target.length_B
    )
    prompts = types.Prompts(
      target.tokens_BT[:, :-1], cut_B, jnp.zeros((num, 2), jnp.int32)
    )
    target, prompts = jax.tree.map(
      lambda x: jnp.repeat(x, settings.completions, 0), (target, prompts)
    )
    target = target.replace(prompt_length_B=prompts.length_B)
    own = sample(prompts, own_key).replace(context=target.context)
    parts = _compute_rewards(target, own, teacher, judge, max_new, settings)
    parts |= _completion_statistics(own, teacher, student, rows=num_updates)
    reward_BG = parts['reward'].reshape(num, settings.completions)
    advantage_B = imitation_reward.advantages(reward_BG).reshape(-1)
    moved_B = (advantage_B != 0).astype(jnp.float32)
    without_document = own.replace(context=None)
    made.append((without_document, advantage_B, parts | {'moved': moved_B}))
  fold = lambda x: x.reshape(num_updates, -1, *x.shape[1:])
  own, advantage = jax.tree.map(
    lambda *x: jnp.concatenate([fold(one) for one in x], 1),
    *((own, advantage_B) for own, advantage_B, _ in made),
  )
  read, prompted = jnp.sum(own.length_B), jnp.sum(own.prompt_length_B)
  means = [jax.tree.map(jnp.mean, parts) for _, _, parts in made]
  metrics = jax.tree.map(lambda *x: jnp.stack(x).mean(), *means)
  counts = {'written': read - prompted, 'forward': prompted + 2 * read}
  return (own, advantage), metrics | counts


def detect_collapse(
  first: Mapping[str, float],
  now: Mapping[str, float],
  settings: settings_lib.Imitation,
) -> str:
  """Returns why a night must end because completions degenerated, or ''.

  Args:
    first, now: metrics of `sample_completions` in the night's first and latest
      round.
    settings: see `settings.Imitation`.
  """
  fall = first['likelihood'] - now['likelihood']
  excess = now['repetition'] - now['repetition_wanted']
  if not fall <= settings.stop_likelihood:  # NaN counts as a collapse.
    return (
      "collapse: the teachers' log-likelihood of the student's completions is "
      f'{now["likelihood"]:.3g} nats per token, {first["likelihood"]:.3g} '
      'in the first round, a fall of more than imitation.stop_likelihood '
      f'{settings.stop_likelihood}'
    )
  if not excess <= settings.stop_repetition:
    return (
      "collapse: the student's completions repeat a share of "
      f"{now['repetition']:.2f} of themselves, the teachers' "
      f'{now["repetition_wanted"]:.2f}: the difference exceeds '
      f'imitation.stop_repetition {settings.stop_repetition}'
    )
  return ''


def reinforce_objective(
  logits_BGV: Array,
  own: types.Rollout,
  advantage_B: Array,
  *,
  temperature: float,
) -> Array:
  """Returns a scalar with the gradient of the expected reward (REINFORCE).

  Args:
    logits_BGV: the student's predictions of the tokens of each completion.
    own: the student's completions.
    advantage_B: reward of each less its baseline.
    temperature: at which they were sampled.
  """
  tokens_BG, _ = imitation_reward.continuation(
    own, own.prompt_length_B, size=logits_BGV.shape[1]
  )
  score_BG = losses.token_log_likelihood(logits_BGV / temperature, tokens_BG)
  mask_BG = losses.generated_mask(own, logits_BGV.shape[1])
  score_B = jnp.sum(jnp.where(mask_BG, score_BG, 0), 1)
  return jnp.mean(advantage_B * score_B)


def _compute_rewards(target, own, teacher, judge, max_new, settings):
  """Compares completions with the teacher's text: each `[B]` or a scalar."""

  def completion(rollout):
    tokens = imitation_reward.continuation(
      rollout, rollout.prompt_length_B, size=max_new
    )
    return judges.Completion(*tokens, lambda: teacher.states(rollout, 0))

  wanted, found = completion(target), completion(own)
  meaning_B, metrics = judge(wanted, found)
  texts = (*wanted[:2], *found[:2])
  closeness_B = imitation_reward.closeness(*texts, threshold=settings.threshold)
  gamma = settings.gamma
  return {
    'reward': gamma * meaning_B + (1 - gamma) * closeness_B,
    'meaning': meaning_B,
    'closeness': closeness_B,
    'length': found.length_B.astype(jnp.float32),
    'length_wanted': wanted.length_B.astype(jnp.float32),
    'repetition': imitation_reward.repetition(*found[:2]),
    'repetition_wanted': imitation_reward.repetition(*wanted[:2]),
    **metrics,
  }


def _completion_statistics(own, teacher, student, *, rows):
  """Returns the student's entropy and the teacher's log-likelihood."""

  def row(one):
    tokens_G, student_GD, teacher_GD = one
    log_GV = jax.nn.log_softmax(student.logits(student_GD))
    return -jnp.sum(jnp.exp(log_GV) * log_GV, -1), losses.token_log_likelihood(
      teacher.logits(teacher_GD), tokens_G
    )

  student_BGD = student.states(own.replace(context=None), -1)
  size = student_BGD.shape[1]
  tokens_BG, _ = imitation_reward.continuation(
    own, own.prompt_length_B, size=size
  )
  # In blocks of rows, because logits are as wide as the vocabulary.
  entropy_BG, score_BG = jax.lax.map(
    row, (tokens_BG, student_BGD, teacher.states(own, -1)),
    batch_size=max(len(tokens_BG) // rows, 1),
  )  # fmt: skip
  mask_BG = losses.generated_mask(own, size)
  return {
    'entropy': losses.masked_mean(entropy_BG, mask_BG),
    'likelihood': losses.masked_mean(score_BG, mask_BG),
  }

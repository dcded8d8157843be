"""Group relative policy optimization (GRPO), a baseline.

In each wake step the model samples a group of answers to each of some prompts
of the batch. An answer that equals the row's response has the reward 1, any
other 0. A reward is compared with those of its group, so no value function is
trained. The likelihood of the rows is no term of the loss, and the model does
not grow.

References: 2402.03300, section 4.1.2 (outcome rewards), equations 3 and 4; the
KL estimate is k3 of Schulman, "Approximating KL Divergence" (2020).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.evaluate import probes
from sleep_jax.objectives import answer_likelihood, imitation_reward, losses
from sleep_jax.optim import gradient_accumulation
from sleep_jax.strategies import method, own_answers, strategy
from sleep_jax.wake import terms

NAME = 'grpo'
Array = types.Array
# No effect with one update per sampling, where all ratios are 1.
_CLIP = 0.2
_SMALL = 1e-6  # Added to the standard deviation of a group.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the loss.

  Attributes:
    prompts: number of prompts of its batch that a wake step answers; each is
      drawn once before one is drawn again.
    group: answers to each prompt, at least 2.
    beta: weight of the KL estimate to the initial model; 0 leaves it out.
    max_new: most tokens of an answer; 0: as many as `data.context` has room
      for. A longer response is never rewarded.
  """

  prompts: int
  group: int
  beta: float
  max_new: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(NAME, num_levels, build=_build)


def rewards(answers: types.Rollout, *, eos: int) -> Array:
  """Returns 1 for each answer that equals the response, else 0, f32 `[B]`.

  The response is the rest of the text after the prompt, and EOS. An answer that
  was cut has no EOS and does not equal it.

  Args:
    answers: with the texts that the prompts begin as `context`.
    eos: end token.
  """
  start_B = answers.prompt_length_B
  size = answers.context.tokens_BT.shape[1]
  texts = types.Rollout(
    answers.context.tokens_BT, start_B, answers.context.length_B
  )
  rest_BA, num_B = imitation_reward.continuation(texts, start_B, size=size)
  ends_BA = jnp.arange(size)[None] == num_B[:, None]
  found_B = probes.equals(answers, jnp.where(ends_BA, eos, rest_BA), num_B + 1)
  # Tokens beyond the end of an answer are arbitrary, also where it was cut.
  found_B &= answers.length_B - start_B == num_B + 1
  return found_B.astype(jnp.float32)


def advantages(reward_NG: Array) -> Array:
  """Returns rewards normalised within their group (row), f32 `[N, G]`.

  The standard deviation is that of the group itself (division by G). A group of
  equal rewards has the advantage 0.

  Args:
    reward_NG: f32, of G answers to each of N prompts.
  """
  centred_NG = imitation_reward.advantages(reward_NG)
  deviation_N1 = jnp.std(reward_NG, 1, keepdims=True)
  # Rounding of the mean, divided by a small number, would not be small.
  equal_N1 = jnp.all(reward_NG == reward_NG[:, :1], 1, keepdims=True)
  return jnp.where(equal_N1, 0, centred_NG / (deviation_N1 + _SMALL))


def clipped_objective(
  log_ratio_BG: Array, advantage_B: Array, *, clip: float
) -> Array:
  """Returns `min(r A, clip(r, 1 - clip, 1 + clip) A)` of each token, `[B, G]`.

  Args:
    log_ratio_BG: log r; the log-probability of a token less that of the model
      that sampled it, nats.
    advantage_B: A, of each answer.
    clip: largest distance of r from 1 that has a gradient where it raises the
      objective.
  """
  ratio_BG, advantage_B1 = jnp.exp(log_ratio_BG), advantage_B[:, None]
  clipped_BG = jnp.clip(ratio_BG, 1 - clip, 1 + clip)
  return jnp.minimum(ratio_BG * advantage_B1, clipped_BG * advantage_B1)


def kl_estimate(log_p_BG: Array, reference_BG: Array) -> Array:
  """Returns the k3 estimate of KL(model || reference), nats, `[B, G]`.

  It is `q / p - log(q / p) - 1`, which is unbiased over tokens that the model
  sampled, and not negative.

  Args:
    log_p_BG: log-probabilities of sampled tokens, log p.
    reference_BG: those of the reference, log q.
  """
  difference_BG = reference_BG - log_p_BG
  return jnp.expm1(difference_BG) - difference_BG


def _build(parts: method.Parts) -> method.Method:
  """Returns the loss, and the initial model if the KL estimate needs it."""
  settings = Settings(**parts.config[NAME])
  total = settings.prompts * settings.group
  num = parts.config.wake.micro_batches
  gradient_accumulation.check_divisible(
    num, {f'{NAME}.prompts times {NAME}.group': total}, 'wake.micro_batches'
  )
  trained = functools.partial(method.trained, paths=parts.paths)
  size = own_answers.longest(parts.config, settings.max_new)

  def allocate(weights):
    if not settings.beta:
      return {}
    return {'initial': jax.tree.map(jnp.copy, trained(weights))}

  def loss_fn(state, batch):
    answers, sampling_costs = own_answers.write(
      parts, state, batch, prompts=settings.prompts, each=settings.group,
      max_new=size,
    )  # fmt: skip
    reward_B = rewards(answers, eos=parts.eos)
    advantage_NG = advantages(reward_B.reshape(-1, settings.group))
    score = functools.partial(
      answer_likelihood.log_likelihood, parts.model, size=size
    )

    def term(weights, part):
      answers, advantage_B = part
      log_p_BG, _ = score(weights, rollout=answers)
      # The weights that sampled: one update is made of one sampling.
      old_BG = jax.lax.stop_gradient(log_p_BG)
      value_BG = clipped_objective(log_p_BG - old_BG, advantage_B, clip=_CLIP)
      if settings.beta:
        initial = state.weights.with_params(state.strategy['initial'])
        reference_BG, _ = score(initial, rollout=answers)
        value_BG -= settings.beta * kl_estimate(log_p_BG, reference_BG)
      mask_BG = losses.generated_mask(answers, size)
      num_B = jnp.maximum(jnp.sum(mask_BG, 1), 1)
      value_B = jnp.sum(jnp.where(mask_BG, value_BG, 0), 1) / num_B
      return -jnp.sum(value_B) / total

    read = jnp.sum(answers.length_B)
    costs = jax.tree.map(
      jnp.add, sampling_costs,
      method.counts(read, forward=read * bool(settings.beta)),
    )  # fmt: skip
    rows = answers.replace(context=None), advantage_NG.reshape(-1)
    found = terms.Term(term, rows, num)
    return state, [found], costs

  return method.Method(allocate=allocate, penalty=loss_fn, learns_rows=False)

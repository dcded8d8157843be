"""On-policy self-distillation: a model learns from itself with the row at hand.

The student writes answers to prompts of a batch. The teacher is the same model,
with older weights, and reads the whole text of a prompt, with its response,
before the prompt. The loss is the divergence of the two on the tokens of the
answers. The likelihood of the rows is no term of the loss, no gradient passes
through sampling, and the model does not grow.

References: 2601.19897 (SDFT); 2601.18734 (OPSD). In both, the teacher reads the
question, an answer, and a sentence that asks for another one; here the prompt
follows the text directly.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.objectives import losses
from sleep_jax.optim import gradient_accumulation
from sleep_jax.schedule import events
from sleep_jax.sleep import document_context
from sleep_jax.strategies import method, own_answers, strategy
from sleep_jax.wake import terms

Array = types.Array


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the loss.

  Attributes:
    beta: of the divergence, see `losses.divergence`; 1 is KL(student ||
      teacher), 0 is KL(teacher || student).
    sequences: answers that a wake step writes, to prompts of its batch; each
      prompt is drawn once before one is drawn again.
    max_new: most tokens of an answer; 0: as many as `data.context` has room
      for.
  """

  beta: float
  sequences: int
  max_new: int


def fine_tuning(
  name: str, num_levels: int, build: strategy.Build
) -> strategy.Strategy:
  """Returns a strategy that distils itself, day after day.

  Args:
    name: of the strategy.
    num_levels: of the model.
    build: see `strategy.Build`, for example `make_method`.
  """
  return strategy.fine_tuning(
    name, num_levels, reviews=(events.END,), build=build
  )


def moving_average(
  average: types.Params, params: types.Params, decay: float
) -> types.Params:
  """Returns `decay average + (1 - decay) params`, by path."""
  return jax.tree.map(
    lambda old, new: old + (1 - decay) * (new - old), average, params
  )


def divergence(
  model: types.Model,
  teacher: types.Weights,
  student: types.Weights,
  answers: types.Rollout,
  *,
  beta: float,
  size: int,
) -> Array:
  """Returns the divergence at each token of the answers, nats, `[B, size]`.

  The gradient reaches all weights of the student, its head included. Where an
  answer has fewer tokens the values are arbitrary.

  Args:
    model: computes logits.
    teacher: constant weights.
    student: weights that are trained.
    answers: prompts and answers, `[B, T]`; the teacher reads their `context`
      first, the student does not.
    beta: see `losses.divergence`.
    size: most tokens of an answer.
  """

  def logits(weights, rollout):
    at_BG = rollout.prompt_length_B[:, None] - 1 + jnp.arange(size)[None]
    states_BGD = model.states_at(
      weights,
      *types.model_inputs(rollout.tokens_BT, rollout.length_B),
      jnp.minimum(at_BG, rollout.tokens_BT.shape[1] - 1),
    )
    return model.logits(weights, states_BGD)

  told_BGV = logits(teacher, document_context.prepend_to_rollout(answers))
  return losses.divergence(
    jax.lax.stop_gradient(told_BGV), logits(student, answers), beta=beta
  )


def mean_divergence(
  model: types.Model,
  teacher: types.Weights,
  answers: types.Rollout,
  *,
  beta: float,
  size: int,
  num: int,
) -> tuple[terms.Term, dict[str, Array]]:
  """Returns the mean of `divergence` over the tokens of answers, and counts.

  Args:
    model, teacher, answers, beta, size: see `divergence`.
    num: parts that the answers are read in.

  Returns:
    A term of the loss; and the numbers of tokens that both models read.
  """
  mask_BG = losses.generated_mask(answers, size)
  count = jnp.maximum(jnp.sum(mask_BG), 1)

  def term(weights, part):
    answers, mask_BG = part
    value_BG = divergence(
      model, teacher, weights, answers, beta=beta, size=size
    )
    return jnp.sum(jnp.where(mask_BG, value_BG, 0)) / count

  told = document_context.prepend_to_rollout(answers)
  counts = method.counts(
    jnp.sum(answers.length_B), forward=jnp.sum(told.length_B)
  )
  return terms.Term(term, (answers, mask_BG), num), counts


def make_method(
  parts: method.Parts, name: str, settings: Settings, *, decay: float
) -> method.Method:
  """Returns the method: the loss, and a teacher that is a running mean.

  The mean begins anew with each experience, from the model as it is then. It
  counts the weights of each step before they are used.

  Args:
    parts: of the strategy.
    name: of the strategy.
    settings: of the loss.
    decay: of the mean, per wake step; 1 keeps the model of the beginning.

  Raises:
    ConfigError: `wake.micro_batches` does not divide the number of answers.
  """
  trained = functools.partial(method.trained, paths=parts.paths)
  copy = lambda weights: {'teacher': jax.tree.map(jnp.copy, trained(weights))}
  num = parts.config.wake.micro_batches
  gradient_accumulation.check_divisible(
    num, {f'{name}.sequences': settings.sequences}, 'wake.micro_batches'
  )
  size = own_answers.longest(parts.config, settings.max_new)

  def loss_fn(state, batch):
    average = moving_average(
      state.strategy['teacher'], trained(state.weights), decay
    )
    state = state.replace(strategy={'teacher': average})
    teacher = state.weights.with_params(average)
    answers, sampling_costs = own_answers.write(
      parts, state, batch, prompts=settings.sequences, max_new=size
    )
    found, reading_costs = mean_divergence(
      parts.model, teacher, answers, beta=settings.beta, size=size, num=num
    )
    costs = jax.tree.map(jnp.add, sampling_costs, reading_costs)
    return state, [found], costs

  def finish(state, *, moment):
    del moment
    return state.replace(strategy=copy(state.weights)), method.counts()

  return method.Method(
    allocate=copy, penalty=loss_fn, learns_rows=False, finish=finish
  )

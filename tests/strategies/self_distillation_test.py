"""Self-distillation: its loss, its teachers, and what they read."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.schedule import events
from sleep_jax.strategies import opsd, sdft, self_distillation
from tests import testing
from tests.strategies import methods

BOTH = pytest.mark.parametrize('strategy', [sdft, opsd])
DECAY = 0.75


@functools.cache
def _made(strategy):
  settings = {'decay': DECAY} if strategy is sdft else {}
  return methods.Made(strategy.make(2), sequences=testing.ROWS, **settings)


@functools.cache
def _step(strategy):
  """Compiles (state, batch) -> what a step of the method computes, by name."""
  made = _made(strategy)

  def step(state, batch):
    after, (term,), counts = made.method.penalty(state, batch)
    answers, mask_BG = term.rows

    def value(params):
      return term.loss_fn(state.weights.with_params(params), term.rows)

    params = {
      path: state.weights.params[path] for path in after.strategy['teacher']
    }
    loss, grads = jax.value_and_grad(value)(params)
    norm = sum(jnp.sum(jnp.square(g)) for g in grads.values()) ** 0.5
    return dict(
      teacher=after.strategy['teacher'], answers=answers, mask_BG=mask_BG,
      counts=counts, loss=loss, norm=norm,
    )  # fmt: skip

  return jax.jit(step)


def _without_demonstrations():
  """A batch with prompts whose texts are BOS and EOS: nothing to read."""
  batch = testing.batch()
  place = np.arange(testing.CONTEXT)[None]
  row = np.where(place == 0, testing.BOS, testing.EOS)
  return batch.replace(
    tokens_BT=jnp.asarray(np.tile(row, (testing.ROWS, 1)), jnp.int32),
    segments_BT=jnp.asarray(
      np.tile(np.where(place < 2, 1, -1), (testing.ROWS, 1)), jnp.int32
    ),
  )


@BOTH
def test_the_loss_is_zero_if_the_teacher_is_the_student_and_reads_no_more(
  strategy,
):
  made, step = _made(strategy), _step(strategy)
  found = step(made.state, _without_demonstrations())
  assert float(found['loss']) == pytest.approx(0, abs=1e-5)
  assert float(found['norm']) < 1e-3
  # A text to read, or a teacher with other weights, makes the difference.
  told = step(made.state, testing.batch())
  assert float(told['loss']) > 1e-2 and float(told['norm']) > 1e-2
  moved = step(methods.moved(made.state), _without_demonstrations())
  assert float(moved['loss']) > 1e-3


@BOTH
def test_the_next_experience_begins_with_the_model_as_its_teacher(strategy):
  made, step = _made(strategy), _step(strategy)
  ended = made.finish(methods.moved(made.state), events.END)
  found = step(ended, _without_demonstrations())
  assert float(found['loss']) == pytest.approx(0, abs=1e-5)


def test_the_loss_is_on_answers_that_the_student_writes_to_the_prompts():
  batch, state = testing.batch(), _made(sdft).state
  found = _step(sdft)(state, batch)
  answers = jax.device_get(found['answers'])
  # Each prompt once, in another order; its text is what the teacher reads.
  prompts = lambda tokens: sorted(map(tuple, np.asarray(tokens)[:, :3]))
  assert prompts(answers.tokens_BT) == prompts(batch.prompts.tokens_BP)
  np.testing.assert_array_equal(
    answers.context.tokens_BT[:, :3], answers.tokens_BT[:, :3]
  )
  length_B = answers.length_B
  num_B = np.asarray(found['mask_BG']).sum(1)
  assert (num_B == length_B - 3).all() and (num_B >= 1).all()
  assert int(found['counts']['written']) == num_B.sum()
  # The student reads its answers, the teacher the texts before them. BOS of the
  # prompt is left out there. To write, the student reads the prompts.
  told_B = length_B + answers.context.length_B - 1
  assert int(found['counts']['tokens']) == length_B.sum()
  assert int(found['counts']['forward']) == told_B.sum() + 3 * len(told_B)
  # At another step it writes others.
  later = _step(sdft)(state.replace(step=jnp.int32(1)), batch)['answers']
  assert prompts(later.tokens_BT) == prompts(answers.tokens_BT)
  assert sorted(map(tuple, np.asarray(later.tokens_BT))) != sorted(
    map(tuple, answers.tokens_BT)
  )


def _teachers(strategy, num):
  """The teacher after some steps with other weights each, and all of these."""
  made, seen = _made(strategy), []
  state, batch = made.state, testing.batch()
  for number in range(num):
    moved = methods.moved(made.state, by=0.1 * number)
    state = state.replace(step=jnp.int32(number), weights=moved.weights)
    teacher = _step(strategy)(state, batch)['teacher']
    state = state.replace(strategy={'teacher': teacher})
    seen.append(moved.weights.params)
  return teacher, seen


def test_the_teacher_of_sdft_is_the_moving_average():
  """d^3 w_0 + (1 - d)(d^2 w_1 + d w_2 + w_3); at step 0 it is w_0."""
  d = DECAY
  teacher, seen = _teachers(sdft, 4)
  factors = d**3, (1 - d) * d**2, (1 - d) * d, 1 - d
  for path, found in teacher.items():
    expected = sum(f * w[path] for f, w in zip(factors, seen, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_teacher_of_opsd_is_the_model_at_the_start_of_the_experience():
  teacher, seen = _teachers(opsd, 3)
  path = 'embed'
  assert (seen[0][path] != seen[2][path]).any()
  assert all((x == seen[0][p]).all() for p, x in teacher.items())


class _Table:
  """A model whose logits of a token depend on it and on the row's length."""

  def states_at(self, weights, tokens_BT, segments_BT, positions_BT, at_BG):
    del positions_BT
    logits_BTV = weights.params['w'][tokens_BT]
    longer_B11 = jnp.sum(segments_BT > 0, 1)[:, None, None] / 10
    return longer_B11 * jnp.take_along_axis(logits_BTV, at_BG[..., None], 1)

  def logits(self, weights, states):
    del weights
    return states


def _divergence(teacher, student, beta):
  """Of an answer of three tokens to a prompt of two, after a text of three."""
  weights = lambda w: types.Weights({'w': w}, jnp.zeros((1, 1)))
  answers = types.Rollout(
    tokens_BT=jnp.asarray([[1, 3, 4, 5, 2, 0]]),
    prompt_length_B=jnp.asarray([2]),
    length_B=jnp.asarray([5]),
    context=types.Texts(jnp.asarray([[1, 3, 5, 0]]), jnp.asarray([3])),
  )
  return self_distillation.divergence(
    _Table(), weights(teacher), weights(student), answers, beta=beta, size=3
  )


@pytest.mark.parametrize('beta', [0.0, 1.0])
def test_it_is_the_divergence_at_each_token_of_the_answer(beta):
  """The text replaces BOS: the teacher reads 2 more tokens than 5."""
  teacher, student = np.random.default_rng(0).normal(size=(2, 6, 6))
  found = _divergence(jnp.float32(teacher), jnp.float32(student), beta)

  def softmax(row):
    return np.exp(row) / np.exp(row).sum()

  expected = []
  for token in (3, 4, 5):  # Each predicts the next token of the answer.
    p, q = softmax(0.7 * teacher[token]), softmax(0.5 * student[token])
    if beta == 1:
      p, q = q, p
    expected.append(np.sum(p * np.log(p / q)))
  np.testing.assert_allclose(found, [expected], rtol=1e-4)


def test_only_the_student_gets_a_gradient():
  tables = np.random.default_rng(0).normal(size=(2, 6, 6)).astype('f4')
  total = lambda teacher, student: jnp.sum(_divergence(teacher, student, 1.0))
  for_teacher, for_student = jax.grad(total, argnums=(0, 1))(*tables)
  assert not np.asarray(for_teacher).any()
  assert np.asarray(for_student)[3:].all()


def test_an_answer_has_as_many_tokens_as_fit_or_as_its_setting():
  made = lambda n: methods.Made(sdft.make(2), sequences=3, max_new=n)
  rows = lambda n: jax.eval_shape(
    lambda state: made(n).method.penalty(state, testing.batch())[1][0].rows,
    made(n).state,
  )
  assert [rows(n)[1].shape for n in (0, 2, 99)] == [
    (3, testing.CONTEXT - 1), (3, 2), (3, testing.CONTEXT - 1)
  ]  # fmt: skip


def test_micro_batches_that_do_not_divide_the_answers_are_refused():
  c = testing.config()
  c.wake.micro_batches = 3
  with pytest.raises(errors.ConfigError, match='64 rows of opsd.sequences'):
    opsd.make(2).build(
      self_distillation.method.Parts(c, testing.tiny(), None, (), 1, 2, {})
    )

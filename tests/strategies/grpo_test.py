"""GRPO: its rewards, its advantages, its objective, and what a step learns."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax import errors, types
from sleep_jax.config import ranges
from sleep_jax.objectives import losses
from sleep_jax.strategies import grpo, method
from tests import testing, tiny_study
from tests.strategies import methods

one_device = tiny_study.one_device
EOS = testing.EOS
PROMPTS, GROUP = 4, 16


@functools.cache
def _made(**settings):
  return methods.Made(
    grpo.make(2), **(dict(prompts=PROMPTS, group=GROUP) | settings)
  )


@functools.cache
def _step(*, in_parts=True, **settings):
  """Compiles (state, batch) -> what a step of the method computes, by name."""
  made = _made(**settings)

  def step(state, batch):
    _, (term,), counts = made.method.penalty(state, batch)
    answers, advantage_B = term.rows

    def value(params):
      return term.loss_fn(state.weights.with_params(params), term.rows)

    def of_parts(params):
      weights = state.weights.with_params(params)
      parts = [jax.tree.map(lambda x, k=k: x[k::2], term.rows) for k in (0, 1)]
      return sum(term.loss_fn(weights, part) for part in parts)

    params = method.trained(state.weights, list(made.weights.params))
    loss, grads = jax.value_and_grad(value)(params)
    found = dict(
      answers=answers, advantage_B=advantage_B, counts=counts, loss=loss,
      grads=grads,
    )  # fmt: skip
    if in_parts:
      found['of_parts'] = jax.value_and_grad(of_parts)(params)
    return found

  return jax.jit(step)


@functools.cache
def _taught():
  """A batch in which some prompts have a response that the first step writes.

  What is written depends on the prompts, not on their responses.
  """
  batch = testing.batch()
  answers = jax.device_get(_step()(_made().state, batch)['answers'])
  tokens, segments = np.array(batch.tokens_BT), np.array(batch.segments_BT)
  for row, prompt in enumerate(np.asarray(batch.prompts.tokens_BP)[:, :3]):
    for text, length in zip(answers.tokens_BT, answers.length_B, strict=True):
      if (text[:3] == prompt).all() and text[length - 1] == EOS:
        tokens[row] = text
        segments[row] = np.where(np.arange(len(text)) < length, 1, -1)
        break
  return batch.replace(
    tokens_BT=jnp.asarray(tokens), segments_BT=jnp.asarray(segments)
  )


def _log_likelihood(weights, answers):
  """Log-probability of each token but the first, and which were generated."""
  tokens_BT, *inputs = types.model_inputs(answers.tokens_BT, answers.length_B)
  logits_BTV = testing.forward(_made().model)(weights, tokens_BT, *inputs)
  place_1T = jnp.arange(1, tokens_BT.shape[1])[None]
  written_BT = (place_1T >= answers.prompt_length_B[:, None]) & (
    place_1T < answers.length_B[:, None]
  )
  return losses.log_likelihood(logits_BTV, tokens_BT), written_BT


def _mean_of_answers(weights, answers):
  """Mean log-probability of a token of each answer."""
  score_BT, written_BT = _log_likelihood(weights, answers)
  return jnp.sum(score_BT * written_BT, 1) / jnp.sum(written_BT, 1)


@pytest.mark.parametrize(
  'answer,length,expected',
  [
    ([5, 6, EOS, 9, 9, 9], 3, 1),
    ([5, 7, EOS, 9, 9, 9], 3, 0),  # Another token.
    ([5, EOS, EOS, EOS, EOS, EOS], 2, 0),  # Ends too early,
    ([5, 6, 6, EOS, 9, 9], 4, 0),  # or too late.
    ([5, 6, EOS, EOS, EOS, EOS], 2, 0),  # Cut: its EOS is arbitrary.
  ],
)
def test_an_answer_is_rewarded_if_it_is_the_response_and_ends(
  answer, length, expected
):
  answers = types.Rollout(
    tokens_BT=jnp.asarray([[1, 3, *answer]]),
    prompt_length_B=jnp.asarray([2]),
    length_B=jnp.asarray([2 + length]),
    # What follows a text is arbitrary.
    context=types.Texts(
      jnp.asarray([[1, 3, 5, 6, 8, 8, 8, 8]]), jnp.asarray([4])
    ),
  )
  assert grpo.rewards(answers, eos=EOS).tolist() == [expected]


def test_advantages_are_those_of_a_worked_example():
  """[1 0 0 0]: mean 1/4, standard deviation sqrt(3)/4."""
  found = grpo.advantages(jnp.asarray([[1.0, 0, 0, 0], [1, 0, 1, 0]]))
  third = 3**-0.5
  expected = [[3**0.5, -third, -third, -third], [1, -1, 1, -1]]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('size', [2, 3, 41, 49])
@pytest.mark.parametrize('reward', [0.0, 0.1, 1.0])
def test_a_group_of_equal_rewards_has_advantages_of_exactly_0(size, reward):
  rewards_NG = jnp.full((2, size), reward).at[1, 0].add(1)
  found = np.asarray(jax.jit(grpo.advantages)(rewards_NG))
  assert (found[0] == 0).all() and (found[1] != 0).all()


@pytest.mark.parametrize(
  'ratio,advantage,expected,slope',
  [
    (1.5, 2.0, 2.4, 0.0),  # Clipped from above,
    (0.5, -2.0, -1.6, 0.0),  # and from below.
    (1.5, -2.0, -3.0, -3.0),  # A worse objective is never clipped.
    (0.5, 2.0, 1.0, 1.0),
    (1.1, 2.0, 2.2, 2.2),
    (0.9, -2.0, -1.8, -1.8),
    (1.0, 2.0, 2.0, 2.0),  # The policy gradient.
    (1.0, -2.0, -2.0, -2.0),
  ],
)
def test_the_objective_is_clipped_where_it_would_gain(
  ratio, advantage, expected, slope
):
  def value(log_ratio):
    return grpo.clipped_objective(
      log_ratio.reshape(1, 1), jnp.asarray([advantage]), clip=0.2
    )[0, 0]

  # The slope is that in the log-probability of the token.
  found = jax.value_and_grad(value)(jnp.log(jnp.float32(ratio)))
  np.testing.assert_allclose(found, (expected, slope), rtol=1e-5)


def test_the_estimate_of_the_divergence_has_values_known_by_hand():
  """q / p = 2: 2 - log 2 - 1. q / p = 1/2: 1/2 + log 2 - 1."""
  log_2 = np.log(2)
  found = grpo.kl_estimate(jnp.zeros((1, 3)), jnp.asarray([[log_2, -log_2, 0]]))
  np.testing.assert_allclose(found, [[1 - log_2, log_2 - 0.5, 0]], rtol=1e-5)


def test_the_estimate_is_never_negative_and_its_mean_is_the_divergence():
  p, q = np.random.default_rng(0).normal(size=(2, 50, 8))
  p, q = (x - np.log(np.exp(x).sum(1, keepdims=True)) for x in (p, q))
  found = np.asarray(grpo.kl_estimate(jnp.float32(p), jnp.float32(q)))
  assert (found >= 0).all() and found.max() > 1
  # Tokens that the model samples have the probabilities p.
  expected = (np.exp(p) * (p - q)).sum(1)
  np.testing.assert_allclose((np.exp(p) * found).sum(1), expected, rtol=1e-3)
  # Also where the two are nearly equal.
  near = jnp.float32(p), jnp.float32(p + np.linspace(-1e-3, 1e-3, 8))
  assert (np.asarray(grpo.kl_estimate(*near)) >= 0).all()


def test_each_prompt_has_a_group_of_answers_that_differ():
  batch, state = testing.batch(), _made().state
  found = jax.device_get(_step()(state, batch))
  answers = found['answers']
  prompts_NG3 = answers.tokens_BT[:, :3].reshape(PROMPTS, GROUP, 3)
  assert (prompts_NG3 == prompts_NG3[:, :1]).all()
  chosen = {tuple(x.tolist()) for x in prompts_NG3[:, 0]}
  known = set(map(tuple, np.asarray(batch.prompts.tokens_BP)[:, :3].tolist()))
  assert len(chosen) == PROMPTS and chosen < known
  for group in answers.tokens_BT.reshape(PROMPTS, GROUP, -1):
    assert len({tuple(row.tolist()) for row in group}) > GROUP / 2
  counts, num_B = found['counts'], answers.length_B - answers.prompt_length_B
  assert counts['written'] == num_B.sum()
  assert counts['tokens'] == answers.length_B.sum()
  assert counts['forward'] == answers.prompt_length_B.sum()
  # Later steps choose other prompts, or write something else.
  later = _step()(state.replace(step=jnp.int32(1)), batch)['answers']
  assert (np.asarray(later.tokens_BT) != answers.tokens_BT).any()


def test_the_gradient_is_zero_if_no_answer_of_any_group_is_right():
  found = _step()(_made().state, testing.batch())
  assert not np.asarray(found['advantage_B']).any()
  assert all(not np.asarray(g).any() for g in found['grads'].values())
  # Right answers make the difference.
  taught = _step()(_made().state, _taught())
  assert any(np.asarray(g).any() for g in taught['grads'].values())


def test_the_gradient_is_that_of_the_policy_gradient():
  """- mean over answers of A times the mean log-probability of a token."""
  state, found = _made().state, _step()(_made().state, _taught())
  answers, advantage_B = found['answers'], found['advantage_B']

  def value(params):
    score_B = _mean_of_answers(state.weights.with_params(params), answers)
    return -jnp.mean(advantage_B * score_B)

  params = {path: state.weights.params[path] for path in found['grads']}
  expected = jax.jit(jax.grad(value))(params)
  assert max(float(jnp.abs(g).max()) for g in expected.values()) > 1e-2
  testing.close(found['grads'], expected, 1e-4)
  # Micro-batches are summed.
  testing.close(found['of_parts'], (found['loss'], found['grads']), 1e-4)


def test_a_step_raises_the_likelihood_of_rewarded_answers_above_the_others():
  state, found = _made().state, _step()(_made().state, _taught())
  answers, advantage_B = found['answers'], np.asarray(found['advantage_B'])
  right, wrong = advantage_B > 0, advantage_B < 0
  assert right.any() and wrong.any()
  params = {
    path: state.weights.params[path] - 0.01 * g
    for path, g in found['grads'].items()
  }
  before_B = np.asarray(_mean_of_answers(state.weights, answers))
  after = state.weights.with_params(params)
  change_B = np.asarray(_mean_of_answers(after, answers)) - before_B
  assert change_B[right].mean() > 0.01
  assert change_B[right].mean() > change_B[wrong].mean() + 0.01


def test_the_divergence_from_the_initial_model_is_in_the_loss():
  beta, batch = 0.5, testing.batch()
  made, step = _made(beta=beta), _step(in_parts=False, beta=beta)
  initial = made.state.strategy['initial']
  assert len(initial) > 5
  testing.close(initial, {path: made.weights.params[path] for path in initial})
  same = step(made.state, batch)
  assert float(same['loss']) == pytest.approx(0, abs=1e-6)
  moved = methods.moved(made.state)
  found = step(moved, batch)
  assert not np.asarray(found['advantage_B']).any()
  answers = found['answers']
  read, prompted = answers.length_B.sum(), answers.prompt_length_B.sum()
  assert int(found['counts']['tokens']) == read
  assert int(found['counts']['forward']) == read + prompted
  p, written_BT = _log_likelihood(moved.weights, answers)
  q, _ = _log_likelihood(made.weights, answers)
  k3_BT = np.exp(q - p) - (q - p) - 1
  mean_B = (k3_BT * written_BT).sum(1) / written_BT.sum(1)
  expected = beta * float(mean_B.mean())
  assert float(found['loss']) == pytest.approx(expected, rel=1e-3)
  assert float(found['loss']) > 1e-3
  norms = [
    sum(float(jnp.sum(jnp.square(g))) for g in x['grads'].values())
    for x in (same, found)
  ]
  assert norms[0] < 1e-8 and norms[1] > 1e-6


def test_without_its_weight_nothing_is_stored():
  assert _made().state.strategy == {}


def test_an_answer_has_as_many_tokens_as_its_setting():
  write = lambda *args: _made(max_new=2).method.penalty(*args)[1][0].rows[0]
  answers = jax.jit(write)(_made().state, testing.batch())
  num_B = answers.length_B - answers.prompt_length_B
  assert int(num_B.max()) == 2


def test_micro_batches_that_do_not_divide_the_answers_are_refused():
  c = testing.config()
  c.wake.micro_batches = 3
  c.grpo.update(prompts=4, group=4)
  with pytest.raises(errors.ConfigError, match='16 rows of grpo.prompts times'):
    grpo.make(2).build(method.Parts(c, testing.tiny(), None, (), 1, 2, {}))


def test_a_group_of_one_answer_is_refused():
  with pytest.raises(errors.ConfigError, match='grpo.group is 1: .* 2 or more'):
    ranges.check({'grpo': {'group': 1}})


@pytest.mark.usefixtures('one_device')
def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
  """The tiny study's model never gives a whole response: half are rewarded."""

  def rewards(answers, *, eos):
    del eos
    return (answers.tokens_BT.sum(1) % 2).astype(jnp.float32)

  monkeypatch.setattr(grpo, 'rewards', rewards)
  c = tiny_study.config()
  c.grpo.beta = 0.1
  study = tiny_study.TinyStudy(c).make_initial_model(tmp_path / 'pretrain')
  whole, record = study.run('grpo', tmp_path / 'whole')
  initial = jax.device_get(study.initial_model.weights.params)
  whole = jax.device_get(whole.replace(key=jax.random.key_data(whole.key)))
  assert len(testing.changed(initial, whole.weights.params)) > 5
  kept = whole.strategy['initial']
  assert testing.same(kept, {path: initial[path] for path in kept})
  parts, again = study.run_in_pieces('grpo', tmp_path / 'parts', every=3)
  parts = jax.device_get(parts.replace(key=jax.random.key_data(parts.key)))
  assert testing.same(whole, parts)
  assert tiny_study.without_times(record) == tiny_study.without_times(again)

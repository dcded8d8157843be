"""Distills a model with routed experts into an ordinary dense model.

Gates that depend on the input cannot be merged into a dense MLP. Instead, the
routed model (teacher) samples texts, and a student that is the base model with
a wider MLP in every block is trained to predict them with the teacher's
distribution. Only the new hidden units are trained. They start as the teacher's
experts, each scaled by its mean gate over a batch of those texts.

References: 2306.13649 (GKD) at beta 0, on the teacher's own samples.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax.interop import expert_file, hf_names
from sleep_jax.model import experts, sampling, transformer
from sleep_jax.objectives import chunked_losses, losses
from sleep_jax.optim import optimizer

Array = types.Array
_BANK = 'blocks/levels/1/experts/'
_BLOCK = 2048  # Tokens, and vocabulary entries, per block of logits.


@dataclasses.dataclass(frozen=True)
class Settings:
  """Training settings of the dense student.

  Attributes:
    steps: optimizer steps.
    rollouts: texts that the teacher samples for training. An eighth more is
      sampled as a held-out set.
    batch: texts per step.
    max_new: tokens of a text after its prompt.
    learning_rate: peak learning rate.
  """

  steps: int = 400
  rollouts: int = 4096
  batch: int = 32
  max_new: int = 64
  learning_rate: float = 1e-3


def distil(
  model: transformer.Transformer,
  weights: types.Weights,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  eos: int,
  settings: Settings,
  log_fn: Callable[[str], None] = lambda text: None,
) -> tuple[transformer.Transformer, types.Weights]:
  """Trains a model of one level to reproduce a routed model.

  What faster levels learned while awake is distilled as well, but the student
  gets no additional hidden units for it.

  Args:
    model: the routed model (teacher).
    weights: its weights.
    prompts: token ids, BOS first, that texts start with. All are used equally
      often.
    key: random key for sampling and initialization.
    eos: token that ends a text.
    settings: training settings.
    log_fn: called with one line of text before and after training: the held-out
      divergence from the teacher in nats per token.

  Returns:
    The student and its weights, which `hf_export.save` can write. Arrays that
    are equal to the teacher's are shared with it.

  Raises:
    UsageError: no expert is active.
    DivergedError: the student's loss is not finite.
  """
  if not expert_file.active_slots(weights):
    raise errors.UsageError(
      'No expert is active: there is nothing to distill. Remove --distil.'
    )
  s = settings
  sample = jax.jit(_make_sampler(model, eos, s))
  num_train = -(-s.rollouts // s.batch) * s.batch
  batches = _prompt_batches(
    prompts, num_train + max(num_train // 8, s.batch), s.batch
  )
  texts = [
    sample(weights, batch, jax.random.fold_in(key, number))
    for number, batch in enumerate(batches)
  ]
  held_out, texts = texts[num_train // s.batch :], texts[: num_train // s.batch]
  student, base, trained = initial_student(model, weights, texts[0], key)
  loss = functools.partial(_divergence, model, student, s)
  tx = optimizer.make(
    learning_rate=s.learning_rate, warmup=s.steps // 10, decay_steps=s.steps
  )

  @jax.jit
  def train_step(trained, opt, weights, base, batch):
    value, grads = jax.value_and_grad(
      lambda trained: loss(weights, base.with_params(trained), batch)
    )(trained)
    updates, opt = tx.update(grads, opt, trained)
    return jax.tree.map(jnp.add, trained, updates), opt, value

  eval_step = jax.jit(
    lambda trained, weights, base, batch: loss(
      weights, base.with_params(trained), batch
    )
  )

  def held_out_loss(trained):
    losses = [eval_step(trained, weights, base, batch) for batch in held_out]
    # A divergence of 0 may be rounded to a negative number.
    return max(float(np.mean(losses)), 0.0)

  log_fn(
    'divergence from the routed model, nats per token: '
    f'{held_out_loss(trained):.4f}'
  )
  opt = tx.init(trained)
  for step in range(s.steps):
    trained, opt, _ = train_step(
      trained, opt, weights, base, texts[step % len(texts)]
    )
  after = held_out_loss(trained)
  if not np.isfinite(after):
    raise errors.DivergedError(
      f'The distilled model diverged: after {s.steps} steps at a learning '
      f'rate of {s.learning_rate:g} its divergence from the routed model is '
      f'{after}. Nothing is written. Use a lower learning rate.'
    )
  log_fn(f'after {s.steps} steps: {after:.4f}')
  return student, base.with_params(trained)


def initial_student(
  model: transformer.Transformer,
  weights: types.Weights,
  texts: types.Rollout,
  key: Array,
) -> tuple[transformer.Transformer, types.Weights, types.Params]:
  """Builds the student before training.

  Args:
    model: the routed model (teacher).
    weights: its weights.
    texts: texts over which the teacher's gates are averaged.
    key: random key for arrays that the teacher does not provide.

  Returns:
    The student model, its weights, and the subset of its parameters to train:
    the matrices of one bank that holds all experts side by side.
  """
  c, active = model.config, expert_file.active_slots(weights)
  rank = sum(c.levels[n - 1].rank * len(slots) for n, slots in active.items())
  level = dataclasses.replace(
    c.levels[-1],
    update_period='infinite',
    sleep_period='infinite',
    slots=1,
    rank=rank,
  )
  student = transformer.Transformer(
    dataclasses.replace(
      c,
      arrangement='independent',
      router='always',
      top_k=0,
      layer_levels=(),
      levels=(level,),
    )
  )
  teacher_arrays = {
    source.name: (path, source.index)
    for path, sources in hf_names.tensor_sources(model)
    for source in sources
  }
  params = {}
  for path, sources in hf_names.tensor_sources(student):
    found = [teacher_arrays[source.name] for source in sources]
    first = weights.params[found[0][0]]
    if not sources[0].index or len(first) == len(sources):
      params[path] = first  # The teacher's array itself, not a copy.
    else:
      params[path] = jnp.stack([weights.params[p][index] for p, index in found])
  (fresh,) = student.init_expert(key, 1).values()
  bank = {_BANK + name: leaf[:, None] for name, leaf in fresh.items()}
  bank |= _fill_bank(model, weights, params, bank, texts)
  params |= bank
  active_NE = jnp.ones((1, 1))
  trained = {f'{_BANK}{name}': bank[_BANK + name] for name in _matrices(c)}
  return student, types.Weights(params, active_NE), trained


def _fill_bank(model, weights, base, initial, texts) -> types.Params:
  """Returns the matrices of one bank with the experts of the teacher in a row.

  Rows of layers that an expert does not belong to keep their initial values.
  """
  c, start = model.config, 0
  found = {name: initial[f'{_BANK}{name}'][:, 0] for name in _matrices(c)}
  rows = types.model_inputs(texts.tokens_BT, texts.length_B)
  mean = lambda gates_BTE, _: jnp.mean(
    gates_BTE, (0, 1), where=(rows[1] > 0)[..., None]
  )
  # Without that norm a hidden unit reads what is not normed. The values that
  # training starts from are then rough.
  base_scale_LD = jnp.ones((c.num_layers, c.width))
  if c.pre_norms:
    base_scale_LD = base['blocks/levels/norm/scale'] + c.norm_offset
  for number, slots in expert_file.active_slots(weights).items():
    bank = model.bank(weights, number)
    gates_LE = model.map_expert_outputs(weights, *rows, number, mean)
    norm = f'blocks/levels/{number}/base/norm/scale'
    layers = np.concatenate(
      [np.arange(a, b) for a, b, levels in c.groups if number in levels]
    )
    # An expert reads the norm of its level, a hidden unit that of the base
    # model, so what it reads with is rescaled by the ratio of the two.
    scale_LD = (
      weights.params[norm] + c.norm_offset
      if norm in weights.params
      else base_scale_LD[layers]
    )
    ratio_LD = scale_LD / base_scale_LD[layers]
    for slot in slots:
      R = c.levels[number - 1].rank
      for name in set(_matrices(c)) - {'B'}:
        found[name] = (
          found[name]
          .at[layers, :, start : start + R]
          .set(bank[name][:, slot] * ratio_LD[..., None])
        )
      found['B'] = (
        found['B']
        .at[layers, start : start + R]
        .set(bank['B'][:, slot] * gates_LE[:, slot, None, None])
      )
      start += R
  return {f'{_BANK}{name}': leaf[:, None] for name, leaf in found.items()}


def _matrices(config):
  """Returns the names of the matrices of an expert."""
  names = experts.array_names(config.gated_experts)
  return [name for name in names if name not in ('router', 'bias')]


def _make_sampler(model, eos, settings):
  def sample(weights, prompts, key):
    P = prompts.tokens_BP.shape[1]
    return sampling.sample(
      model,
      weights,
      prompts,
      key,
      max_length=P + settings.max_new,
      eos=eos,
      max_new=settings.max_new,
    )

  return sample


def _divergence(model, student, settings, teacher, weights, rollout):
  """Returns the mean KL(teacher || student) over generated tokens, in nats."""
  rows = types.model_inputs(rollout.tokens_BT, rollout.length_B)
  at_BG = (
    rollout.prompt_length_B[:, None] - 1 + jnp.arange(settings.max_new)[None]
  )
  at_BG = jnp.minimum(at_BG, rollout.tokens_BT.shape[1] - 1)
  teacher_ND, student_ND = (
    network.states_at(params, *rows, at_BG).reshape(-1, model.config.width)
    for network, params in ((model, teacher), (student, weights))
  )
  value_N = chunked_losses.divergence(
    teacher_ND,
    student_ND,
    model.head(teacher),
    student.head(weights),
    beta=0.0,
    tokens=_BLOCK,
    vocab_block=_BLOCK,
    cap=model.config.logit_cap,
  )
  mask_N = losses.generated_mask(rollout, settings.max_new).reshape(-1)
  return jnp.sum(value_N * mask_N) / jnp.maximum(jnp.sum(mask_N), 1)


def _prompt_batches(prompts, count, batch) -> Iterator[types.Prompts]:
  """Yields `count` prompts in batches, each prompt equally often."""
  width = max(map(len, prompts))
  # Prompts come in the order in which the run stored them. Shuffling makes
  # every batch a sample of the whole run.
  order = np.random.default_rng(0).permutation(len(prompts))
  rows = [
    prompts[order[i % len(prompts)]] for i in range(-(-count // batch) * batch)
  ]
  tokens_BP = np.zeros((len(rows), width), np.int32)
  for number, row in enumerate(rows):
    tokens_BP[number, : len(row)] = row
  length_B = np.array([len(row) for row in rows], np.int32)
  for first in range(0, len(rows), batch):
    part = slice(first, first + batch)
    no_subject = jnp.zeros((batch, 2), jnp.int32)
    yield types.Prompts(tokens_BP[part], length_B[part], no_subject)

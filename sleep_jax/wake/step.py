"""Builds the wake step: one compiled step that learns from one batch.

One backward pass computes the gradients of all trained parameters. Each owner
(a level, or all weights) adds its gradient to its own sum, and applies an
update when its period is complete. The update is held back if the level falls
asleep at this step: the night then computes it. Between two updates an owner's
parameters stay bit-identical. Pretraining, waking levels and plain fine-tuning
use this one step with different owners.

References: 2512.24695 section 7; 2606.03979 section 3.1; pitfalls in
docs/method.md.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.optim import day_schedule, gradient_accumulation, optimizer
from sleep_jax.replay import answers, buffer, documents
from sleep_jax.wake import row_loss, terms

State = state_lib.State


def make(
  likelihood: terms.Likelihood,
  owned_paths: Mapping[str, Sequence[str]],
  txs: Mapping[str, optax.GradientTransformation],
  periods: Mapping[str, int],
  *,
  age_groups: Sequence[str],
  eos: int,
  penalty: terms.Penalty | None = None,
  learns_rows: bool = True,
  transform: terms.Transform | None = None,
  micro_batches: int = 1,
  has_day_decay: bool = False,
) -> Callable[..., tuple[State, dict]]:
  """Builds the wake step.

  Args:
    likelihood: computes token log-probabilities, see `terms.Likelihood`.
    owned_paths: owner -> paths of its parameters.
    txs: owner -> its optimizer, which receives the sum of a chunk's gradients.
    periods: owner -> chunk size, in steps.
    age_groups: replay age groups that store the batch's prompts.
    eos: token that ends a text; documents are stored without it.
    penalty: further terms of the loss, see `terms.Penalty`.
    learns_rows: whether the likelihood of the batch is a term of the loss. If
      not, the loss is that of `penalty`, and the batch is not counted as read.
    transform: changes the gradients of all terms, see `terms.Transform`.
    micro_batches: number of parts that the rows of the batch are read in, see
      `gradient_accumulation`.
    has_day_decay: whether the optimizers are those of `day_schedule`.

  Returns:
    step(state, batch, held, day_share) -> (state, metrics); `held` has a bool
    per owner, True where a due update is left to the night; `day_share`, only
    with `has_day_decay`, is the share of the day's steps that are done so far.
    Metrics are scalars: `loss`, nats per target token of the batch, or without
    `learns_rows` the sum of the penalty terms; `penalty_loss`, the sum of the
    penalty terms, or without `learns_rows` 0; `grad_norm`, of all gradients
    together; `tokens`, `written` and `forward`, the numbers of tokens trained
    on, sampled, and read without a backward pass.
  """
  owner_of = {
    path: name for name, paths in owned_paths.items() for path in paths
  }

  def step(state, batch, held, day_share=None):
    if has_day_decay:
      opts = {
        name: day_schedule.set_share(opt, day_share)
        for name, opt in state.opt.items()
      }
      state = state.replace(opt=opts)
    zero = jnp.zeros((), jnp.int32)
    counts = {'tokens': zero, 'written': zero, 'forward': zero}
    more_terms: Sequence[terms.Term] = ()
    if penalty is not None:
      with jax.named_scope('penalty'):
        state, more_terms, counts = penalty(state, batch)

    trainable = state.weights.trainable
    params = {path: trainable[path] for path in owner_of}
    if learns_rows:
      with jax.named_scope('wake'):
        loss, grads = row_loss.value_and_grad(
          likelihood, state.weights, params, batch, num=micro_batches
        )
    else:
      loss, grads = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    penalty_value = jnp.zeros(())
    for term in more_terms:
      with jax.named_scope('penalty'):
        (value, _), more = gradient_accumulation.value_and_grad(
          _loss_of(term, state.weights), params, term.rows, num=term.num
        )
      penalty_value += value
      grads = jax.tree.map(jnp.add, grads, more)
    extra = zero
    if transform is not None:
      with jax.named_scope('transform'):
        grads, extra = transform(state, batch, grads)
    now = state.step + 1
    sums, opts = {}, {}
    updated: types.Params = {}
    for name, paths in owned_paths.items():
      total = {p: state.sums[name][p] + grads[p] for p in paths}
      due = (now % periods[name] == 0) & ~held[name]
      own = {p: params[p] for p in paths}
      # A branch, not a select: an owner that is not due costs nothing.
      new, opts[name], sums[name] = jax.lax.cond(
        due,
        optimizer.update_and_reset(txs[name]),
        optimizer.keep_unchanged,
        own,
        state.opt[name],
        total,
      )
      updated |= new
    key = jax.random.fold_in(state.key, now)
    replay = {
      name: buffer.insert(
        age_group,
        _prompts(batch, age_group),
        now if name != buffer.PRETRAIN else 0 * now,
        jax.random.fold_in(key, number)
        if name == buffer.PRETRAIN
        else state.key,
        documents=_documents(batch, age_group, eos),
        once=name != buffer.PRETRAIN,
      )
      if name in age_groups
      else age_group
      for number, (name, age_group) in enumerate(sorted(state.replay.items()))
    }
    state = state.replace(
      step=now,
      weights=state.weights.with_params(updated),
      sums=sums,
      opt=opts,
      replay=replay,
    )
    return state, {
      'loss': loss if learns_rows else penalty_value,
      'penalty_loss': penalty_value if learns_rows else loss,
      'grad_norm': optax.tree.norm(grads),
      'tokens': (jnp.sum(batch.segments_BT >= 0) if learns_rows else zero)
      + counts['tokens']
      + extra,
      'written': counts['written'],
      'forward': counts['forward'],
    }

  return step


def _loss_of(term, weights):
  """Returns the loss of a term as a function of the trained parameters."""
  return lambda params, rows: (
    term.loss_fn(weights.with_params(params), rows),
    ((), ()),
  )


def _prompts(batch, age_group):
  """Returns the prompts of a batch, with answers if a group stores them."""
  if age_group.answers is None:
    return batch.prompts
  width = age_group.answers.tokens_BT.shape[1]
  return batch.prompts.replace(answers=answers.of_batch(batch, width))


def _documents(batch, age_group, eos):
  """Returns whole rows for an age group that stores them, one per prompt."""
  if age_group.documents is None:
    return None
  length_B = jnp.sum(batch.segments_BT > 0, 1)
  return documents.make(batch.tokens_BT, length_B, eos)

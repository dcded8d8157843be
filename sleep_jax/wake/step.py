"""Wake: one compiled step that learns from one batch.

All moving owners get their gradient in one backward pass, added to their own
sum; an owner whose period is up moves, unless it is held because it falls
asleep at this step (then the night computes its update). Between two updates
an owner's parameters are bit-identical. Birth, waking levels and plain
fine-tuning are this one step with other owners.

References: 2512.24695 section 7; 2606.03979 section 3.1; pitfalls in
docs/method.md.
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.optim import gradient_accumulation, optimizer
from sleep_jax.replay import buffer

Array = types.Array
State = state_lib.State
# (weights, tokens_BT, segments_BT, positions_BT) -> log-probability of each
# token but the first, `[B, T - 1]`.
Likelihood = Callable[[types.Weights, Array, Array, Array], Array]
# (state) -> the state, what the loss has besides (of the weights), and counts
# of `tokens` read and `written` for it.
Hold = Callable[
  [State], tuple[State, Callable[[types.Weights], Array], dict[str, Array]]
]


def make(
  likelihood: Likelihood,
  moving: Mapping[str, Sequence[str]],
  txs: Mapping[str, optax.GradientTransformation],
  periods: Mapping[str, int],
  *,
  age_groups: Sequence[str],
  hold: Hold | None = None,
  average_decay: float = 0.0,
  micro_batches: int = 1,
) -> Callable[[State, types.Batch, Mapping[str, Array]], tuple[State, dict]]:
  """Builds the wake step.

  Args:
    likelihood: see above.
    moving: owner -> paths of its parameters.
    txs: owner -> its optimizer, fed the sum of a chunk's gradients.
    periods: owner -> chunk size in steps.
    bands: replay bands that are offered the batch's prompts.
    hold: a further part of the loss, see `tether`.
    average_decay: of the running means in `state.average`.
    micro_batches: in which the rows are read, see `micro`.

  Returns:
    step(state, batch, held) -> (state, metrics); `held` is a bool per owner.
  """
  owner_of = {path: name for name, paths in moving.items() for path in paths}

  def step(state, batch, held):
    strain: Callable[[types.Weights], Array] | None = None
    zero = jnp.zeros((), jnp.int32)
    counts = {'tokens': zero, 'written': zero}
    if hold is not None:
      with jax.named_scope('hold'):
        state, strain, counts = hold(state)

    targets = jnp.maximum(jnp.sum(batch.loss_BT[:, 1:]), 1)

    def loss_fn(params, rows):
      *read, loss_BT = rows
      score_BT = likelihood(state.weights.with_params(params), *read)
      return -jnp.sum(score_BT * loss_BT[:, 1:]) / targets, ((), ())

    params = {path: state.weights.params[path] for path in owner_of}
    rows = (
      batch.tokens_BT, batch.segments_BT, batch.positions_BT, batch.loss_BT
    )  # fmt: skip
    with jax.named_scope('wake'):
      (loss, _), grads = gradient_accumulation.value_and_grad(
        loss_fn, params, rows, num=micro_batches
      )
    strained = jnp.zeros(())
    if strain is not None:
      strained, more = jax.value_and_grad(
        lambda params: strain(state.weights.with_params(params))
      )(params)
      grads = jax.tree.map(jnp.add, grads, more)
    now = state.step + 1
    sums, opts = {}, {}
    moved: types.Params = {}
    for name, paths in moving.items():
      total = {p: state.sums[name][p] + grads[p] for p in paths}
      due = (now % periods[name] == 0) & ~held[name]
      own = {p: params[p] for p in paths}
      # A branch, not a select: a level at rest costs nothing.
      new, opts[name], sums[name] = jax.lax.cond(
        due,
        optimizer.apply_update(txs[name]),
        optimizer.keep,
        own,
        state.opt[name],
        total,
      )
      moved |= new
    key = jax.random.fold_in(state.key, now)
    kept = {
      name: buffer.insert(
        age_group, batch.prompts, now if name != buffer.PRETRAIN else 0 * now,
        jax.random.fold_in(key, number), documents=_documents(batch, age_group),
      ) if name in age_groups else age_group
      for number, (name, age_group) in enumerate(sorted(state.replay.items()))
    }  # fmt: skip
    average = {
      name: {
        path: mean + (1 - average_decay) * (moved[path] - mean)
        for path, mean in means.items()
      }
      for name, means in state.average.items()
    }
    state = state.replace(
      step=now, weights=state.weights.with_params(moved), sums=sums, opt=opts,
      replay=kept, average=average,
    )  # fmt: skip
    return state, {
      'loss': loss,
      'strain': strained,
      'grad_norm': optax.tree.norm(grads),
      'tokens': jnp.sum(batch.segments_BT >= 0) + counts['tokens'],
      'written': counts['written'],
    }

  return step


def _documents(batch, age_group):
  """Whole rows, for a band that keeps them; one prompt began each."""
  if age_group.documents is None:
    return None
  # The EOS at the end would part a document from what is asked of it.
  length_B = jnp.maximum(jnp.sum(batch.segments_BT > 0, 1) - 1, 1)
  return types.Texts(batch.tokens_BT, length_B)

"""Would the night gain if still fewer positions met the vocabulary?

The seeding loss reads the head and the softmax at the `max_new` places after
each row's prompt, written or not. 'all' reads them at every place of a row, and
a number gathers what was really written of all rows into room for that share of
all places; what does not fit would have to be left out. 'now' is the loss as it
is. One gradient of one update's rows each, half of every row being prompt.

python -m benchmarks.head --out=docs/results/benchmarks/head.json
"""

import functools

import jax
import jax.numpy as jnp

from benchmarks import night, timing
from sleep_jax.model import transformer
from sleep_jax.objectives import losses

SHARES = (1.0, 0.75, 0.5, 0.375)


def measure(repeats: int):
  cases = []
  for shape in ('facts', 'larger'):
    asleep, state, _ = night.asleep(shape)
    rows = night.rows_of(asleep, state)
    args = (state.night.fresh, state, rows)
    count = {'tokens': sum(r.tokens_BT.size for r in rows.values())}
    ways = {'now': functools.partial(_now, asleep)}
    for share in SHARES:
      name = 'all' if share == 1 else str(share)
      ways[name] = functools.partial(_gathered, asleep, share)
    cases += [
      timing.case(f'{shape}/{name}', jax.grad(way), *args, **count)
      for name, way in ways.items()
    ]
  return timing.compare(cases, repeats=repeats)


def _now(asleep, fresh, state, rows):
  return asleep._loss(fresh, state.replace(night=None), state.night, rows)[0]


def _gathered(asleep, share, fresh, state, rows):
  """The same loss on a fixed share of all places."""
  state = state.replace(night=state.night.replace(fresh=fresh))
  everything = jax.tree.map(lambda *x: jnp.concatenate(x), *rows.values())
  student = asleep.student(state)
  student_BTD = _hidden(asleep.model, student, everything)
  total, count, start = 0.0, 0.0, 0
  for teacher in asleep.settings.teachers:
    rollout, stop = rows[teacher.name], start + teacher.sequences
    weights = asleep.teacher(state, teacher.teacher)
    teacher_BTD = _hidden(asleep.model, weights, rollout)
    mask_M = _written(rollout).reshape(-1)
    keep = lambda x: x.reshape(-1, x.shape[-1])[None]
    if share < 1:
      # What was written first, in the order of places.
      place_M = jnp.argsort(~mask_M, stable=True)[: int(share * mask_M.size)]
      mask_M = mask_M[place_M]
      keep = lambda x, p=place_M: x.reshape(-1, x.shape[-1])[p][None]
    value_1M = losses.divergence(
      jax.lax.stop_gradient(asleep.model._head(weights, keep(teacher_BTD))),
      asleep.model._head(student, keep(student_BTD[start:stop])),
      beta=asleep.settings.beta,
    )
    total += jnp.sum(value_1M * mask_M[None])
    count, start = count + jnp.sum(mask_M), stop
  return total / jnp.maximum(count, 1)


def _written(rollout):
  """bool [B, T - 1]: place t predicts a written token t + 1."""
  target = jnp.arange(1, rollout.tokens_BT.shape[1])[None]
  return (target >= rollout.prompt_length_B[:, None]) & (
    target < rollout.length_B[:, None]
  )


def _hidden(model, weights, rollout):
  read = transformer.rows(rollout.tokens_BT, rollout.length_B)
  return model._hidden(weights, *read)[0][:, :-1]


if __name__ == '__main__':
  timing.main('benchmarks.head', __doc__, measure)

"""A night of a small model, shared by the tests of `sleep`.

The sender is the middle one of three levels: it has experts of its own, it has
learned since its last waking, and its receiver already holds an expert.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sleep_jax import state as state_lib
from sleep_jax.optim import optimizer
from sleep_jax.sleep import consolidation, settings_checks
from tests import testing

PERIODS = ((1, 2), (2, 4))
IMITATION = dict(
  alpha=0.5, gamma=0.5, threshold=0.5, cuts=1, completions=4, judge='match',
  stop_likelihood=1.0, stop_repetition=0.5,
)  # fmt: skip
WAKE_TX = optax.sgd(0.5, momentum=0.9)
PRETRAIN = [[1, 3], [1, 4], [1, 5]]
YESTERDAY, TODAY = [[1, 10], [1, 11]], [[1, 20, 21], [1, 22], [1, 23]]
TEACHERS = (
  dict(teacher='anchor', prompts='old', sequences=12, draws=16, bos_share=0.3),
  dict(teacher='next', prompts='day', sequences=12, draws=16),
)


# With a loop over layers, as in a large model, which compiles faster.
tiny = functools.partial(testing.tiny, *PERIODS, looped=True)


def make_settings(**changes):
  """Returns settings of a night of three rounds."""
  settings = testing.config(*PERIODS).consolidate.to_dict() | dict(
    teachers=TEACHERS, num_updates=60, updates_per_round=20, on_policy=0.5,
    on_policy_after=0.34, max_length=8, prompt_width=4, priority=1.0,
  )  # fmt: skip
  return settings_checks.make_settings(**(settings | changes))


def make_consolidation(
  sender=2, tx=None, model=None, judge=testing.judge, **changes
):
  """Returns the programs of a sender's night."""
  return consolidation.Consolidation(
    model or tiny(),
    tx or optimizer.make(learning_rate=1e-2, clip=1.0, weight_decay=0.1),
    testing.templates(), testing.BOS, testing.EOS, judge,
    make_settings(**changes), sender, WAKE_TX if sender else None,
  )  # fmt: skip


def _age_group(rows, steps, capacity=8):
  prompts = testing.prompts(rows + [[]] * (capacity - len(rows)), width=4)
  return state_lib.AgeGroup(
    tokens_CP=prompts.tokens_BP, length_C=prompts.length_B,
    subject_C2=prompts.subject_B2,
    step_C=jnp.asarray(steps + [0] * (capacity - len(rows)), jnp.int32),
    count=jnp.int32(len(rows)),
  )  # fmt: skip


def awake_state(seed=0, model=None):
  """Returns a state at step 8; level 2 last woke at step 4."""
  model = model or tiny()
  random = np.random.default_rng(seed)
  weights = testing.activate(testing.weights(model, seed), 2, 0, 1)
  weights = testing.activate(weights, 3, 0)
  noise = lambda tree, size: jax.tree.map(
    lambda x: jnp.asarray(
      np.asarray(x) + (size * random.normal(size=x.shape)).astype(x.dtype)
    ),
    tree,
  )
  base = {
    n: optimizer.select_owned(weights.params, (n,), num_levels=3)
    for n in ('1', '2')
  }
  return state_lib.State(
    step=jnp.int32(8), key=jax.random.key(seed), weights=weights,
    sums={n: noise(jax.tree.map(np.zeros_like, base[n]), 0.2) for n in base},
    opt={n: noise(WAKE_TX.init(base[n]), 0.1) for n in base},
    anchor={n: noise(base[n], 0.3) for n in base},
    woke_N=jnp.array([0, 6, 4]), guard_N=jnp.array([0.9, 0.7, 0.8]),
    replay={
      'corpus': _age_group(PRETRAIN, [0] * 3),
      'past': _age_group(YESTERDAY + TODAY, [2, 4, 5, 6, 8]),
      'day/1': _age_group(TODAY[2:], [8]),
      'day/2': _age_group(TODAY, [5, 6, 8]),
    },
  )  # fmt: skip

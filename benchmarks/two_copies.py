"""A baseline for memory: distillation in which the whole student is trained.

The base model, rows, losses, blocks and micro-batches are those of a night, but
the student is a second copy of the model in float32, with a gradient and two
moments for each of its parameters.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from sleep_jax import types
from sleep_jax.objectives import chunked_losses
from sleep_jax.optim import gradient_accumulation, optimizer
from sleep_jax.planning import ahead_of_time
from sleep_jax.runtime import sharding
from sleep_jax.sleep import settings_checks


def lower(config: Any, devices: Sequence[jax.Device]) -> Any:
  """Lowers one update for devices that need not be attached."""
  placement = ahead_of_time.AheadOfTimePlacement(
    sharding.make(**config.mesh.to_dict(), devices=devices).mesh
  )
  run = ahead_of_time.abstract_run(config, placement)
  model, s = (
    run.programs.model,
    settings_checks.make_settings(**config.consolidate.to_dict()),
  )
  tx = optimizer.make(learning_rate=1e-5)
  weights = run.initial_model.weights

  def update(state, rows):
    teacher, student, opt = state['weights'], state['params'], state['opt']
    num_tokens = jnp.float32(s.rows * s.max_new)

    def loss(student, rows):
      inputs = types.model_inputs(rows.tokens_BT, rows.length_B)
      at_BG = rows.prompt_length_B[:, None] + jnp.arange(s.max_new)[None] - 1
      at_BG = jnp.minimum(at_BG, s.max_length - 1)
      cast = {
        path: x.astype(teacher.params[path].dtype)
        for path, x in student.items()
      }
      states = [
        model.states_at(w, *inputs, at_BG).reshape(-1, model.config.width)
        for w in (teacher, teacher.with_params(cast))
      ]
      value_N = chunked_losses.divergence(
        *states, model.head(teacher), model.head(teacher), beta=s.beta,
        tokens=s.block_tokens, vocab_block=s.block_vocab,
        place=lambda x: placement.constrain('block', x),
      )  # fmt: skip
      return jnp.sum(value_N) / num_tokens, ((), ())

    (value, _), grads = gradient_accumulation.value_and_grad(
      loss, student, rows, num=s.micro_batches
    )
    updates, opt = tx.update(grads, opt, student)
    student = optax.apply_updates(student, updates)
    return {'weights': teacher, 'params': student, 'opt': opt}, {'loss': value}

  params = {
    path: jax.ShapeDtypeStruct(x.shape, jnp.float32)
    for path, x in weights.params.items()
  }
  state = {
    'weights': weights, 'params': params, 'opt': jax.eval_shape(tx.init, params)
  }  # fmt: skip
  state = placement.put(state)
  ints = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  rows = types.Rollout(
    tokens_BT=ints(s.rows, s.max_length), prompt_length_B=ints(s.rows),
    length_B=ints(s.rows),
  )  # fmt: skip
  rows = placement.put(rows, prefix='pools/')
  return placement.jit(update, state, rows)(state, rows)

"""Measures the speed of a seeding round and the shares of its parts.

A round has three parts. 'sampling': every teacher, and with `on_policy` also
the student, samples sequences. 'scoring': the teachers read these sequences up
to the head. 'updating': the student's forward pass, the divergence, the
backward pass and the optimizer.

python -m benchmarks.night --out=docs/results/benchmarks/night.json
"""

import jax
import jax.numpy as jnp

from benchmarks import shapes, timing
from sleep_jax import types
from sleep_jax.sleep import consolidation
from sleep_jax.strategies import sleep

SENDER = 1


def measure(repeats: int):
  cases, shares = [], {}
  for shape in ('facts', 'larger'):
    cases += _cases(shape)
  results = timing.compare(cases, repeats=repeats)
  rows = results['cases']
  for shape in ('facts', 'larger'):
    updates = shapes.config(shape).consolidate.updates_per_round
    whole = updates * rows[f'{shape}/round']['cpu_ms_per_step']
    rehearsing = rows[f'{shape}/rehearsing']['cpu_ms_per_step'] / whole
    scoring = rows[f'{shape}/scoring']['cpu_ms_per_step'] / whole
    shares[shape] = {
      'sampling': rehearsing - scoring, 'scoring': scoring,
      'updating': 1 - rehearsing,
    }  # fmt: skip
  return results | {'shares_of_a_round': shares}


def night_state(shape: str):
  """Returns (night, state, programs) in the middle of a night.

  From there on the student samples as well, if `on_policy` is on.
  """
  program, c = shapes.make_programs(shape, sleep.make(2))
  state = shapes.half_full_state(program)
  for batch in shapes.batches(shape, 4):
    state, _ = program.wake(state, batch, held=())
  state = program.fall_asleep(state, SENDER)
  middle = jnp.int32(c.consolidate.num_updates // 2)
  state = state.replace(night=state.night.replace(update=middle))
  return program._nights[SENDER], state, program


def random_rollouts(night: consolidation.Consolidation):
  """Returns random sequences of full length, of which half is the prompt.

  They replace those that teachers and student sample in a round. Nearly all
  sequences of an untrained model have full length, too.
  """
  length = night.settings.max_length
  key = jax.random.key(2)
  vocab = night.model.config.vocab_size

  def make(n):
    return types.Rollout(
      tokens_BT=jax.random.randint(key, (n, length), 8, vocab),
      prompt_length_B=jnp.full((n,), length // 2, jnp.int32),
      length_B=jnp.full((n,), length, jnp.int32),
    )

  num_samplers = 2 if night.settings.on_policy else 1
  return {t.name: make(num_samplers * t.draws) for t in night.settings.teachers}


def _cases(shape):
  night, state, program = night_state(shape)
  s = night.settings
  rows = random_rollouts(night)
  tokens = s.max_length * sum(t.sequences for t in s.teachers)
  draws = sum(len(rollout.length_B) for rollout in rows.values())
  forward = shapes.forward_flops(
    program, s.max_length, head_share=s.max_new / s.max_length
  )
  sampled = draws * _sampling_flops(night, program)
  fresh = sum(x.size for x in jax.tree.leaves(state.night.fresh))

  def scoring(state, rows):
    return [
      night.states(night.teacher(state, t.teacher), rows[t.name])
      for t in s.teachers
    ]

  # Forward and backward pass of the student, and gradients of the expert.
  update = tokens * (2 * forward + 2 * fresh)
  reading = (
    draws
    * s.max_length
    * shapes.forward_flops(program, s.max_length, head_share=0)
  )
  return [
    timing.case(
      f'{shape}/round', night.seed, state, steps=s.updates_per_round,
      tokens=tokens * s.updates_per_round,
      flops=s.updates_per_round * update + sampled + reading,
    ),
    timing.case(
      f'{shape}/rehearsing', lambda state: night.sample_round(state, state.key),
      state, tokens=draws * s.max_new, flops=sampled + reading,
    ),
    timing.case(
      f'{shape}/scoring', scoring, state, rows, tokens=draws * s.max_length,
      flops=reading,
    ),
  ]  # fmt: skip


def _sampling_flops(night, program):
  """Returns the flops of a sequence: each token is processed once."""
  s = night.settings
  flops = lambda share: shapes.forward_flops(
    program, s.max_length, head_share=share
  )
  return s.prompt_width * flops(1 / s.prompt_width) + s.max_new * flops(1)


if __name__ == '__main__':
  timing.main('benchmarks.night', __doc__, measure)

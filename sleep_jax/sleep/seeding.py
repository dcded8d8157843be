"""Knowledge Seeding: distils rehearsals of teachers into trained parameters.

In each round the teachers write rehearsals, the student may write too, and a
scan of updates reduces the divergence of the student from its teachers. A
subclass of `Seeding` defines the teachers, the student and the prompts.

References: 2606.03979 v2 section 3.3 (Knowledge Seeding); teachers and
prompts: docs/method.md, "Whose knowledge".
"""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.objectives import chunked_losses, losses
from sleep_jax.optim import day_schedule, gradient_accumulation
from sleep_jax.sleep import (
  document_context,
  imitation,
  night_length,
  rehearsal,
)
from sleep_jax.sleep import priorities as priorities_lib
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
State = state_lib.State


@dataclasses.dataclass(frozen=True)
class Seeding(rehearsal.Rehearsal):
  """A sleep phase that learns from rehearsals."""

  def empty_night(
    self, state: State, fresh: dict[str, types.Params], **parts
  ) -> state_lib.Night:
    """Returns a night before its first update.

    Args:
      state: the learner.
      fresh: parameters to train, by level.
      **parts: the fields of `state.Night` that depend on the phase.
    """
    s = self.settings

    def allocate(teacher, num):
      documents = self.documents(state, teacher)
      return self.empty_rollouts(
        state.weights, num, teacher, documents=documents
      )

    return state_lib.Night(
      update=jnp.zeros((), jnp.int32), fresh=fresh, opt=self.tx.init(fresh),
      pools={
        t.name: allocate(t, s.rounds * t.draws) for t in s.teachers
      },
      rollouts={
        t.name: allocate(t, t.draws) for t in s.teachers if s.on_policy
      },
      priorities={t.name: jnp.ones((s.rounds * t.draws,)) for t in s.teachers},
      length=night_length.begin(s),
      **parts,
    )  # fmt: skip

  def seed(self, state: State) -> tuple[State, dict[str, Array]]:
    """Consolidate: runs one round of rehearsals and updates.

    Returns:
      The state and the metrics: per update `[U]` the loss and, for each
      teacher, its mean divergence from the student before that update; the
      numbers of tokens `written` and read in `forward` passes, see
      `Rehearsal.sample_round`; with imitation, `imitation`, the
      statistics of the student's completions in this round; and in an adaptive
      night `held_out`, the mean divergence on the new rehearsals before this
      round.
    """
    s, night = self.settings, state.night
    key = self.key(state, 1 + night.update)
    with jax.named_scope('rehearse'):
      pools, rollouts, counts = self.sample_round(state, key)
    num_rounds = night.update // s.updates_per_round + 1  # In the pools.
    on_policy = night.update >= s.on_policy_after * s.num_updates
    frozen = state.replace(night=None)  # The scan only reads it.
    length, more = night.length, {}
    if length is not None and s.adaptive is not None:
      with jax.named_scope('hold_out'):
        more['held_out'] = self._held_out(frozen, night, pools)
      length = night_length.observe(
        length, more['held_out'], night.update, s, s.adaptive
      )
    completions, imitation_metrics = None, {}
    if s.imitation.on:
      with jax.named_scope('imitate'):
        completions, imitation_metrics = self._sample_completions(
          state, pools, key
        )
      counts = {
        name: n + imitation_metrics.pop(name) for name, n in counts.items()
      }

    def update(carry, at):
      fresh, opt, priorities = carry
      index, own = at
      update_key = jax.random.fold_in(key, 1000 + index)
      rows, places = priorities_lib.choose_rows(
        pools, rollouts, priorities, update_key, s, num_rounds=num_rounds,
        on_policy=on_policy,
      )  # fmt: skip
      rows = {
        t.name: self.with_own_states(frozen, t, rows[t.name])
        for t in s.teachers
      }
      sizes = {
        t.name: _num_generated(rows[t.name], s.of_teacher(t).max_new)
        for t in s.teachers
      }
      (loss, (parts, distances)), grads = gradient_accumulation.value_and_grad(
        lambda fresh, some: self._loss(fresh, frozen, night, sizes, *some),
        fresh, (rows, own), num=s.micro_batches,
      )  # fmt: skip
      priorities = {
        name: known.at[places[name]].set(distances[name], mode='drop')
        for name, known in priorities.items()
      }
      if length is not None:
        share = night_length.decay_share(length, night.update + index)
        opt = day_schedule.set_share(opt, share)
      updates, opt = self.tx.update(grads, opt, fresh)
      fresh = optax.apply_updates(fresh, updates)
      return (fresh, opt, priorities), {'loss': loss, **parts}

    start = night.fresh, night.opt, priorities_lib.with_new_rollouts(night, s)
    with jax.named_scope('seed'):
      (fresh, opt, priorities), metrics = jax.lax.scan(
        update, start, (jnp.arange(s.updates_per_round), completions),
      )  # fmt: skip
    night = night.replace(
      update=night.update + s.updates_per_round, fresh=fresh, opt=opt,
      pools=pools, rollouts=rollouts, priorities=priorities, length=length,
    )  # fmt: skip
    if imitation_metrics:
      metrics['imitation'] = imitation_metrics
    return state.replace(night=night), metrics | more | counts

  def student_input(
    self, teacher: settings_lib.Teacher, rollout: types.Rollout
  ) -> types.Rollout:
    """Returns a teacher's sequences as the student reads them.

    The student has no document in front.
    """
    del teacher
    return rollout.replace(context=None, states_BGD=None, is_stored_B=None)

  def divergence(
    self,
    teacher: types.Weights,
    student: types.Weights,
    rollout: types.Rollout,
    student_BGD: Array,
  ) -> Array:
    """Returns the student's divergence from a teacher, nats, `[B, G]`.

    The tokens of a stored answer have their cross-entropy instead.

    Args:
      teacher, student: their weights, of which only the heads are used.
      rollout: the sequences, with the inputs of the teacher's head.
      student_BGD: the inputs of the student's head.
    """
    s = self.settings
    value_N = chunked_losses.divergence(
      _flatten(rollout.states_BGD), _flatten(student_BGD),
      self.model.head_factor(teacher), self.model.head_factor(student),
      beta=s.beta, tokens=s.block_tokens,
      vocab_block=s.block_vocab, cap=self.model.config.logit_cap,
      place=functools.partial(self.model.place, 'block'),
    )  # fmt: skip
    value_BG = value_N.reshape(student_BGD.shape[:2])
    if rollout.is_stored_B is None:
      return value_BG
    index_1G = jnp.arange(value_BG.shape[1])[None]
    at_BG = rollout.prompt_length_B[:, None] + index_1G
    token_BG = jnp.take_along_axis(
      rollout.tokens_BT, jnp.minimum(at_BG, rollout.tokens_BT.shape[1] - 1), 1
    )
    score_BG = chunked_losses.log_likelihood(
      student_BGD, token_BG, functools.partial(self.model.logits, student),
      tokens=s.block_tokens, place=functools.partial(self.model.place, 'block'),
    )  # fmt: skip
    return jnp.where(rollout.is_stored_B[:, None], -score_BG, value_BG)

  def _newest_rollouts(self, state, pools, teacher, num, *, states=False):
    """Returns the first `num` sequences that a teacher wrote this round."""
    first = state.night.update // self.settings.updates_per_round
    pool = pools[teacher.name]
    return jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first * teacher.draws, num),
      pool if states else pool.replace(states_BGD=None),
    )

  def _held_out(self, state, night, pools):
    """Returns the mean divergence on sequences that were written just now.

    Own texts are the same in every night, so they count only if there is
    nothing else.
    """
    teachers = self.settings.teachers
    rows = {
      t.name: self.with_own_states(state, t, self._newest_rollouts(
        state.replace(night=night), pools, t, min(t.sequences, t.draws),
        states=True,
      ))
      for t in teachers
    }  # fmt: skip
    sizes = {
      t.name: _num_generated(rows[t.name], self.settings.of_teacher(t).max_new)
      for t in teachers
    }
    _, (parts, _) = self._loss(night.fresh, state, night, sizes, rows, None)
    counted = [t for t in teachers if t.writes] or teachers
    return jnp.mean(jnp.stack([parts[t.name] for t in counted]))

  def _sample_completions(self, state, pools, key):
    """Samples the student's completions of the teachers' newest sequences."""
    s, m = self.settings, self.settings.imitation
    num = m.cuts * s.updates_per_round
    newest = [self._newest_rollouts(state, pools, t, num) for t in s.teachers]
    student = self.student(state)
    return imitation.sample_completions(
      newest,
      [self._model_functions(self.teacher(state, t.teacher))
       for t in s.teachers],
      self._model_functions(student),
      lambda prompts, key: self._sample(student, prompts, key),
      self.judge, jax.random.fold_in(key, 500), num_updates=s.updates_per_round,
      max_new=s.max_new, settings=m,
    )  # fmt: skip

  def _loss(self, fresh, state, night, sizes, rows, own):
    """Returns the loss of a micro-batch, `alpha GKD - (1 - alpha) E[reward]`.

    GKD is the mean divergence over the generated tokens of all rows.

    Args:
      fresh: the trained parameters.
      state: the learner, without `night`.
      night: the night, whose `fresh` is replaced.
      sizes: number of generated tokens of the whole batch, by teacher.
      rows: sequences of the micro-batch, by teacher.
      own: the student's completions and their advantages; None without
        imitation.

    Returns:
      The loss, and by teacher its mean divergence and, `[B]`, the mean
      divergence of each sequence.
    """
    s, parts, distances = self.settings, {}, {}
    total, count = jnp.zeros(()), jnp.zeros(())
    state = state.replace(night=night.replace(fresh=fresh))
    student = self.student(state)
    inputs = [self.student_input(t, rows[t.name]) for t in s.teachers]
    for teacher, student_BGD in zip(
      s.teachers, self._states_by_width(student, inputs), strict=True
    ):
      rollout = rows[teacher.name]
      value_BG = self.divergence(
        self.teacher(state, teacher.teacher), student, rollout, student_BGD
      )  # fmt: skip
      mask_BG = losses.generated_mask(rollout, s.of_teacher(teacher).max_new)
      part_B = jnp.sum(jnp.where(mask_BG, value_BG, 0), 1)
      distances[teacher.name] = part_B / jnp.maximum(jnp.sum(mask_BG, 1), 1)
      part, size = jnp.sum(part_B), sizes[teacher.name]
      parts[teacher.name] = part / jnp.maximum(size, 1)
      total, count = total + part, count + size
    loss, m = total / jnp.maximum(count, 1), s.imitation
    if own is not None:
      completions, advantage_B = own
      reward = imitation.reinforce_objective(
        self.model.logits(student, self.states(student, completions)),
        completions, advantage_B, temperature=s.temperature,
      )  # fmt: skip
      loss = m.alpha * loss - (1 - m.alpha) * reward / s.micro_batches
    return loss, (parts, distances)

  def _states_by_width(self, weights, rollouts):
    """Returns `states` of each teacher's rollout.

    Equal widths share a forward pass.
    """
    nums = [self.settings.of_teacher(t).max_new for t in self.settings.teachers]
    widths = [rollout.tokens_BT.shape[1] for rollout in rollouts]
    found: dict[int, Array] = {}
    for width in sorted(set(widths)):
      at = [i for i, own in enumerate(widths) if own == width]
      rows = [rollouts[i] for i in at]
      states_BGD = self.states(
        weights, jax.tree.map(lambda *x: jnp.concatenate(x), *rows),
        num=max(nums[i] for i in at),
        may_halve=all(self.settings.teachers[i].writes for i in at),
      )  # fmt: skip
      ends = list(itertools.accumulate(len(row.length_B) for row in rows))
      found |= dict(zip(at, jnp.split(states_BGD, ends[:-1]), strict=True))
    return [found[i][:, : nums[i]] for i in range(len(rollouts))]

  def _model_functions(self, weights):
    return imitation.ModelFunctions(
      lambda rollout, shift: self.states(
        weights, document_context.prepend_to_rollout(rollout), shift
      ),
      lambda states: self.model.logits(weights, states),
    )


def _flatten(x_BGD):
  return x_BGD.reshape(-1, x_BGD.shape[-1])


def _num_generated(rollout, max_new):
  return jnp.sum(losses.generated_mask(rollout, max_new))

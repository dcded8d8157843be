"""Knowledge Seeding: teachers' rehearsals, distilled into what may move.

Whoever inherits says who teaches, who learns and which prompts are whose; here
is how a round goes: teachers write, the student may write, and a scan of
updates brings the student nearer. Teachers and student share every array but
the few that differ: no second model exists.

References: 2606.03979 v2 section 3.3 (Knowledge Seeding); teachers and prompts:
docs/method.md, "Whose knowledge".
"""

import abc
import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import optax

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.model import transformer
from sleep_jax.objectives import chunked_losses, judges, losses
from sleep_jax.optim import gradient_accumulation
from sleep_jax.replay import prompts as prompts_lib
from sleep_jax.sleep import document_context, imitation, rehearsal
from sleep_jax.sleep import priorities as priorities_lib
from sleep_jax.sleep import settings as settings_lib

Array = types.Array
State = state_lib.State


@dataclasses.dataclass(frozen=True)
class Seeding(abc.ABC):
  """What the nights have in common.

  Attributes:
    model: with `states_at`, `head`, `logits`, `prefill`, `decode`, `fresh`.
    tx: the optimizer of what moves.
    stems: self-study templates.
    bos, eos: token ids.
    judge: of what the student says, for imitation.
    settings: see `night.Settings`.
  """

  model: transformer.Transformer
  tx: optax.GradientTransformation
  templates: types.PromptTemplates
  bos: int
  eos: int
  judge: judges.Judge
  settings: settings_lib.Settings

  @abc.abstractmethod
  def teacher(self, state: State, name: str) -> types.Weights:
    """The weights of a teacher."""

  @abc.abstractmethod
  def student(self, state: State) -> types.Weights:
    """The larger self, with what `state.night.fresh` holds."""

  @abc.abstractmethod
  def window(
    self, state: State, prompts: str
  ) -> tuple[tuple[str, ...], Array, Array]:
    """Bands that hold 'old' or 'day' prompts, and (since, until] of them."""

  @abc.abstractmethod
  def key(self, state: State, count: Array | int) -> Array:
    """A key of this night's own; `count` tells its uses apart."""

  def lay_out(
    self, state: State, fresh: dict[str, types.Params], **parts
  ) -> state_lib.Night:
    """An empty night that trains `fresh`."""
    s = self.settings

    def room(teacher, num):
      document = self.document(state, teacher)
      return self.room(state.weights, num, document=document)

    return state_lib.Night(
      update=jnp.zeros((), jnp.int32), fresh=fresh, opt=self.tx.init(fresh),
      pools={
        t.name: room(t, s.rounds * t.draws) for t in s.teachers
      },
      rollouts={t.name: room(t, t.draws) for t in s.teachers},
      priorities={t.name: jnp.ones((s.rounds * t.draws,)) for t in s.teachers},
      **parts,
    )  # fmt: skip

  def document(self, state: State, teacher: settings_lib.Teacher) -> int:
    """Tokens of the documents that a teacher has in front; 0: none."""
    for name in self.window(state, teacher.prompts)[0]:
      if teacher.reads and name in state.replay:
        return state.replay[name].documents.tokens_BT.shape[1]
    return 0

  def room(
    self, weights: types.Weights, num: int, *, document: int = 0
  ) -> types.Rollout:
    """Room for `num` sequences and for what the head of a teacher reads.

    Args:
      weights: of the shapes that a teacher has.
      document: tokens of the document in front, 0: none.
    """
    empty = rehearsal.empty_rollout(num, self.settings, document=document)
    read = jax.eval_shape(self._read, weights, empty)
    return empty.replace(states_BGD=jnp.zeros_like(read.states_BGD))

  def seed(self, state: State) -> tuple[State, dict[str, Array]]:
    """Consolidate: one round of rehearsals and updates.

    Returns:
      The state, and per update `[U]`: loss and, for each teacher, its mean
      divergence from the student before that update; plus tokens written
      and, with imitation, `imitation`: what the student earned this round.
    """
    s, night = self.settings, state.night
    key = self.key(state, 1 + night.update)
    with jax.named_scope('rehearse'):
      pools, rollouts, written = self._rehearse(state, key)
    valid = night.update // s.updates_per_round + 1  # Rounds in the pools.
    own = night.update >= s.on_policy_after * s.num_updates
    frozen = state.replace(night=None)  # What the loop may only read.
    endings, earned = None, {}
    if s.imitation.on:
      with jax.named_scope('imitate'):
        endings, earned = self._imitate(state, pools, key)
      written += earned.pop('written')

    def update(carry, at):
      fresh, opt, priorities = carry
      index, mine = at
      update_key = jax.random.fold_in(key, 1000 + index)
      rows, places = priorities_lib.choose(
        pools, rollouts, priorities, update_key, s, valid=valid, own=own
      )
      sizes = {name: _size(row, s.max_new) for name, row in rows.items()}
      (loss, (parts, away)), grads = gradient_accumulation.value_and_grad(
        lambda fresh, some: self._loss(fresh, frozen, night, sizes, *some),
        fresh, (rows, mine), num=s.micro_batches,
      )  # fmt: skip
      priorities = {
        name: known.at[places[name]].set(away[name], mode='drop')
        for name, known in priorities.items()
      }
      updates, opt = self.tx.update(grads, opt, fresh)
      fresh = optax.apply_updates(fresh, updates)
      return (fresh, opt, priorities), {'loss': loss, **parts}

    fresh = night.fresh
    if self.model.config.router == 'centroid' and s.into == settings_lib.EXPERT:
      fresh = self.centred(state, pools)
    with jax.named_scope('seed'):
      (fresh, opt, priorities), metrics = jax.lax.scan(
        update, (fresh, night.opt, priorities_lib.welcomed(night, s)),
        (jnp.arange(s.updates_per_round), endings),
      )  # fmt: skip
    night = night.replace(
      update=night.update + s.updates_per_round, fresh=fresh, opt=opt,
      pools=pools, rollouts=rollouts, priorities=priorities,
    )  # fmt: skip
    if earned:
      metrics['imitation'] = earned
    return state.replace(night=night), metrics | {'written': written}

  def written(
    self, state: State, teacher: settings_lib.Teacher, key: Array
  ) -> types.Rollout:
    """What a teacher writes on newly drawn prompts, `[draws, T]`, and reads."""
    return self.rehearsal(state, teacher, *jax.random.split(key))[1]

  def rehearsal(
    self,
    state: State,
    teacher: settings_lib.Teacher,
    draw_key: Array,
    write_key: Array,
  ) -> tuple[types.Prompts, types.Rollout]:
    """Newly drawn prompts, and what a teacher writes on them and reads."""
    prompts = self._prompts(state, teacher, draw_key)
    weights = self.teacher(state, teacher.teacher)
    new = self._sample(weights, prompts, write_key)
    return prompts, self._read(weights, new)

  def seen(
    self, teacher: settings_lib.Teacher, rollout: types.Rollout
  ) -> types.Rollout:
    """A teacher's sequence as the student has it: without the document."""
    del teacher
    return rollout.replace(context=None, states_BGD=None)

  def divergence(
    self,
    teacher: types.Weights,
    student: types.Weights,
    teacher_BGD: Array,
    student_BGD: Array,
  ) -> Array:
    """Of the student from a teacher, `[B, G]`, by what their heads read."""
    s = self.settings
    value_N = chunked_losses.divergence(
      _flat(teacher_BGD), _flat(student_BGD), self.model.head(teacher),
      self.model.head(student), beta=s.beta, tokens=s.block_tokens,
      vocab_block=s.block_vocab, cap=self.model.config.logit_cap,
      place=functools.partial(self.model.place, 'block'),
    )  # fmt: skip
    return value_N.reshape(student_BGD.shape[:2])

  def _rehearse(self, state, key):
    """Lets each teacher, and the student, write on newly drawn prompts."""
    s, night = self.settings, state.night
    pools, rollouts, written = {}, {}, 0
    first = night.update // s.updates_per_round
    for number, teacher in enumerate(s.teachers):
      draw_key, teacher_key, student_key = jax.random.split(
        jax.random.fold_in(key, number), 3
      )
      prompts, new = self.rehearsal(state, teacher, draw_key, teacher_key)
      written += _generated(new)
      pools[teacher.name] = jax.tree.map(
        lambda old, rows, n=teacher.draws: jax.lax.dynamic_update_slice_in_dim(
          old, rows, first * n, 0
        ),
        night.pools[teacher.name],
        new,
      )
      own = night.rollouts[teacher.name]
      if s.on_policy:

        def by_student(prompts=prompts, teacher=teacher, key=student_key):
          alone = prompts.replace(context=None)
          mine = self._sample(self.student(state), alone, key)
          weights = self.teacher(state, teacher.teacher)
          return self._read(weights, mine.replace(context=prompts.context))

        own = jax.lax.cond(
          night.update >= s.on_policy_after * s.num_updates,
          by_student,
          lambda own=own: own,
        )
        written += _generated(own)
      rollouts[teacher.name] = own
    return pools, rollouts, written

  def _prompts(self, state, teacher, key):
    age_groups, since, until = self.window(state, teacher.prompts)
    prompts = prompts_lib.draw(
      state.replay,
      self.templates,
      key,
      num=teacher.draws,
      width=self.settings.prompt_width,
      bos=self.bos,
      age_groups=age_groups,
      since=since,
      until=until,
      bos_share=teacher.bos_share,
      pretrain_share=teacher.pretrain_share,
      splice_share=teacher.splice_share,
      cut_share=teacher.cut_share,
      template_share=teacher.template_share,
    )
    return prompts if teacher.reads else prompts.replace(context=None)

  def _sample(self, weights, prompts, key):
    """What is written on prompts, behind their documents if they have any."""
    return document_context.write(
      self.model, weights, prompts, key, settings=self.settings, eos=self.eos,
      temperature=self.settings.temperature,
    )  # fmt: skip

  def _read(self, weights, rollout):
    """With what a teacher's head reads; an update reads the student alone."""
    return rollout.replace(
      states_BGD=self.states(weights, document_context.read(rollout))
    )

  def centred(self, state: State, pools: dict) -> dict[str, types.Params]:
    """The fresh expert with its centroid: the mean of its inputs so far.

    Its inputs are those of the day, or where nobody writes about it, of all.
    """
    s, night = self.settings, state.night
    first = night.update // s.updates_per_round
    days = [t for t in s.teachers if t.prompts == 'day'] or s.teachers
    ((level, expert),) = night.fresh.items()
    total, count = jnp.zeros(()), jnp.zeros(())
    for teacher in days:
      new = self._newest(state, pools, teacher, teacher.draws)
      rows = transformer.rows(new.tokens_BT, new.length_B)
      x_LBTD = self.model.inputs(self.student(state), *rows, int(level))
      valid_BT = rows[1] > 0
      total += jnp.einsum('lbtd,bt->ld', x_LBTD, valid_BT.astype(x_LBTD.dtype))
      count += jnp.sum(valid_BT)
    mean_LD = total / jnp.maximum(count, 1)
    centre_LD = jnp.where(first > 0, expert['router'], mean_LD)
    centre_LD += (mean_LD - centre_LD) / (first + 1)
    return {level: {**expert, 'router': centre_LD}}

  def _newest(self, state, pools, teacher, num):
    """The first `num` sequences that a teacher wrote this round."""
    first = state.night.update // self.settings.updates_per_round
    return jax.tree.map(
      lambda x: jax.lax.dynamic_slice_in_dim(x, first * teacher.draws, num),
      pools[teacher.name].replace(states_BGD=None),
    )

  def _imitate(self, state, pools, key):
    """The student's endings of what each teacher has just written."""
    s, m = self.settings, self.settings.imitation
    num = m.cuts * s.updates_per_round
    newest = [self._newest(state, pools, t, num) for t in s.teachers]
    student = self.student(state)
    return imitation.endings(
      newest,
      [self._reader(self.teacher(state, t.teacher)) for t in s.teachers],
      self._reader(student),
      lambda prompts, key: self._sample(student, prompts, key),
      self.judge, jax.random.fold_in(key, 500), updates=s.updates_per_round,
      max_new=s.max_new, settings=m,
    )  # fmt: skip

  def _loss(self, fresh, state, night, sizes, rows, mine):
    """GKD, the mean divergence over generated tokens of all rows; and reward.

    Minimises `alpha GKD - (1 - alpha) E[reward]`. Of a micro-batch, its part.

    Args:
      sizes: generated tokens of all rows, by teacher.
    """
    s, parts, away = self.settings, {}, {}
    total, count = jnp.zeros(()), jnp.zeros(())
    state = state.replace(night=night.replace(fresh=fresh))
    student = self.student(state)
    seen = [self.seen(t, rows[t.name]) for t in s.teachers]
    for teacher, student_BGD in zip(
      s.teachers, self._together(student, seen), strict=True
    ):
      rollout = rows[teacher.name]
      value_BG = self.divergence(
        self.teacher(state, teacher.teacher), student, rollout.states_BGD,
        student_BGD,
      )  # fmt: skip
      mask_BG = losses.generated(rollout, s.max_new)
      part_B = jnp.sum(jnp.where(mask_BG, value_BG, 0), 1)
      away[teacher.name] = part_B / jnp.maximum(jnp.sum(mask_BG, 1), 1)
      part, size = jnp.sum(part_B), sizes[teacher.name]
      parts[teacher.name] = part / jnp.maximum(size, 1)
      total, count = total + part, count + size
    loss, m = total / jnp.maximum(count, 1), s.imitation
    if mine is not None:
      own, advantage_B = mine
      gained = imitation.gained(
        self.model.logits(student, self.states(student, own)), own,
        advantage_B, temperature=s.temperature,
      )  # fmt: skip
      loss = m.alpha * loss - (1 - m.alpha) * gained / s.micro_batches
    return loss, (parts, away)

  def _together(self, weights, rollouts):
    """`states` of several; those of one width are read at once."""
    widths = [rollout.tokens_BT.shape[1] for rollout in rollouts]
    found: dict[int, Array] = {}
    for width in sorted(set(widths)):
      at = [i for i, own in enumerate(widths) if own == width]
      rows = [rollouts[i] for i in at]
      states_BGD = self.states(
        weights, jax.tree.map(lambda *x: jnp.concatenate(x), *rows)
      )
      ends = list(itertools.accumulate(len(row.length_B) for row in rows))
      found |= dict(zip(at, jnp.split(states_BGD, ends[:-1]), strict=True))
    return [found[i] for i in range(len(rollouts))]

  def _reader(self, weights):
    return imitation.Reader(
      lambda rollout, shift: self.states(
        weights, document_context.read(rollout), shift
      ),
      lambda states: self.model.logits(weights, states),
    )

  def states(
    self, weights: types.Weights, rollout: types.Rollout, shift: int = -1
  ) -> Array:
    """What the head reads at (-1: before) the generated tokens: [B, G, D]."""
    tokens, segments, positions = transformer.rows(
      rollout.tokens_BT, rollout.length_B
    )
    first_B1 = rollout.prompt_length_B[:, None] + shift
    at_BG = first_B1 + jnp.arange(self.settings.max_new)[None]
    at_BG = jnp.clip(at_BG, 0, tokens.shape[1] - 1)
    return self.model.states_at(weights, tokens, segments, positions, at_BG)


def _flat(x_BGD):
  return x_BGD.reshape(-1, x_BGD.shape[-1])


def _size(rollout, max_new):
  return jnp.sum(losses.generated(rollout, max_new))


def _generated(rollout):
  return jnp.sum(rollout.length_B - rollout.prompt_length_B)

"""Consolidation: a level's day becomes one more expert of the next level.

Three programs make a night. `fall_asleep` computes the sender's due update
without applying it and draws a fresh expert; `seed`, called again and again,
lets the teachers write rehearsals and distils them into that expert alone;
`wake_up` commits all of it or nothing. Teachers and student share every array
but the sender's base and the fresh expert: no second model exists.

References: 2606.03979 v2 section 3.3 (compute - consolidate - update, Knowledge
Seeding); teachers and prompts: docs/method.md, "Whose knowledge".
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from sleep_jax import optimizer, types
from sleep_jax import state as state_lib
from sleep_jax.model import experts, sampling, transformer
from sleep_jax.objectives import blocked, judges, losses
from sleep_jax.phases import imitate, replay, wake
from sleep_jax.phases import night as night_lib

Array = types.Array
State = state_lib.State
_PRUNE = 2**31 - 1  # Apart from every update number.


@dataclasses.dataclass(frozen=True)
class Consolidation:
  """The three programs of one sender's night.

  Attributes:
    model: with `states_at`, `head`, `prefill`, `decode`, `fresh`.
    sender: level that sleeps, 1 = fastest; the receiver is the next one.
    wake_tx: the sender's optimizer awake.
    tx: the fresh expert's optimizer.
    stems: self-study templates.
    bos, eos: token ids.
    judge: of what the student says, for imitation.
    settings: see `night.Settings`.
  """

  model: transformer.Transformer
  sender: int
  wake_tx: optax.GradientTransformation
  tx: optax.GradientTransformation
  stems: types.Stems
  bos: int
  eos: int
  judge: judges.Judge
  settings: night_lib.Settings

  @property
  def receiver(self) -> int:
    return self.sender + 1

  def fall_asleep(self, state: State) -> State:
    """Compute: proposes the due update and lays out an empty night."""
    name = str(self.sender)
    base = self._base(state.weights.params)
    sender_next, opt_next = wake.update(
      self.wake_tx, base, state.opt[name], state.sums[name]
    )
    fresh = self.model.fresh(self._key(state, 0), self.receiver)
    s = self.settings
    pools = {t.name: night_lib.blank(s.rounds * t.draws, s) for t in s.teachers}
    rollouts = {t.name: night_lib.blank(t.draws, s) for t in s.teachers}
    return state.replace(
      night=state_lib.Night(
        update=jnp.zeros((), jnp.int32), sender_next=sender_next,
        opt_next=opt_next, fresh=fresh, opt=self.tx.init(fresh), pools=pools,
        rollouts=rollouts,
      )
    )  # fmt: skip

  def teacher(self, state: State, name: str) -> types.Weights:
    """The weights of a teacher; only the sender's base is its own."""
    if name == 'anchor':
      weights = state.weights.with_params(state.anchor[str(self.sender)])
      return self._experts_off(weights)
    if name == 'next':
      return state.weights.with_params(state.night.sender_next)
    return state.weights

  def student(self, state: State) -> types.Weights:
    """The larger self: sender as after the night, plus the fresh expert."""
    if self.settings.sender_after_sleep == night_lib.CLEARED:
      base = state.anchor[str(self.sender)]
    else:
      base = state.night.sender_next
    weights = self._experts_off(state.weights.with_params(base))
    return weights.replace(fresh=state.night.fresh)

  def seed(self, state: State) -> tuple[State, dict[str, Array]]:
    """Consolidate: one round of rehearsals and updates.

    Returns:
      The state, and per update `[U]`: loss and, for each teacher, its mean
      divergence from the student before that update; plus tokens written
      and, with imitation, `imitation`: what the student earned this round.
    """
    s, night = self.settings, state.night
    key = self._key(state, 1 + night.update)
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
      fresh, opt = carry
      index, mine = at
      update_key = jax.random.fold_in(key, 1000 + index)
      rows = self._choose(pools, rollouts, update_key, valid, own)
      (loss, parts), grads = jax.value_and_grad(self._loss, has_aux=True)(
        fresh, frozen, night, rows, mine
      )
      updates, opt = self.tx.update(grads, opt, fresh)
      fresh = optax.apply_updates(fresh, updates)
      return (fresh, opt), {'loss': loss, **parts}

    with jax.named_scope('seed'):
      (fresh, opt), metrics = jax.lax.scan(
        update, (night.fresh, night.opt),
        (jnp.arange(s.updates_per_round), endings),
      )  # fmt: skip
    night = night.replace(
      update=night.update + s.updates_per_round, fresh=fresh, opt=opt,
      pools=pools, rollouts=rollouts,
    )  # fmt: skip
    if earned:
      metrics['imitation'] = earned
    return state.replace(night=night), metrics | {'written': written}

  def written(
    self, state: State, teacher: night_lib.Teacher, key: Array
  ) -> types.Rollout:
    """What a teacher writes on newly drawn prompts, `[draws, T]`."""
    draw_key, teacher_key = jax.random.split(key)
    prompts = self._prompts(state, teacher, draw_key)
    weights = self.teacher(state, teacher.teacher)
    return self._sample(weights, prompts, teacher_key)

  def divergence(
    self,
    teacher: types.Weights,
    student: types.Weights,
    teacher_BGD: Array,
    student_BGD: Array,
  ) -> Array:
    """Of the student from a teacher, `[B, G]`, by what their heads read."""
    s = self.settings
    value_N = blocked.divergence(
      _flat(teacher_BGD), _flat(student_BGD), self.model.head(teacher),
      self.model.head(student), beta=s.beta, tokens=s.block_tokens,
      words=s.block_words,
    )  # fmt: skip
    return value_N.reshape(student_BGD.shape[:2])

  def wake_up(self, state: State, accept: Array, guard: Array) -> State:
    """Update: commits the whole night, or only the sender's due update.

    Args:
      accept: bool scalar; False discards the night.
      guard: f32 scalar, the guard's score to be remembered if accepted.
    """
    committed, discarded = self._commit(state, guard), self._discard(state)
    return jax.tree.map(
      lambda yes, no: _where(accept, yes, no), committed, discarded
    )

  def committed(self, state: State) -> types.Weights:
    """What would wake up: its expert in the bank and under its selection."""
    return self._commit(state, jnp.zeros(())).weights

  def _commit(self, state, guard):
    s, r, name = self.sender, self.receiver, str(self.sender)
    night = state.night
    cleared = self.settings.sender_after_sleep == night_lib.CLEARED
    base = state.anchor[name] if cleared else night.sender_next
    opt = self.wake_tx.init(base) if cleared else night.opt_next
    active_E = state.weights.active_NE[r - 1]
    slots = self.model.config.levels[r - 1].slots
    slot = jnp.argmin(active_E[:slots])
    params = dict(base)
    for leaf_name, leaf in night.fresh[str(r)].items():
      path = f'blocks/levels/{r}/experts/{leaf_name}'
      params[path] = state.weights.params[path].at[:, slot].set(leaf)
    params |= self._redrawn(state)
    active_NE = state.weights.active_NE.at[r - 1, slot].set(1).at[s - 1].set(0)
    bands = dict(state.replay)
    if replay.day(s) in bands:
      band = bands[replay.day(s)]
      bands[replay.day(s)] = band.replace(count=jnp.zeros_like(band.count))
    return self._rested(state).replace(
      weights=state.weights.with_params(params).replace(active_NE=active_NE),
      opt=state.opt | {name: opt},
      anchor=state.anchor | {name: base},
      woke_N=state.woke_N.at[s - 1].set(state.step),
      guard_N=state.guard_N.at[s - 1].set(guard),
      replay=bands,
    )

  def _discard(self, state):
    night = state.night
    return self._rested(state).replace(
      weights=state.weights.with_params(night.sender_next),
      opt=state.opt | {str(self.sender): night.opt_next},
    )

  def _rested(self, state):
    name = str(self.sender)
    zero = jax.tree.map(jnp.zeros_like, state.sums[name])
    return state.replace(sums=state.sums | {name: zero}, night=None)

  def _redrawn(self, state):
    """The sender's bank as new: synaptic pruning."""
    c, level = self.model.config, self.model.config.levels[self.sender - 1]
    if not level.slots:
      return {}
    keys = jax.random.split(
      self._key(state, _PRUNE), (c.num_layers, level.slots)
    )
    draw = lambda k: experts.init(k, c.width, level.rank, gate_bias=c.gate_bias)
    bank = jax.vmap(jax.vmap(draw))(keys)
    prefix = f'blocks/levels/{self.sender}/experts/'
    return {prefix + name: leaf for name, leaf in bank.items()}

  def _rehearse(self, state, key):
    """Lets each teacher, and the student, write on newly drawn prompts."""
    s, night = self.settings, state.night
    pools, rollouts, written = {}, {}, 0
    first = night.update // s.updates_per_round
    for number, teacher in enumerate(s.teachers):
      draw_key, teacher_key, student_key = jax.random.split(
        jax.random.fold_in(key, number), 3
      )
      prompts = self._prompts(state, teacher, draw_key)
      weights = self.teacher(state, teacher.teacher)
      new = self._sample(weights, prompts, teacher_key)
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
        own = jax.lax.cond(
          night.update >= s.on_policy_after * s.num_updates,
          lambda p=prompts, k=student_key: self._sample(
            self.student(state), p, k
          ),
          lambda own=own: own,
        )
        written += _generated(own)
      rollouts[teacher.name] = own
    return pools, rollouts, written

  def _prompts(self, state, teacher, key):
    s, woke = self.settings, state.woke_N[self.sender - 1]
    old = teacher.prompts == 'old'
    return replay.draw(
      state.replay,
      self.stems,
      key,
      num=teacher.draws,
      width=s.prompt_width,
      bos=self.bos,
      bands=(replay.BIRTH, replay.PAST) if old else (replay.day(self.sender),),
      since=jnp.int32(-1) if old else woke,
      until=woke if old else state.step,
      bos_share=teacher.bos_share,
      splice_share=teacher.splice_share,
      cut_share=teacher.cut_share,
      stem_share=teacher.stem_share,
    )

  def _sample(self, weights, prompts, key):
    s = self.settings
    return sampling.sample(
      self.model, weights, prompts, key, max_length=s.max_length,
      max_new=s.max_new, eos=self.eos, temperature=s.temperature,
    )  # fmt: skip

  def _choose(self, pools, rollouts, key, valid, own):
    """Rows of one update: each teacher's, some of them by the student."""
    rows = {}
    for number, teacher in enumerate(self.settings.teachers):
      keys = jax.random.split(jax.random.fold_in(key, number))
      n = teacher.sequences
      theirs_B = jax.random.randint(keys[0], (n,), 0, valid * teacher.draws)
      chosen = jax.tree.map(lambda x, i=theirs_B: x[i], pools[teacher.name])
      num_own = round(n * self.settings.on_policy)
      if num_own:
        mine_B = jax.random.randint(keys[1], (n,), 0, teacher.draws)
        swap_B = own & (jnp.arange(n) < num_own)
        chosen = jax.tree.map(
          lambda x, y, i=mine_B, b=swap_B: _where(b, y[i], x),
          chosen,
          rollouts[teacher.name],
        )
      rows[teacher.name] = chosen
    return rows

  def _imitate(self, state, pools, key):
    """The student's endings of what each teacher has just written."""
    s, m = self.settings, self.settings.imitation
    first = state.night.update // s.updates_per_round
    newest = [
      jax.tree.map(
        lambda x, n=teacher.draws: jax.lax.dynamic_slice_in_dim(
          x, first * n, m.cuts * s.updates_per_round
        ),
        pools[teacher.name],
      )
      for teacher in s.teachers
    ]
    student = self.student(state)
    return imitate.endings(
      newest,
      [self._reader(self.teacher(state, t.teacher)) for t in s.teachers],
      self._reader(student),
      lambda prompts, key: self._sample(student, prompts, key),
      self.judge, jax.random.fold_in(key, 500), updates=s.updates_per_round,
      max_new=s.max_new, settings=m,
    )  # fmt: skip

  def _loss(self, fresh, state, night, rows, mine):
    """GKD, the mean divergence over generated tokens of all rows; and reward.

    Minimises `alpha GKD - (1 - alpha) E[reward]`.
    """
    s, parts, total, count = self.settings, {}, jnp.zeros(()), jnp.zeros(())
    everything = jax.tree.map(lambda *x: jnp.concatenate(x), *rows.values())
    state = state.replace(night=night.replace(fresh=fresh))
    student = self.student(state)
    student_BGD, start = self.states(student, everything), 0
    for teacher in s.teachers:
      rollout, stop = rows[teacher.name], start + teacher.sequences
      weights = self.teacher(state, teacher.teacher)
      teacher_BGD = self.states(weights, rollout)
      value_BG = self.divergence(
        weights, student, teacher_BGD, student_BGD[start:stop]
      )
      mask_BG = losses.generated(rollout, s.max_new)
      part = jnp.sum(jnp.where(mask_BG, value_BG, 0))
      size = jnp.sum(mask_BG)
      parts[teacher.name] = part / jnp.maximum(size, 1)
      total, count, start = total + part, count + size, stop
    loss, m = total / jnp.maximum(count, 1), s.imitation
    if mine is not None:
      own, advantage_B = mine
      gained = imitate.gained(
        self.states(student, own), self.model.head(student), own, advantage_B,
        temperature=s.temperature,
      )  # fmt: skip
      loss = m.alpha * loss - (1 - m.alpha) * gained
    return loss, parts

  def _reader(self, weights):
    return imitate.Reader(
      lambda rollout, shift: self.states(weights, rollout, shift),
      self.model.head(weights),
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
    at_BG = jnp.clip(at_BG, 0, self.settings.max_length - 1)
    return self.model.states_at(weights, tokens, segments, positions, at_BG)

  def _base(self, params):
    return optimizer.owned(
      params, (str(self.sender),), num_levels=self.model.config.num_levels
    )

  def _experts_off(self, weights):
    active_NE = weights.active_NE.at[self.sender - 1].set(0)
    return weights.replace(active_NE=active_NE)

  def _key(self, state, count):
    key = jax.random.fold_in(state.key, state.step)
    return jax.random.fold_in(jax.random.fold_in(key, self.sender), count)


def _flat(x_BGD):
  return x_BGD.reshape(-1, x_BGD.shape[-1])


def _generated(rollout):
  return jnp.sum(rollout.length_B - rollout.prompt_length_B)


def _where(condition, yes, no):
  """Select that also takes typed keys and a condition per row."""
  if jnp.issubdtype(yes.dtype, jax.dtypes.prng_key):
    return yes
  extra = yes.ndim - jnp.ndim(condition)
  return jnp.where(jnp.reshape(condition, (*condition.shape, *[1] * extra)),
                   yes, no)  # fmt: skip

"""TODO: replay.prompts (from phases.replay)."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sleep_jax import state, types


def draw(
  replay: Mapping[str, state.AgeGroup],
  templates: types.PromptTemplates,
  key: types.Array,
  *,
  num: int,
  width: int,
  bos: int,
  age_groups: tuple[str, ...],
  since: types.Array,
  until: types.Array,
  bos_share: float,
  pretrain_share: float,
  splice_share: float,
  cut_share: float,
  template_share: float,
) -> types.Prompts:
  """Prompts for one teacher.

  Args:
    replay: all bands.
    stems: self-study templates; none where S = 0.
    key: consumed.
    num: B.
    width: of the result; longer entries are not drawn, and a stem that does
      not fit is asked as a prompt.
    bands: names of the bands to draw from.
    since, until: an entry's step must lie in (since, until]; birth is 0.
    bos_share: share of bare BOS prompts; all of them when no entry is valid.
    pretrain_share: share of stored prompts that are of birth, where there are
      others; negative: as many as there are.
    splice_share: share of stored prompts whose last tokens, a random number
      of them after the subject, are those of another one.
    cut_share: share of stored prompts that are cut at a random place, after
      the subject where there is one.
    template_share: share of stored prompts with a subject that become stems.

  Returns:
    Prompts `[num, width]`, each with its document where the band has them.
  """
  place = jnp.arange(width)[None]
  bare_BP = jnp.where(place == 0, bos, jnp.zeros((num, 1), jnp.int32))
  one_B = jnp.ones((num,), jnp.int32)
  nothing_B2 = jnp.zeros((num, 2), jnp.int32)
  kept = [replay[name] for name in age_groups if name in replay]
  if not kept:
    return types.Prompts(bare_BP, one_B, nothing_B2)
  age_group = jax.tree.map(lambda *x: jnp.concatenate(x), *[
    b.replace(count=jnp.arange(b.length_C.shape[0]) < b.count) for b in kept
  ])  # fmt: skip
  valid_C = (
    age_group.count & (age_group.step_C > since) & (age_group.step_C <= until)
  )
  # Cut to size, a long prompt would ask for the rest of itself instead.
  valid_C &= age_group.length_C <= width
  keys = jax.random.split(key, 9)
  score_C = jnp.where(
    valid_C, _weighed(valid_C, age_group, pretrain_share), -jnp.inf
  )
  score_C = jnp.where(jnp.any(valid_C), score_C, 0.0)
  pick_B = jax.random.categorical(keys[0], score_C, shape=(num,))
  tokens_BP, length_B, subject_B2 = (
    _widen(age_group.tokens_CP[pick_B], width), age_group.length_C[pick_B],
    age_group.subject_C2[pick_B],
  )  # fmt: skip
  coin = lambda key, share: jax.random.uniform(key, (num,)) < share
  other_B = jax.random.categorical(keys[6], score_C, shape=(num,))
  spliced_BP = _splice(
    tokens_BP,
    length_B,
    subject_B2,
    _widen(age_group.tokens_CP[other_B], width),
    age_group.length_C[other_B],
    keys[7],
  )
  tokens_BP = jnp.where(
    coin(keys[8], splice_share)[:, None], spliced_BP, tokens_BP
  )
  # A cut keeps the subject: half a name asks about somebody else.
  shortest_B = jnp.clip(subject_B2[:, 1], 1, length_B)
  cut_B = jax.random.randint(keys[1], (num,), shortest_B, length_B + 1)
  length_B = jnp.where(coin(keys[2], cut_share), cut_B, length_B)
  if templates.before_length_S.shape[0]:
    template_B = jax.random.randint(
      keys[3], (num,), 0, templates.before_length_S.shape[0]
    )
    asked_BP, asked_B, fits_B = ask(
      tokens_BP, subject_B2, templates, template_B, width=width, bos=bos
    )
    ask_B = coin(keys[4], template_share) & fits_B
    tokens_BP = jnp.where(ask_B[:, None], asked_BP, tokens_BP)
    length_B = jnp.where(ask_B, asked_B, length_B)
  bare_B = coin(keys[5], bos_share) | ~jnp.any(valid_C)
  context = jax.tree.map(lambda x: x[pick_B], age_group.documents)
  if context is not None:  # Nothing was met: nothing is read.
    known_B = jnp.where(jnp.any(valid_C), context.length_B, 1)
    context = types.Texts(context.tokens_BT.at[:, 0].set(bos), known_B)
  return types.Prompts(
    tokens_BP=jnp.where(bare_B[:, None], bare_BP, tokens_BP),
    length_B=jnp.where(bare_B, one_B, length_B),
    subject_B2=nothing_B2,
    context=context,
  )


def _weighed(valid_C, age_group, pretrain_share):
  """Log-weights that give birth its share."""
  pretrain_C = valid_C & (age_group.step_C == 0)
  born, later = jnp.sum(pretrain_C), jnp.sum(valid_C & ~pretrain_C)
  if pretrain_share < 0:
    return jnp.zeros(valid_C.shape)
  share_C = jnp.where(pretrain_C, pretrain_share, 1 - pretrain_share)
  log_C = jnp.log(share_C / jnp.maximum(jnp.where(pretrain_C, born, later), 1))
  return jnp.where((born > 0) & (later > 0), log_C, 0.0)


def _splice(tokens_BP, length_B, subject_B2, other_BP, other_B, key):
  """Each row with as many of another's last tokens in the place of its own.

  So the length stays, and what ends every prompt of a kind is kept.
  """
  longest_B = length_B - jnp.maximum(subject_B2[:, 1], 1)
  longest_B = jnp.minimum(longest_B, other_B - 1)
  last_B = jax.random.randint(key, length_B.shape, 0, longest_B + 1)
  place = jnp.arange(tokens_BP.shape[1])[None]
  from_B1 = (length_B - last_B)[:, None]
  at_BP = jnp.maximum(place + (other_B - length_B)[:, None], 0)
  theirs_BP = jnp.take_along_axis(
    other_BP, jnp.minimum(at_BP, other_BP.shape[1] - 1), 1
  )
  return jnp.where(place < from_B1, tokens_BP, theirs_BP)


def ask(
  tokens_BP: types.Array,
  subject_B2: types.Array,
  templates: types.PromptTemplates,
  template_B: types.Array,
  *,
  width: int,
  bos: int,
) -> tuple[types.Array, types.Array, types.Array]:
  """Fills the slot of each row's stem with its subject.

  Returns:
    tokens `[B, width]`, their number, and whether a row has a subject and its
    question fits.
  """
  num = tokens_BP.shape[0]
  take = lambda x: jnp.take(x, template_B, 0)
  before_B, after_B = (
    take(templates.before_length_S),
    take(templates.after_length_S),
  )
  start_B, stop_B = subject_B2[:, 0], subject_B2[:, 1]
  size_B = stop_B - start_B
  place = jnp.arange(width)[None] - 1  # Of a token after BOS.
  ends = jnp.stack([before_B, before_B + size_B, before_B + size_B + after_B])

  def at(rows_BP, index):
    index = jnp.clip(index, 0, rows_BP.shape[1] - 1)
    return jnp.take_along_axis(rows_BP, index, 1)

  first = at(take(templates.before_SP), jnp.broadcast_to(place, (num, width)))
  second = at(tokens_BP, place - ends[0][:, None] + start_B[:, None])
  third = at(take(templates.after_SP), place - ends[1][:, None])
  tokens = jnp.where(place < ends[1][:, None], second, third)
  tokens = jnp.where(place < ends[0][:, None], first, tokens)
  tokens = jnp.where(place < 0, bos, tokens)
  return tokens, 1 + ends[2], (size_B > 0) & (1 + ends[2] <= width)


def _widen(rows_BP, width):
  extra = max(width - rows_BP.shape[1], 0)
  return jnp.pad(rows_BP, ((0, 0), (0, extra)))[:, :width]

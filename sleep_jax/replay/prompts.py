"""Draws rehearsal prompts for a teacher from the replay buffer.

A stored prompt may be cut, may end in the last tokens of another prompt (a
splice), or may be replaced by a self-study template that is filled with its
subject. Where nothing is stored, the prompt is BOS alone.

References: 2606.03979 section 3.3; self-study templates, 2506.06266.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from sleep_jax import state, types
from sleep_jax.replay import answers as answers_lib
from sleep_jax.replay import equality, even_draws


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
  repeated_in: str = '',
) -> types.Prompts:
  """Draws prompts for one teacher.

  Args:
    replay: all age groups by name.
    templates: self-study templates. S = 0 means none.
    key: consumed.
    num: number of prompts, B. With equal weights each entry is drawn once
      before one is drawn again, see `even_draws`.
    width: width of the result. Longer entries are not drawn, and a filled
      template that is longer is replaced by the prompt itself.
    bos: start token.
    age_groups: names of the age groups to draw from.
    since, until: only entries whose step is in (since, until] are drawn. The
      step of pretraining is 0.
    bos_share: share of prompts that are BOS alone. All of them are if no entry
      can be drawn.
    pretrain_share: share of pretraining among the stored prompts that are
      drawn, if there are others. With a negative value all entries have the
      same weight.
    splice_share: share of stored prompts whose last tokens are replaced by the
      last tokens of another prompt. Their number is random, and the subject is
      kept.
    cut_share: share of stored prompts that are cut at a random position after
      the subject.
    template_share: share of stored prompts with a subject that are replaced by
      a template.
    repeated_in: name of an age group; prompts that it repeats are not drawn
      from the others, see `repeated`. '' for none.

  Returns:
    Prompts `[num, width]`, with their documents and answers if the groups store
    them. What follows a prompt that is spliced, filled into a template, or
    BOS alone is not known.
  """
  index = jnp.arange(width)[None]
  bos_BP = jnp.where(index == 0, bos, jnp.zeros((num, 1), jnp.int32))
  one_B = jnp.ones((num,), jnp.int32)
  no_subject_B2 = jnp.zeros((num, 2), jnp.int32)
  groups = [replay[name] for name in age_groups if name in replay]
  if not groups:
    return types.Prompts(bos_BP, one_B, no_subject_B2)
  # In the concatenated group, `count` is the mask of valid entries.
  age_group = jax.tree.map(lambda *x: jnp.concatenate(x), *[
    g.replace(count=jnp.arange(g.length_C.shape[0]) < g.count) for g in groups
  ])  # fmt: skip
  valid_C = (
    age_group.count & (age_group.step_C > since) & (age_group.step_C <= until)
  )
  # A long prompt that is cut to `width` would prompt for its own remainder.
  valid_C &= age_group.length_C <= width
  if repeated_in in replay:
    valid_C &= ~repeated(
      age_group.tokens_CP, age_group.length_C, replay[repeated_in]
    )
  keys = jax.random.split(key, 9)
  weight_C = _weights(valid_C, age_group, pretrain_share)
  pick_B = even_draws.draw(weight_C, keys[0], num=num)
  tokens_BP = equality.widen(age_group.tokens_CP[pick_B], width)
  length_B = age_group.length_C[pick_B]
  subject_B2 = age_group.subject_C2[pick_B]
  coin = lambda key, share: jax.random.uniform(key, (num,)) < share
  other_B = even_draws.draw(weight_C, keys[6], num=num)
  spliced_BP = _splice(
    tokens_BP,
    length_B,
    subject_B2,
    equality.widen(age_group.tokens_CP[other_B], width),
    age_group.length_C[other_B],
    keys[7],
  )
  changed_B = coin(keys[8], splice_share)
  tokens_BP = jnp.where(changed_B[:, None], spliced_BP, tokens_BP)
  # A cut keeps the subject: part of a name would be another subject.
  shortest_B = jnp.clip(subject_B2[:, 1], 1, length_B)
  cut_B = jax.random.randint(keys[1], (num,), shortest_B, length_B + 1)
  answers = jax.tree.map(lambda x: x[pick_B], age_group.answers)
  cut_B = jnp.where(coin(keys[2], cut_share), cut_B, length_B)
  if answers is not None:
    answers = answers_lib.after_cut(tokens_BP, length_B, cut_B, answers)
  length_B = cut_B
  if templates.before_length_S.shape[0]:
    template_B = jax.random.randint(
      keys[3], (num,), 0, templates.before_length_S.shape[0]
    )
    filled_BP, filled_B, fits_B = fill_templates(
      tokens_BP, subject_B2, templates, template_B, width=width, bos=bos
    )
    use_B = coin(keys[4], template_share) & fits_B
    tokens_BP = jnp.where(use_B[:, None], filled_BP, tokens_BP)
    length_B = jnp.where(use_B, filled_B, length_B)
    changed_B |= use_B
  bos_only_B = coin(keys[5], bos_share) | ~jnp.any(valid_C)
  if answers is not None:
    known_B = jnp.where(changed_B | bos_only_B, 0, answers.length_B)
    answers = answers.replace(length_B=known_B)
  context = jax.tree.map(lambda x: x[pick_B], age_group.documents)
  if context is not None:  # Without valid entries, the document is BOS alone.
    context_B = jnp.where(jnp.any(valid_C), context.length_B, 1)
    context = context.replace(
      tokens_BT=context.tokens_BT.at[:, 0].set(bos), length_B=context_B
    )
    if context.replaces_B is not None:
      replaces_B = jnp.where(bos_only_B, 1, context.replaces_B)
      context = context.replace(replaces_B=replaces_B)
  return types.Prompts(
    tokens_BP=jnp.where(bos_only_B[:, None], bos_BP, tokens_BP),
    length_B=jnp.where(bos_only_B, one_B, length_B),
    subject_B2=no_subject_B2,
    context=context,
    answers=answers,
  )


def repeated(
  tokens_BP: types.Array, length_B: types.Array, group: state.AgeGroup
) -> types.Array:
  """Returns bool `[B]`, which prompts an age group has, or may correct.

  It may correct a prompt that names the subject of one of its own: what it says
  of that subject in other words may have changed. A subject that
  begins a prompt does not count: these are the first words of a plain text.

  Args:
    tokens_BP: may be narrower or wider than the group.
    length_B: tokens of each prompt.
    group: with capacity K.
  """
  valid_K = jnp.arange(len(group.length_C)) < group.count
  same_BK = equality.equal(tokens_BP, length_B, group.tokens_CP, group.length_C)
  is_named_C1 = group.subject_C2[:, :1] > 1
  same_BK |= equality.contains(
    tokens_BP, length_B, group.tokens_CP, group.subject_C2 * is_named_C1
  )
  return jnp.any(same_BK & valid_K[None], 1)


def _weights(valid_C, age_group, pretrain_share):
  """Returns weights of entries that give pretraining its share."""
  pretrain_C = valid_C & (age_group.step_C == 0)
  num_pretrain = jnp.sum(pretrain_C)
  num_later = jnp.sum(valid_C & ~pretrain_C)
  if pretrain_share < 0:
    return valid_C.astype(jnp.float32)
  share_C = jnp.where(pretrain_C, pretrain_share, 1 - pretrain_share)
  num_C = jnp.where(pretrain_C, num_pretrain, num_later)
  weight_C = share_C / jnp.maximum(num_C, 1)
  return valid_C * jnp.where((num_pretrain > 0) & (num_later > 0), weight_C, 1)


def _splice(tokens_BP, length_B, subject_B2, other_BP, other_B, key):
  """Replaces the last tokens of each row by as many of another prompt.

  The length does not change, and an ending that all prompts of a kind have in
  common is kept. The number of tokens is random.
  """
  longest_B = length_B - jnp.maximum(subject_B2[:, 1], 1)
  longest_B = jnp.minimum(longest_B, other_B - 1)
  size_B = jax.random.randint(key, length_B.shape, 0, longest_B + 1)
  index = jnp.arange(tokens_BP.shape[1])[None]
  start_B1 = (length_B - size_B)[:, None]
  index_BP = jnp.maximum(index + (other_B - length_B)[:, None], 0)
  ending_BP = jnp.take_along_axis(
    other_BP, jnp.minimum(index_BP, other_BP.shape[1] - 1), 1
  )
  return jnp.where(index < start_B1, tokens_BP, ending_BP)


def fill_templates(
  tokens_BP: types.Array,
  subject_B2: types.Array,
  templates: types.PromptTemplates,
  template_B: types.Array,
  *,
  width: int,
  bos: int,
) -> tuple[types.Array, types.Array, types.Array]:
  """Fills the slot of a template with the subject of each row.

  Args:
    tokens_BP: prompts.
    subject_B2: [start, stop) of the subject of each prompt.
    templates: the templates.
    template_B: index of the template of each row.
    width: width of the result.
    bos: start token.

  Returns:
    Tokens `[B, width]`, their number, and whether a row has a subject and the
    filled template fits into `width`.
  """
  num = tokens_BP.shape[0]
  take = lambda x: jnp.take(x, template_B, 0)
  before_B, after_B = (
    take(templates.before_length_S),
    take(templates.after_length_S),
  )
  start_B, stop_B = subject_B2[:, 0], subject_B2[:, 1]
  size_B = stop_B - start_B
  index = jnp.arange(width)[None] - 1  # Of a token after BOS.
  ends = jnp.stack([before_B, before_B + size_B, before_B + size_B + after_B])

  def take_tokens(rows_BP, indices):
    indices = jnp.clip(indices, 0, rows_BP.shape[1] - 1)
    return jnp.take_along_axis(rows_BP, indices, 1)

  before = take_tokens(
    take(templates.before_SP), jnp.broadcast_to(index, (num, width))
  )
  subject = take_tokens(tokens_BP, index - ends[0][:, None] + start_B[:, None])
  after = take_tokens(take(templates.after_SP), index - ends[1][:, None])
  tokens = jnp.where(index < ends[1][:, None], subject, after)
  tokens = jnp.where(index < ends[0][:, None], before, tokens)
  tokens = jnp.where(index < 0, bos, tokens)
  return tokens, 1 + ends[2], (size_B > 0) & (1 + ends[2] <= width)

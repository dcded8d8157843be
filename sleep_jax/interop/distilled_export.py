"""Distilled dense export: what routed experts say, said by an ordinary MLP.

Gates that depend on what is read fit into no ordinary checkpoint. So the routed
model writes, and the host with a wider MLP in every block learns to say the
same: only the new hidden units are trained. They begin as the experts, each
with its gate at the mean of what it was in those texts.

References: 2306.13649 (GKD) at beta 0, on the teacher's own samples.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.interop import expert_file, hf_names
from sleep_jax.model import sampling, transformer
from sleep_jax.objectives import chunked_losses, losses
from sleep_jax.optim import optimizer

Array = types.Array
_BANK = 'blocks/levels/1/experts/'
_BLOCK = 2048  # Tokens and words that logits are made of at a time.


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a dense student is taught.

  Attributes:
    steps: of learning.
    rollouts: texts that the routed model writes; an eighth more is written to
      tell how far the student is from it.
    batch: of them, at a time.
    max_new: tokens of a text, after its prompt.
    learning_rate: peak.
  """

  steps: int = 400
  rollouts: int = 4096
  batch: int = 32
  max_new: int = 64
  learning_rate: float = 1e-3


def distil(
  model: transformer.Transformer,
  weights: types.Weights,
  prompts: Sequence[Sequence[int]],
  key: Array,
  *,
  eos: int,
  settings: Settings,
  log_fn: Callable[[str], None] = lambda text: None,
) -> tuple[transformer.Transformer, types.Weights]:
  """A model of one level that says what a routed one does.

  What faster levels have learned awake is taught as well, but begins with no
  units of its own.

  Args:
    prompts: beginnings, BOS first, to be gone on with; each as often.
    eos: ends a text.
    show: is told how far the student is from its teacher.

  Returns:
    The student: `dense.save` can write it. Its base shares the teacher's
    arrays where they are the same.

  Raises:
    ValueError: there is nothing to distil.
  """
  if not expert_file.active_slots(weights):
    raise ValueError(
      'No expert is on: there is nothing to distil. Leave --distil out.'
    )
  s = settings
  write = jax.jit(_writer(model, eos, s))
  count = -(-s.rollouts // s.batch) * s.batch
  given = _prompts(prompts, count + max(count // 8, s.batch), s.batch)
  texts = [
    write(weights, few, jax.random.fold_in(key, number))
    for number, few in enumerate(given)
  ]
  held_out, texts = texts[count // s.batch :], texts[: count // s.batch]
  student, base, own = initial_student(model, weights, texts[0], key)
  loss = functools.partial(_divergence, model, student, s)
  tx = optimizer.make(
    learning_rate=s.learning_rate, warmup=s.steps // 10, decay_steps=s.steps
  )

  @jax.jit
  def learn(own, opt, weights, base, few):
    value, grads = jax.value_and_grad(
      lambda own: loss(weights, base.with_params(own), few)
    )(own)
    moved, opt = tx.update(grads, opt, own)
    return jax.tree.map(jnp.add, own, moved), opt, value

  away = jax.jit(
    lambda own, weights, base, few: loss(weights, base.with_params(own), few)
  )
  measure = lambda own: float(
    np.mean([away(own, weights, base, few) for few in held_out])
  )
  log_fn(f'divergence from the routed model, nats a token: {measure(own):.4f}')
  opt = tx.init(own)
  for step in range(s.steps):
    own, opt, _ = learn(own, opt, weights, base, texts[step % len(texts)])
  log_fn(f'after {s.steps} steps: {measure(own):.4f}')
  return student, base.with_params(own)


def initial_student(
  model: transformer.Transformer,
  weights: types.Weights,
  texts: types.Rollout,
  key: Array,
) -> tuple[transformer.Transformer, types.Weights, types.Params]:
  """The student: its model, its base, and the experts that it begins with.

  Args:
    texts: what gates are averaged over.
  """
  c, on = model.config, expert_file.active_slots(weights)
  rank = sum(c.levels[n - 1].rank * len(slots) for n, slots in on.items())
  level = dataclasses.replace(
    c.levels[-1], update_period='infinite', sleep_period='infinite', slots=1,
    rank=rank,
  )  # fmt: skip
  student = transformer.Transformer(
    dataclasses.replace(
      c, arrangement='independent', router='always', top_k=0, layer_levels=(),
      levels=(level,),
    )
  )  # fmt: skip
  named = {
    part.name: (path, part.at)
    for path, parts in hf_names.tensor_sources(model)
    for part in parts
  }
  params = {}
  for path, parts in hf_names.tensor_sources(student):
    theirs = [named[part.name] for part in parts]
    first = weights.params[theirs[0][0]]
    if not parts[0].at or len(first) == len(parts):
      params[path] = first  # One and the same array.
    else:
      params[path] = jnp.stack([weights.params[p][at] for p, at in theirs])
  (fresh,) = student.fresh(key, 1).values()
  own = {_BANK + name: leaf[:, None] for name, leaf in fresh.items()}
  own |= _banks(model, weights, params, own, texts)
  params |= own
  active_NE = jnp.ones((1, 1))
  moving = {name: own[name] for name in (f'{_BANK}A', f'{_BANK}B')}
  return student, types.Weights(params, active_NE), moving


def _banks(model, weights, base, drawn, texts) -> types.Params:
  """A and B of all experts side by side, where they stand."""
  c, start = model.config, 0
  A_LDR, B_LRD = drawn[f'{_BANK}A'][:, 0], drawn[f'{_BANK}B'][:, 0]
  rows = transformer.rows(texts.tokens_BT, texts.length_B)
  mean = lambda gates_BTE, _: jnp.mean(
    gates_BTE, (0, 1), where=(rows[1] > 0)[..., None]
  )
  theirs_LD = base['blocks/levels/norm/scale'] + c.norm_offset
  for number, slots in expert_file.active_slots(weights).items():
    bank = model.bank(weights, number)
    gates_LE = model.additions(weights, *rows, number, mean)
    norm = f'blocks/levels/{number}/base/norm/scale'
    where = np.concatenate(
      [np.arange(a, b) for a, b, levels in c.groups if number in levels]
    )
    # An expert reads its level's norm, a hidden unit its host's.
    ours_LD = (
      weights.params[norm] + c.norm_offset
      if norm in weights.params
      else theirs_LD[where]
    )
    ratio_LD = ours_LD / theirs_LD[where]
    for slot in slots:
      R = c.levels[number - 1].rank
      A_LDR = A_LDR.at[where, :, start : start + R].set(
        bank['A'][:, slot] * ratio_LD[..., None]
      )
      B_LRD = B_LRD.at[where, start : start + R].set(
        bank['B'][:, slot] * gates_LE[:, slot, None, None]
      )
      start += R
  return {f'{_BANK}A': A_LDR[:, None], f'{_BANK}B': B_LRD[:, None]}


def _writer(model, eos, settings):
  def write(weights, prompts, key):
    P = prompts.tokens_BP.shape[1]
    return sampling.sample(
      model, weights, prompts, key, max_length=P + settings.max_new, eos=eos,
      max_new=settings.max_new,
    )  # fmt: skip

  return write


def _divergence(model, student, settings, teacher, weights, rollout):
  """Mean over generated tokens, of the student from its teacher."""
  rows = transformer.rows(rollout.tokens_BT, rollout.length_B)
  at_BG = (
    rollout.prompt_length_B[:, None] - 1 + jnp.arange(settings.max_new)[None]
  )
  at_BG = jnp.minimum(at_BG, rollout.tokens_BT.shape[1] - 1)
  theirs_ND, ours_ND = (
    net.states_at(own, *rows, at_BG).reshape(-1, model.config.width)
    for net, own in ((model, teacher), (student, weights))
  )
  value_N = chunked_losses.divergence(
    theirs_ND, ours_ND, model.head(teacher), student.head(weights),
    beta=0.0, tokens=_BLOCK, vocab_block=_BLOCK, cap=model.config.logit_cap,
  )  # fmt: skip
  mask_N = losses.generated_mask(rollout, settings.max_new).reshape(-1)
  return jnp.sum(value_N * mask_N) / jnp.maximum(jnp.sum(mask_N), 1)


def _prompts(prompts, count, batch) -> Iterator[types.Prompts]:
  """So many prompts, all as often, a batch at a time."""
  width = max(map(len, prompts))
  # They come in the order of a life: any part of them should be of all of it.
  order = np.random.default_rng(0).permutation(len(prompts))
  rows = [
    prompts[order[i % len(prompts)]] for i in range(-(-count // batch) * batch)
  ]
  tokens_BP = np.zeros((len(rows), width), np.int32)
  for number, row in enumerate(rows):
    tokens_BP[number, : len(row)] = row
  length_B = np.array([len(row) for row in rows], np.int32)
  for first in range(0, len(rows), batch):
    few = slice(first, first + batch)
    nothing = jnp.zeros((batch, 2), jnp.int32)
    yield types.Prompts(tokens_BP[few], length_B[few], nothing)

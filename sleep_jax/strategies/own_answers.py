"""Answers that a model samples to prompts of a batch, in a wake step."""

import jax
import jax.numpy as jnp
import ml_collections

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.replay import documents, even_draws
from sleep_jax.sleep import document_context
from sleep_jax.strategies import method

Array = types.Array
_WRITE = 2**30 + 2**25  # Keeps its keys apart from others.


def longest(config: ml_collections.ConfigDict, max_new: int) -> int:
  """Returns most tokens of an answer; `max_new` of 0 means as many as fit."""
  context = config.data.context
  return min(context - 1, max_new or context)  # A prompt has one or more.


def draw(
  batch: types.Batch, key: Array, *, num: int, eos: int
) -> types.Prompts:
  """Draws prompts of a batch; their `context` is the text that they begin.

  Args:
    batch: rows of one text, or packed.
    key: consumed.
    num: N, number of prompts.
    eos: token that ends most texts; it is left out of them.

  Returns:
    Prompts `[N, P]`, with texts `[N, T]` that have BOS and no EOS.
  """
  at_N = even_draws.draw(batch.prompts.length_B > 0, key, num=num)
  # The k-th prompt of a row is that of its k-th text, see `Source.batch`.
  row_N, text_N = jnp.divmod(
    at_N, batch.prompts.length_B.shape[0] // batch.tokens_BT.shape[0]
  )
  inside_NT = batch.segments_BT[row_N] == 1 + text_N[:, None]
  width = inside_NT.shape[1]
  place_NT = jnp.argmax(inside_NT, 1)[:, None] + jnp.arange(width)[None]
  context = documents.make(
    jnp.take_along_axis(
      batch.tokens_BT[row_N], jnp.minimum(place_NT, width - 1), 1
    ),
    jnp.sum(inside_NT, 1),
    eos,
  )
  drawn = jax.tree.map(lambda x: x[at_N], batch.prompts)
  return drawn.replace(context=context)


def write(
  parts: method.Parts,
  state: state_lib.State,
  batch: types.Batch,
  *,
  prompts: int,
  max_new: int,
  each: int = 1,
  teacher: types.Weights | None = None,
) -> tuple[types.Rollout, dict[str, Array]]:
  """Samples answers of a model at temperature 1. No gradient passes through.

  The keys depend on the step, so that a step that is repeated writes the same.

  Args:
    parts: of the strategy.
    state: with the key and the weights of the run.
    batch: see `draw`.
    prompts: N, number of prompts that are drawn.
    max_new: most tokens of an answer; with its prompt it has at most
      `data.context`.
    each: G, answers to each prompt.
    teacher: weights that write with the texts before the prompts; None: those
      of the state write, without the texts.

  Returns:
    Answers `[N G, T]`, those to one prompt side by side, with the texts that
    the prompts begin as their `context`; and the costs of sampling, see
    `method.counts`.
  """
  key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), _WRITE)
  choose_key, write_key = jax.random.split(key)
  drawn = draw(batch, choose_key, num=prompts, eos=parts.eos)
  drawn = jax.tree.map(lambda x: jnp.repeat(x, each, 0), drawn)
  known = drawn.replace(context=None) if teacher is None else drawn
  read = document_context.prepend_to_prompts(known)
  width = parts.config.data.context
  more = read.tokens_BP.shape[1] - drawn.tokens_BP.shape[1]
  answers = sampling.sample(
    parts.model, teacher or state.weights, read, write_key,
    max_length=width + more, max_new=max_new, eos=parts.eos,
  )  # fmt: skip
  answers = document_context.remove_from_rollout(answers, known, width=width)
  written, prompted = document_context.count_tokens(answers)
  costs = method.counts(written=written, forward=prompted)
  return answers.replace(context=drawn.context), costs

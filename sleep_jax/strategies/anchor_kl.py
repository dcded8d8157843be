"""Fine-tuning with a KL penalty to the initial model, a baseline.

Before the first experience the initial model writes texts from BOS alone. Each
wake step adds the divergence of the model from the initial one on some of these
texts. Nothing of pretraining is read.

References: 2605.26097; there new texts are written all the time, and they do
not end at EOS. The KL penalty of `sleep` (`wake.kl_penalty`) holds one level to
its anchor, and reads stored prompts; here all weights are trained.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.optim import gradient_accumulation
from sleep_jax.schedule import events
from sleep_jax.strategies import distillation, method, strategy
from sleep_jax.wake import terms

NAME = 'anchor_kl'
# Folded into the key, so that it differs from the keys of other programs.
_WRITE, _CHOOSE = 2**30 + 2**27, 2**30 + 2**27 + 1


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the penalty.

  Attributes:
    weight: of the divergence in the loss.
    texts: number of texts that the initial model writes.
    sequences: texts that a wake step reads.
  """

  weight: float
  texts: int
  sequences: int


def make(num_levels: int) -> strategy.Strategy:
  """Returns the strategy for a model with `num_levels` levels."""
  return strategy.fine_tuning(
    NAME, num_levels, reviews=(events.INITIAL,), build=_build
  )


def from_bos(num: int, bos: int) -> types.Prompts:
  """Returns prompts of BOS alone."""
  return types.Prompts(
    tokens_BP=jnp.full((num, 1), bos, jnp.int32),
    length_B=jnp.ones((num,), jnp.int32),
    subject_B2=jnp.zeros((num, 2), jnp.int32),
  )


def _build(parts: method.Parts) -> method.Method:
  """Returns the penalty, and the review in which the texts are written."""
  settings = Settings(**parts.config[NAME])
  length, num = parts.config.data.context, parts.config.wake.micro_batches
  gradient_accumulation.check_divisible(
    num, {f'{NAME}.sequences': settings.sequences}, 'wake.micro_batches'
  )
  trained = functools.partial(method.trained, paths=parts.paths)

  def allocate(weights):
    count = lambda: jnp.ones((settings.texts,), jnp.int32)
    return {
      'initial': jax.tree.map(jnp.copy, trained(weights)),
      'texts': types.Rollout(
        tokens_BT=jnp.full((settings.texts, length), parts.eos, jnp.int32),
        prompt_length_B=count(), length_B=count(),
      ),
    }  # fmt: skip

  def loss_fn(state, batch):
    del batch
    key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), _CHOOSE)
    at_B = jax.random.randint(key, (settings.sequences,), 0, settings.texts)
    texts = jax.tree.map(lambda x: x[at_B], state.strategy['texts'])
    initial = state.weights.with_params(state.strategy['initial'])
    index_1T = jnp.arange(length)[None]
    written_BT = (index_1T >= texts.prompt_length_B[:, None]) & (
      index_1T < texts.length_B[:, None]
    )

    def term(weights, _):
      return settings.weight * distillation.mean_divergence(
        parts.model, initial, weights,
        types.model_inputs(texts.tokens_BT, texts.length_B),
        written_BT.astype(jnp.float32), num=num,
      )  # fmt: skip

    read = jnp.sum(texts.length_B)  # By both models.
    return state, [terms.Term(term)], method.counts(read, forward=read)

  def finish(state, *, moment):
    del moment
    texts = sampling.sample(
      parts.model, state.weights, from_bos(settings.texts, parts.bos),
      jax.random.fold_in(state.key, _WRITE), max_length=length, eos=parts.eos,
    )  # fmt: skip
    written = jnp.sum(texts.length_B - texts.prompt_length_B)
    own = state.strategy | {'texts': texts}
    costs = method.counts(written=written, forward=settings.texts)
    return state.replace(strategy=own), costs

  return method.Method(allocate=allocate, penalty=loss_fn, finish=finish)

"""Curriculum: what the model dreams about a task, and which dreams helped.

With a document in front it writes texts; the most important dreams are each
tried alone; who writes learns from those that helped, and writes again. No
weight of the model moves.

References: 2606.03979 v2 section 3.4 (Dreaming); ReST^EM, 2312.06585, as in
SEAL (2506.10943); docs/method.md, "Dreaming".
"""

import dataclasses

import jax
import jax.numpy as jnp

from sleep_jax import types
from sleep_jax.model import lora, transformer
from sleep_jax.objectives import answers, imitation
from sleep_jax.phases import context, replay, trials
from sleep_jax.phases import dreams as dreams_lib
from sleep_jax.phases import night as night_lib

Array = types.Array
# Texts of dreams that were tried, what each was asked, and 1 where a text is
# whole and its dream was rewarded: [B, T], [B, P], [B].
Kept = tuple[types.Rollout, types.Prompts, Array]


@dataclasses.dataclass(frozen=True)
class Curriculum:
  """How a task is dreamt about.

  Attributes:
    model: with `states_at`, `head`, `prefill`, `decode`.
    bos, eos: token ids.
    settings: how long a text may be.
    dreams: how much of what.
    together, place: see `trials.gains`.
  """

  model: transformer.Transformer
  bos: int
  eos: int
  settings: night_lib.Settings
  dreams: dreams_lib.Settings
  together: int = 1
  place: trials.Place = lambda tree: tree

  def dream(
    self,
    weights: types.Weights,
    key: Array,
    prompts: types.Stems,
    task: types.Task,
  ) -> tuple[lora.Adapter, Kept, dict]:
    """All rounds.

    Args:
      key: consumed.
      prompts: what a dream may be asked, with a slot for the subject.
      task: what there is to dream about.

    Returns:
      The adapter of who writes best; what was tried; and the journal
      `[rounds, candidates, ...]`, see `_round`.
    """
    d = self.dreams
    begin = lora.init(
      jax.random.fold_in(key, 0), weights.params, rank=d.writer.rank,
      targets=d.writer.targets,
    )  # fmt: skip

    def one(writer, number):
      writer, kept, journal = self._round(
        weights, writer, begin, jax.random.fold_in(key, 1 + number), prompts,
        task,
      )  # fmt: skip
      return writer, (kept, journal)

    writer, (kept, journal) = jax.lax.scan(one, begin, jnp.arange(d.rounds))
    texts, asked, weight_B = jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]), kept
    )
    return writer, (texts, asked, weight_B), journal

  def _round(self, weights, writer, begin, key, prompts, task):
    """One round: write, choose, try, learn to write.

    Returns:
      The writer; texts `[kept K, T]`, what was asked and the weights of them;
      and the journal:
      per candidate `texts` (tokens, prompt and whole lengths, document,
      expert), `importance`, `valid`, `tried`, `gain` (mean over repeats) and
      `rewarded`; of the round `nothing` (score of no dream), `entropy`,
      `likelihood` (nats per token, of the writer and of the model without the
      document), `repetition`, `distinct` and `written`.
    """
    d, size = self.dreams, self.settings.max_new
    M, K = d.candidates, d.texts
    write_key, weigh_key, choose_key, try_key, learn_key = jax.random.split(
      key, 5
    )
    author = lora.worn(weights, writer, scale=d.writer.scale)
    texts, asked, about_M, expert_B = self._write(
      author, write_key, prompts, task
    )
    valid_B = _sound(texts, self.eos if d.whole else None)
    valid_MK = valid_B.reshape(M, K).astype(jnp.float32)
    alone = texts.replace(context=None)
    with jax.named_scope('importance'):
      importance_M = trials.importance(
        self.model, weights, alone, valid_MK, task.practice, weigh_key,
        size=size, how=d.importance, targets=d.trial.targets,
      )  # fmt: skip
    valid_M = jnp.any(valid_MK > 0, 1) & jnp.isfinite(importance_M)
    at_C, there_C = trials.choose(
      importance_M, valid_M, choose_key, top=d.top, random=d.random
    )
    row_B = (at_C[:, None] * K + jnp.arange(K)[None]).reshape(-1)
    kept, own_B = jax.tree.map(lambda x: x[row_B], (alone, valid_B))
    with jax.named_scope('trials'):
      gain_CR, nothing = trials.gains(
        self.model, weights, kept, own_B.reshape(-1, K), task.practice,
        try_key, settings=d, size=size, together=self.together,
        place=self.place,
      )  # fmt: skip
    gain_C = jnp.mean(gain_CR, 1)
    rewarded_C = there_C & (gain_C > d.margin)
    weight_B = jnp.repeat(rewarded_C, K) * own_B.astype(jnp.float32)
    kept, asked = jax.tree.map(lambda x: x[row_B], (texts, asked))
    start = begin if d.start == dreams_lib.BASE else writer
    with jax.named_scope('learn_to_write'):
      writer = trials.learn(
        self.model, weights, context.read(kept), weight_B, learn_key,
        adapter=start, settings=d.writer, size=size,
      )  # fmt: skip
    # Where no dream stands, its place may be that of one that does.
    place_C = jnp.where(there_C, at_C, M)
    put = lambda value: (
      jnp.zeros((M,), value.dtype).at[place_C].set(value, mode='drop')
    )
    journal = {
      'texts': {
        'tokens': texts.tokens_BT.reshape(M, K, -1),
        'prompt_length': texts.prompt_length_B.reshape(M, K),
        'length': texts.length_B.reshape(M, K),
        'whole': valid_B.reshape(M, K),
        'expert': expert_B.reshape(M, K),
      },
      'document': about_M,
      'importance': importance_M,
      'valid': valid_M,
      'tried': put(there_C),
      'gain': put(gain_C),
      'rewarded': put(rewarded_C),
      'nothing': nothing,
      **self._wording(weights, author, texts),
    }
    return writer, (kept, asked, weight_B), journal

  def _write(self, author, key, prompts, task):
    """Texts `[M K, T]` and what each was asked; each dream's document.

    And the expert that stood open while each text was written.
    """
    d, T = self.dreams, self.settings.prompt_width
    M, K, N = d.candidates, d.texts, len(task.prompts.length_B)
    order_key, stem_key, open_key, write_key = jax.random.split(key, 4)
    about_M = jnp.resize(jax.random.permutation(order_key, N), (M,))
    row_B = jnp.repeat(about_M, K)
    of = jax.tree.map(lambda x: x[row_B], task.prompts)
    # Different questions about one document, as far as there are any.
    S = prompts.before_length_S.shape[0]
    lot_MS = jnp.argsort(jax.random.uniform(stem_key, (M, S)), 1)
    stem_B = lot_MS[:, jnp.arange(K) % S].reshape(-1)
    wide_BP = jnp.pad(of.tokens_BP, ((0, 0), (0, T)))[:, :T]
    asked_BP, asked_B, fits_B = replay.ask(
      wide_BP, of.subject_B2, prompts, stem_B, width=T, bos=self.bos
    )
    begin_B1 = 1 + prompts.before_length_S[stem_B][:, None]
    size_B1 = of.subject_B2[:, 1:] - of.subject_B2[:, :1]
    subject_B2 = jnp.concatenate([begin_B1, begin_B1 + size_B1], 1)
    asked = types.Prompts(
      tokens_BP=asked_BP,
      length_B=jnp.where(fits_B, asked_B, 1),  # Else from BOS alone.
      subject_B2=jnp.where(fits_B[:, None], subject_B2, 0),
      context=of.context,
    )
    active_NE = author.active_NE
    flat_E = active_NE.reshape(-1)
    expert_B = jax.random.categorical(
      open_key, jnp.where(flat_E > 0, 0.0, -jnp.inf), shape=(M * K,)
    )
    some = jnp.any(flat_E > 0) & d.novelty
    expert_B = jnp.where(some, expert_B, -1)
    if d.novelty:
      opened_BE = jax.nn.one_hot(expert_B, flat_E.shape[0])
      author = author.replace(
        opened_BNE=opened_BE.reshape(-1, *active_NE.shape)
      )
    texts = context.write(
      self.model, author, asked, write_key, settings=self.settings,
      eos=self.eos, temperature=d.temperature,
    )  # fmt: skip
    return texts, asked.replace(context=None), about_M, expert_B

  def _wording(self, weights, author, texts):
    """How a round's dreams read, as means."""
    size = self.settings.max_new
    own_BG, _ = answers.told(self.model, author, context.read(texts), size)
    bare_BG, _ = answers.told(
      self.model, weights, texts.replace(context=None), size
    )
    tokens_B = texts.length_B - texts.prompt_length_B
    count = jnp.maximum(jnp.sum(tokens_B), 1)
    at_BG = texts.prompt_length_B[:, None] + jnp.arange(size)[None]
    said_BG = jnp.take_along_axis(
      texts.tokens_BT, jnp.minimum(at_BG, texts.tokens_BT.shape[1] - 1), 1
    )
    same_BB = same(texts.tokens_BT, texts.length_B)
    first_B = ~jnp.any(jnp.tril(same_BB, -1), 1)
    return {
      'entropy': -jnp.sum(own_BG) / count,
      'likelihood': jnp.sum(bare_BG) / count,
      'repetition': jnp.mean(imitation.repetition(said_BG, tokens_B)),
      'distinct': jnp.mean(first_B),
      'written': jnp.sum(tokens_B),
    }


def _sound(texts, eos):
  """Whether a text says something and, with `eos`, comes to its end."""
  tokens_B = texts.length_B - texts.prompt_length_B
  if eos is None:
    return tokens_B > 0
  last_B1 = jnp.maximum(texts.length_B - 1, 0)[:, None]
  ended_B = jnp.take_along_axis(texts.tokens_BT, last_B1, 1)[:, 0] == eos
  return ended_B & (tokens_B > 1)


def same(tokens_BT: Array, length_B: Array) -> Array:
  """Whether two texts are the same, `[B, B]`."""
  place = jnp.arange(tokens_BT.shape[1])[None]
  said_BT = jnp.where(place < length_B[:, None], tokens_BT, -1)
  return jnp.all(said_BT[:, None] == said_BT[None], -1)

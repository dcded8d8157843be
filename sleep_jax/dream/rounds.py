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
from sleep_jax.dream import importance, trials
from sleep_jax.dream import lessons as lessons_lib
from sleep_jax.dream import settings as dream_settings
from sleep_jax.dream import texts as texts_lib
from sleep_jax.model import lora, transformer
from sleep_jax.objectives import answer_likelihood, imitation_reward
from sleep_jax.replay import prompts as prompts_lib
from sleep_jax.sleep import document_context
from sleep_jax.sleep import settings as sleep_settings

Array = types.Array
# What dreams that were tried would have the model learn from, [B, T]: their own
# texts, or the lessons of a task whose dreams are choices. What was asked, of
# length 0 but for rewarded dreams, [A, P]. How much a row counts, [B].
Kept = tuple[types.Rollout, types.Prompts, Array]


@dataclasses.dataclass(frozen=True)
class DreamRounds:
  """How a task is dreamt about.

  Attributes:
    model: with `states_at`, `logits`, `prefill`, `decode`.
    bos, eos: token ids.
    settings: how long a text may be.
    dreams: how much of what.
    spread: of its trials.
  """

  model: transformer.Transformer
  bos: int
  eos: int
  settings: sleep_settings.Settings
  dreams: dream_settings.Settings
  spread: trials.TrialPlacement = trials.TrialPlacement()

  def dream(
    self,
    weights: types.Weights,
    key: Array,
    prompts: types.PromptTemplates,
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
    if task.choices is not None:  # Who teaches has learned what it chose.
      writer = trials.train_adapter(
        self.model, weights, texts.replace(context=None), weight_B,
        jax.random.fold_in(key, 1 + d.rounds), adapter=writer,
        settings=d.writer, size=self.settings.max_new,
      )  # fmt: skip
    return writer, (texts, asked, weight_B), journal

  def _lessons(self, texts, choices):
    """What each dream would have learned, and which texts are sound."""
    d = self.dreams
    valid_B = texts_lib.is_usable(texts, self.eos if d.whole else None)
    if choices is None:
      valid_MK = valid_B.reshape(d.candidates, d.texts)
      return lessons_lib.from_texts(
        texts.replace(context=None), valid_MK
      ), valid_B
    choice_B, known_B = texts_lib.match_choices(texts, choices)
    valid_B &= known_B
    weight_BR = choices.weight_CR[choice_B] * valid_B[:, None]
    lessons = lessons_lib.Lessons(
      choices.lessons, weight_BR, choices.rate_C[choice_B],
      choices.share_C[choice_B],
    )  # fmt: skip
    return lessons, valid_B

  def _unread(self, rows):
    """Rows with an empty document in front: no one need read one."""
    num = len(rows.length_B)
    bare = types.Texts(
      jnp.full((num, 1), self.bos, jnp.int32), jnp.ones((num,), jnp.int32)
    )
    return rows.replace(context=bare)

  def _round(self, weights, writer, begin, key, prompts, task):
    """One round: write, choose, try, learn to write.

    Returns:
      The writer; what is kept, see `Kept`; and the journal:
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
    lessons, valid_B = self._lessons(texts, task.choices)
    with jax.named_scope('importance'):
      importance_M = importance.importance(
        self.model, weights, lessons, task.practice, weigh_key, size=size,
        how=d.importance, targets=d.trial.targets,
        rows=self.spread.rows,
      )  # fmt: skip
    valid_M = jnp.any(lessons.weight_MK > 0, 1) & jnp.isfinite(importance_M)
    at_C, there_C = importance.select_dreams(
      importance_M, valid_M, choose_key, top=d.top, random=d.random
    )
    tried = lessons.of(at_C)
    with jax.named_scope('trials'):
      gain_CR, nothing = trials.measure_gains(
        self.model, weights, tried, task.practice, try_key, settings=d,
        size=size, spread=self.spread,
      )  # fmt: skip
    gain_C = jnp.mean(gain_CR, 1)
    rewarded_C = there_C & (gain_C > d.margin)
    row_B = (at_C[:, None] * K + jnp.arange(K)[None]).reshape(-1)
    said, asked, own_B = jax.tree.map(
      lambda x: x[row_B], (texts, asked, valid_B)
    )
    weight_B = jnp.repeat(rewarded_C, K) * own_B.astype(jnp.float32)
    asked = asked.replace(length_B=jnp.where(weight_B > 0, asked.length_B, 0))
    start = begin if d.start == dream_settings.BASE else writer
    with jax.named_scope('learn_to_write'):
      writer = trials.train_adapter(
        self.model, weights, document_context.prepend_to_rollout(said), weight_B, learn_key,
        adapter=start, settings=d.writer, size=size,
      )  # fmt: skip
    kept = said, asked, weight_B
    if task.choices is not None:
      weight_R = jnp.minimum(rewarded_C @ tried.weight_MK, 1)
      kept = self._unread(tried.rows), asked, weight_R
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
    return writer, kept, journal

  def _write(self, author, key, prompts, task):
    """Texts `[M K, T]` and what each was asked; each dream's document.

    And the expert that stood open while each text was written.
    """
    d, T = self.dreams, self.settings.prompt_width
    M, K, N = d.candidates, d.texts, len(task.prompts.length_B)
    order_key, template_key, open_key, write_key = jax.random.split(key, 4)
    about_M = jnp.resize(jax.random.permutation(order_key, N), (M,))
    row_B = jnp.repeat(about_M, K)
    of = jax.tree.map(lambda x: x[row_B], task.prompts)
    # Different questions about one document, as far as there are any.
    S = prompts.before_length_S.shape[0]
    lot_MS = jnp.argsort(jax.random.uniform(template_key, (M, S)), 1)
    template_B = lot_MS[:, jnp.arange(K) % S].reshape(-1)
    wide_BP = jnp.pad(of.tokens_BP, ((0, 0), (0, T)))[:, :T]
    asked_BP, asked_B, fits_B = prompts_lib.ask(
      wide_BP, of.subject_B2, prompts, template_B, width=T, bos=self.bos
    )
    begin_B1 = 1 + prompts.before_length_S[template_B][:, None]
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
    texts = document_context.sample(
      self.model, author, asked, write_key, settings=self.settings,
      eos=self.eos, temperature=d.temperature,
    )  # fmt: skip
    return texts, asked.replace(context=None), about_M, expert_B

  def _wording(self, weights, author, texts):
    """How a round's dreams read, as means."""
    size = self.settings.max_new
    own_BG, _ = answer_likelihood.log_likelihood(
      self.model, author, document_context.prepend_to_rollout(texts), size
    )
    bare_BG, _ = answer_likelihood.log_likelihood(
      self.model, weights, texts.replace(context=None), size
    )
    tokens_B = texts.length_B - texts.prompt_length_B
    count = jnp.maximum(jnp.sum(tokens_B), 1)
    at_BG = texts.prompt_length_B[:, None] + jnp.arange(size)[None]
    said_BG = jnp.take_along_axis(
      texts.tokens_BT, jnp.minimum(at_BG, texts.tokens_BT.shape[1] - 1), 1
    )
    same_BB = texts_lib.pairwise_equal(texts.tokens_BT, texts.length_B)
    first_B = ~jnp.any(jnp.tril(same_BB, -1), 1)
    return {
      'entropy': -jnp.sum(own_BG) / count,
      'likelihood': jnp.sum(bare_BG) / count,
      'repetition': jnp.mean(imitation_reward.repetition(said_BG, tokens_B)),
      'distinct': jnp.mean(first_B),
      'written': jnp.sum(tokens_B),
    }

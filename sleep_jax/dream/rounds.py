"""Writes dreams about a task, tries them, and trains the writer, in rounds.

In each round the model, with a document in its context, writes texts. The most
important dreams are tried one by one; the writer's adapter is trained on the
dreams that improved the practice score, and writes the next round. No weight of
the model itself changes.

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
from sleep_jax.model import lora
from sleep_jax.objectives import answer_likelihood, imitation_reward
from sleep_jax.replay import prompts as prompts_lib
from sleep_jax.sleep import document_context, document_sampling
from sleep_jax.sleep import settings as sleep_settings

Array = types.Array
# Result of the trials:
# - training rows of the dreams that were tried, [B, T]: their own texts, or the
#   lessons of a task whose dreams are choices;
# - prompts that the dreams were written on, [A, P], with length 0 unless the
#   dream was rewarded;
# - weight of each training row, [B].
TriedDreams = tuple[types.Rollout, types.Prompts, Array]


@dataclasses.dataclass(frozen=True)
class DreamRounds:
  """Dreams about a task, as array programs.

  Attributes:
    model: with `states_at`, `logits`, `prefill`, `decode`.
    bos, eos: token ids.
    settings: maximum lengths of prompts and texts.
    dreams: settings of the dreams.
    trial_placement: how trials are spread over devices.
  """

  model: types.Model
  bos: int
  eos: int
  settings: sleep_settings.Settings
  dreams: dream_settings.Settings
  trial_placement: trials.TrialPlacement = trials.TrialPlacement()

  def dream(
    self,
    weights: types.Weights,
    key: Array,
    templates: types.PromptTemplates,
    task: types.Task,
  ) -> tuple[lora.Adapter, TriedDreams, dict]:
    """Runs all rounds.

    Args:
      weights: of the model; they stay constant.
      key: consumed.
      templates: prompts to write on, with a slot for a document's subject.
      task: documents and practice questions.

    Returns:
      The writer's adapter after the last round; the dreams that were tried in
      all rounds; and the dream records, `[rounds, candidates, ...]`, see
      `_round`.
    """
    d = self.dreams
    initial = lora.init(
      jax.random.fold_in(key, 0),
      weights.params,
      rank=d.writer.rank,
      targets=d.writer.targets,
    )

    def run_round(writer, number):
      writer, tried, records = self._round(
        weights,
        writer,
        initial,
        jax.random.fold_in(key, 1 + number),
        templates,
        task,
      )
      return writer, (tried, records)

    writer, (tried, records) = jax.lax.scan(
      run_round, initial, jnp.arange(d.rounds)
    )
    texts, prompts, weight_B = jax.tree.map(
      lambda x: x.reshape(-1, *x.shape[2:]), tried
    )
    if task.choices is not None:
      # The writer teaches the lessons of its choices, so it learns them first.
      writer = trials.train_adapter(
        self.model,
        weights,
        texts.replace(context=None),
        weight_B,
        jax.random.fold_in(key, 1 + d.rounds),
        adapter=writer,
        settings=d.writer,
        size=self.settings.max_new,
      )
    return writer, (texts, prompts, weight_B), records

  def _make_lessons(self, texts, choices):
    """Returns the lessons of each dream, and which texts are usable, `[B]`."""
    d = self.dreams
    valid_B = texts_lib.is_usable(texts, self.eos if d.whole else None)
    if choices is None:
      valid_MK = valid_B.reshape(d.candidates, d.texts)
      return lessons_lib.from_texts(
        texts.replace(context=None), valid_MK
      ), valid_B
    choice_B, matched_B = texts_lib.match_choices(texts, choices)
    valid_B &= matched_B
    weight_BR = choices.weight_CR[choice_B] * valid_B[:, None]
    lessons = lessons_lib.Lessons(
      choices.lessons,
      weight_BR,
      choices.rate_C[choice_B],
      choices.share_C[choice_B],
    )
    return lessons, valid_B

  def _with_empty_context(self, rows):
    """Returns rows behind a document of BOS alone, for rows without one."""
    num = len(rows.length_B)
    bos_only = types.Texts(
      jnp.full((num, 1), self.bos, jnp.int32), jnp.ones((num,), jnp.int32)
    )
    return rows.replace(context=bos_only)

  def _round(self, weights, writer, initial, key, templates, task):
    """Runs one round: writes, selects, tries, and trains the writer.

    Args:
      weights: of the model.
      writer: adapter that writes.
      initial: untrained adapter, from which the writer may start again.
      key: consumed.
      templates, task: see `dream`.

    Returns:
      The writer; the dreams that were tried, see `TriedDreams`; and the
      records: per candidate `texts` (tokens, prompt and whole lengths, whether
      usable, forced-open expert), `document`, `importance`, `valid`, `tried`,
      `gain` (mean over repeats) and `rewarded`; per round `nothing` (score
      without a dream), `entropy` and `likelihood` (nats per token, by the
      writer and by the model without the document), `repetition`, `distinct`
      and `written`.
    """
    d, size = self.dreams, self.settings.max_new
    M, K = d.candidates, d.texts
    write_key, importance_key, select_key, trial_key, train_key = (
      jax.random.split(key, 5)
    )
    writer_weights = lora.attach(weights, writer, scale=d.writer.scale)
    texts, prompts, document_M, expert_B = self._write(
      writer_weights, write_key, templates, task
    )
    lessons, valid_B = self._make_lessons(texts, task.choices)
    with jax.named_scope('importance'):
      importance_M = importance.importance(
        self.model,
        weights,
        lessons,
        task.practice,
        importance_key,
        size=size,
        how=d.importance,
        targets=d.trial.targets,
        rows=self.trial_placement.rows,
      )
    valid_M = jnp.any(lessons.weight_MK > 0, 1) & jnp.isfinite(importance_M)
    index_C, selected_C = importance.select_dreams(
      importance_M, valid_M, select_key, top=d.top, random=d.random
    )
    tried = lessons.select(index_C)
    with jax.named_scope('trials'):
      gain_CR, baseline = trials.measure_gains(
        self.model,
        weights,
        tried,
        task.practice,
        trial_key,
        settings=d,
        size=size,
        placement=self.trial_placement,
      )
    gain_C = jnp.mean(gain_CR, 1)
    rewarded_C = selected_C & (gain_C > d.margin)
    row_B = (index_C[:, None] * K + jnp.arange(K)[None]).reshape(-1)
    rows, prompts, usable_B = jax.tree.map(
      lambda x: x[row_B], (texts, prompts, valid_B)
    )
    weight_B = jnp.repeat(rewarded_C, K) * usable_B.astype(jnp.float32)
    prompts = prompts.replace(
      length_B=jnp.where(weight_B > 0, prompts.length_B, 0)
    )
    start = initial if d.start == dream_settings.BASE else writer
    with jax.named_scope('learn_to_write'):
      trained = trials.train_adapter(
        self.model,
        weights,
        document_context.prepend_to_rollout(rows),
        weight_B,
        train_key,
        adapter=start,
        settings=d.writer,
        size=size,
      )
      # Without a reward nothing was trained.
      is_rewarded = jnp.any(weight_B > 0)
      writer = jax.tree.map(
        lambda new, old: jnp.where(is_rewarded, new, old), trained, writer
      )
    result = rows, prompts, weight_B
    if task.choices is not None:
      weight_R = jnp.minimum(rewarded_C @ tried.weight_MK, 1)
      result = self._with_empty_context(tried.rows), prompts, weight_R
    # An entry that is no valid dream may hold the index of another one that is:
    # it is scattered out of range, and dropped.
    target_C = jnp.where(selected_C, index_C, M)
    scatter = lambda value: (
      jnp.zeros((M,), value.dtype).at[target_C].set(value, mode='drop')
    )
    records = {
      'texts': {
        'tokens': texts.tokens_BT.reshape(M, K, -1),
        'prompt_length': texts.prompt_length_B.reshape(M, K),
        'length': texts.length_B.reshape(M, K),
        'whole': valid_B.reshape(M, K),
        'expert': expert_B.reshape(M, K),
      },
      'document': document_M,
      'importance': importance_M,
      'valid': valid_M,
      'tried': scatter(selected_C),
      'gain': scatter(gain_C),
      'rewarded': scatter(rewarded_C),
      'nothing': baseline,
      **self._text_statistics(weights, writer_weights, texts),
    }
    return writer, result, records

  def _write(self, writer_weights, key, templates, task):
    """Samples the texts of all dreams of a round.

    Returns:
      Texts `[M K, T]`; their prompts, without documents; the document of each
      dream, `[M]`; and the expert whose gate was forced open while each text
      was written, `[M K]`, -1 for none.
    """
    d, T = self.dreams, self.settings.prompt_width
    M, K, N = d.candidates, d.texts, len(task.prompts.length_B)
    order_key, template_key, expert_key, write_key = jax.random.split(key, 4)
    document_M = jnp.resize(jax.random.permutation(order_key, N), (M,))
    row_B = jnp.repeat(document_M, K)
    source = jax.tree.map(lambda x: x[row_B], task.prompts)
    # The texts of a dream use different templates, as far as there are any.
    S = templates.before_length_S.shape[0]
    order_MS = jnp.argsort(jax.random.uniform(template_key, (M, S)), 1)
    template_B = order_MS[:, jnp.arange(K) % S].reshape(-1)
    padded_BP = jnp.pad(source.tokens_BP, ((0, 0), (0, T)))[:, :T]
    tokens_BP, length_B, fits_B = prompts_lib.fill_templates(
      padded_BP,
      source.subject_B2,
      templates,
      template_B,
      width=T,
      bos=self.bos,
    )
    start_B1 = 1 + templates.before_length_S[template_B][:, None]
    size_B1 = source.subject_B2[:, 1:] - source.subject_B2[:, :1]
    subject_B2 = jnp.concatenate([start_B1, start_B1 + size_B1], 1)
    prompts = types.Prompts(
      tokens_BP=tokens_BP,
      # A prompt that does not fit is replaced by BOS alone.
      length_B=jnp.where(fits_B, length_B, 1),
      subject_B2=jnp.where(fits_B[:, None], subject_B2, 0),
      context=source.context,
    )
    active_NE = writer_weights.active_NE
    flat_E = active_NE.reshape(-1)
    expert_B = jax.random.categorical(
      expert_key, jnp.where(flat_E > 0, 0.0, -jnp.inf), shape=(M * K,)
    )
    forced = jnp.any(flat_E > 0) & d.novelty
    expert_B = jnp.where(forced, expert_B, -1)
    if d.novelty:
      opened_BE = jax.nn.one_hot(expert_B, flat_E.shape[0])
      writer_weights = writer_weights.replace(
        opened_BNE=opened_BE.reshape(-1, *active_NE.shape)
      )
    texts = document_sampling.sample(
      self.model,
      writer_weights,
      prompts,
      write_key,
      settings=self.settings,
      eos=self.eos,
      temperature=d.temperature,
    )
    return texts, prompts.replace(context=None), document_M, expert_B

  def _text_statistics(self, weights, writer_weights, texts):
    """Returns mean statistics of the texts of a round."""
    size = self.settings.max_new
    writer_BG, _ = answer_likelihood.log_likelihood(
      self.model,
      writer_weights,
      document_context.prepend_to_rollout(texts),
      size,
    )
    model_BG, _ = answer_likelihood.log_likelihood(
      self.model, weights, texts.replace(context=None), size
    )
    tokens_B = texts.length_B - texts.prompt_length_B
    count = jnp.maximum(jnp.sum(tokens_B), 1)
    at_BG = texts.prompt_length_B[:, None] + jnp.arange(size)[None]
    generated_BG = jnp.take_along_axis(
      texts.tokens_BT, jnp.minimum(at_BG, texts.tokens_BT.shape[1] - 1), 1
    )
    equal_BB = texts_lib.pairwise_equal(texts.tokens_BT, texts.length_B)
    first_B = ~jnp.any(jnp.tril(equal_BB, -1), 1)
    return {
      'entropy': -jnp.sum(writer_BG) / count,
      'likelihood': jnp.sum(model_BG) / count,
      'repetition': jnp.mean(
        imitation_reward.repetition(generated_BG, tokens_B)
      ),
      'distinct': jnp.mean(first_B),
      'written': jnp.sum(tokens_B),
    }

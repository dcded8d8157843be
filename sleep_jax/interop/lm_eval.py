"""Connects a model to lm-evaluation-harness.

The harness is an optional dependency. If it is installed, pass the result of
`make_adapter` to `lm_eval.simple_evaluate(model=...)`. Scores and texts are
those of the harness's `hf` model on the same weights, and options have its
names; the rules are in `eval_requests` and `eval_tokenizer`.

Reference: github.com/EleutherAI/lm-evaluation-harness, version 0.4.13.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from sleep_jax import errors
from sleep_jax.data import chat_template, template_files
from sleep_jax.interop import (
  eval_generation,
  eval_requests,
  eval_scoring,
  eval_tokenizer,
  open_model,
  positions,
)
from sleep_jax.model import streaming

_MAX_LENGTH = 2048  # Of a model that has no number of positions.


class LmEvalModel:
  """Computes log-likelihoods and continuations in batches.

  Args:
    loaded: the model.
    batch_size: rows per batch. It does not change a score.
    max_length: most tokens that the model reads at once. None: the positions of
      the model, or 2048 if it was pretrained here.
    add_bos_token, prefix_token_id, truncation: see `EvalTokenizer`.
    think_end_token: text or id of the token that ends a reasoning, which is
      removed from generated texts.
    enable_thinking: passed on to the chat template, if not None.
    chat_template_args: further variables of the chat template.
    seed: of sampling.

  Raises:
    UsageError: an option is impossible.
  """

  def __init__(
    self,
    loaded: open_model.LoadedModel,
    *,
    batch_size: int = 8,
    max_length: int | None = None,
    add_bos_token: bool | None = None,
    prefix_token_id: int | None = None,
    truncation: bool = False,
    think_end_token: str | int | None = None,
    enable_thinking: bool | None = None,
    chat_template_args: Mapping[str, Any] | None = None,
    seed: int = 0,
  ):
    for name, value in (('batch_size', batch_size), ('max_length', max_length)):
      if value is not None and (type(value) is not int or value < 1):
        raise errors.UsageError(f'{name}={value!r}: expected 1 or more.')
    if enable_thinking and think_end_token is None:
      raise errors.UsageError(
        'enable_thinking=True needs think_end_token, such as "</think>": '
        'without it, the reasoning would be scored as the answer.'
      )
    self._loaded, self._batch_size = loaded, batch_size
    self.tokenizer = eval_tokenizer.EvalTokenizer(
      loaded, add_bos_token=add_bos_token, prefix_token_id=prefix_token_id,
      truncation=truncation,
    )  # fmt: skip
    self.max_length = (
      max_length
      or positions.max_positions(loaded)
      or self.tokenizer.model_max_length
      or _MAX_LENGTH
    )
    self._think_end_token = think_end_token
    if isinstance(think_end_token, str) and think_end_token.isdigit():
      self._think_end_token = int(think_end_token)
    self._enable_thinking = enable_thinking
    self._template_args = dict(chat_template_args or {})
    if enable_thinking is not None:
      self._template_args['enable_thinking'] = enable_thinking
    self._seed, self._num_batches = seed, 0

  @property
  def folder(self) -> str:
    """Directory of the pretrained model, '' of one that was pretrained here."""
    base = self._loaded.base_model
    return '' if base is None else str(base.folder)

  def likelihoods(
    self, pairs: Sequence[tuple[str, str]]
  ) -> list[tuple[float, bool]]:
    """Scores (context, continuation) pairs.

    Returns:
      For each pair the log-likelihood of the continuation in nats, and whether
      it is the greedy continuation.

    Raises:
      UsageError: a continuation has no tokens or more than `max_length`.
    """
    if self._enable_thinking:
      raise errors.UsageError(
        'enable_thinking=True does not work with tasks that score given '
        'answers: leave it out, or run generative tasks only.'
      )
    return self._score([
      eval_requests.encode_pair(self.tokenizer, *pair) for pair in pairs
    ])  # fmt: skip

  def rolling_likelihoods(self, texts: Sequence[str]) -> list[float]:
    """Returns the log-likelihood of each whole text in nats.

    Long texts are scored in windows of `max_length` tokens, in each of which
    the first scored token has one token before it, and the last window has as
    many as fit.
    """
    windows = [
      list(
        eval_requests.rolling_windows(
          self.tokenizer.encode(text),
          self.tokenizer.prefix_token_id,
          self.max_length,
        )
      )
      for text in texts
    ]
    scores = iter(self._score([one for many in windows for one in many]))
    return [sum(next(scores)[0] for _ in many) for many in windows]

  def generate(
    self, requests: Sequence[tuple[str, Mapping[str, Any]]]
  ) -> list[str]:
    """Generates a continuation of each context up to its first stop string.

    Args:
      requests: contexts, each with options such as 'until' (a string or a list
        of strings), 'max_gen_toks' (256), 'do_sample' and 'temperature', see
        `eval_requests.generation`.

    Raises:
      UsageError: an option is impossible or not supported.
    """
    groups: dict[eval_requests.Generation, list[int]] = {}
    rows = []
    for index, (context, options) in enumerate(requests):
      made = eval_requests.generation(
        options, eos_text=self.tokenizer.eos_text,
        defaults=self._generation_config,
      )  # fmt: skip
      groups.setdefault(made, []).append(index)
      rows.append(self._encode_context(context, made))
    texts: dict[int, str] = {}
    for made, members in groups.items():
      members.sort(key=lambda i: -len(rows[i]))
      for indices in eval_scoring.chunks(members, self._batch_size):
        found = self._generate([rows[i] for i in indices], made)
        texts |= zip(indices, found, strict=True)
    return [texts[i] for i in range(len(rows))]

  def apply_chat_template(
    self,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = True,
  ) -> str:
    """Renders a conversation; without system messages if they are refused.

    Raises:
      UsageError, MissingFileError: the model has no chat template.
      ModelFileError: the template cannot render the conversation.
    """
    options = dict(
      self._template_args, add_generation_prompt=add_generation_prompt,
      continue_final_message=not add_generation_prompt,
    )  # fmt: skip
    template = self.chat_template()
    try:
      return template.render(messages, **options).text
    except errors.ModelFileError:
      rest = [one for one in messages if one['role'] != 'system']
      if len(rest) == len(messages):
        raise
      return template.render(rest, **options).text

  @functools.cache  # noqa: B019  Lives as long as the model.
  def chat_template(
    self, name: str | None = None
  ) -> chat_template.ChatTemplate:
    """Returns the chat template, or one of several by its name."""
    if not self.folder:
      raise errors.UsageError(
        'This model was pretrained here and has no chat template: leave '
        'apply_chat_template out.'
      )
    return chat_template.ChatTemplate(self.folder, None, name=name)

  @functools.cached_property
  def _decoding_weights(self):
    return streaming.prepare(self._loaded.model, self._loaded.weights)

  @functools.cached_property
  def _generation_config(self) -> dict[str, Any]:
    base = self._loaded.base_model
    if base is None:
      return {}
    return template_files.read_json(base.folder / 'generation_config.json')

  @functools.cached_property
  def _ends(self) -> set[int]:
    """Returns the tokens at which transformers ends a text."""
    base = self._loaded.base_model
    if base is None:
      return set(self._loaded.end_tokens)
    found = self._generation_config.get('eos_token_id')
    found = base.config.get('eos_token_id') if found is None else found
    return set(found if isinstance(found, list) else [found]) - {None}

  def _score(self, pairs) -> list[tuple[float, bool]]:
    rows = [eval_requests.truncate_pair(one, self.max_length) for one in pairs]
    return eval_scoring.score(self._loaded, rows, self._batch_size)

  def _encode_context(self, context, made) -> list[int]:
    """Encodes a context and cuts its beginning, so that the text fits."""
    room = self.max_length - made.max_gen_toks
    if room < 1:
      raise errors.UsageError(
        f'max_gen_toks={made.max_gen_toks}, but max_length is '
        f'{self.max_length}, so no context fits: set a smaller max_gen_toks in '
        'gen_kwargs. The harness refuses this too.'
      )
    ids = self.tokenizer.encode_context(context)[-room:]
    if not ids:
      raise errors.UsageError(
        'A context to be continued has no tokens: set add_bos_token=True, or '
        'correct the task. The harness cannot continue it either.'
      )
    return ids

  def _generate(self, rows, made: eval_requests.Generation) -> list[str]:
    """Continues contexts together."""
    longest = max(map(len, rows))
    # As in the harness, the longest context of a batch counts.
    max_new = made.max_gen_toks
    if made.max_length is not None:
      max_new = made.max_length - longest
    if max_new < 1:
      raise errors.UsageError(
        f'max_length={made.max_length} of the generation options, but a '
        f'context has {longest} tokens: use max_gen_toks instead.'
      )
    key = jax.random.fold_in(jax.random.key(self._seed), self._num_batches)
    self._num_batches += 1
    tokens = eval_generation.generate(
      self._loaded.model, self._decoding_weights, self.tokenizer, rows, key,
      made, max_new=max_new, ends=self._ends,
    )  # fmt: skip
    return [
      eval_generation.text_of(
        self.tokenizer, ids, made.until, self._think_end_token
      )
      for ids in tokens
    ]


def make_adapter(model: LmEvalModel) -> Any:
  """Wraps a model in the harness's `LM` class.

  Raises:
    MissingPackageError: lm-evaluation-harness is not installed.
  """
  try:
    from lm_eval.api import model as harness  # type: ignore[import-not-found]
  except ImportError as error:
    raise errors.MissingPackageError(
      'lm-evaluation-harness is not installed: pip install lm_eval.'
    ) from error

  class Adapter(harness.LM):
    """The model for the harness; its cache gets every result."""

    max_gen_toks = eval_requests.MAX_GEN_TOKS

    @property
    def max_length(self):
      return model.max_length

    @property
    def eot_token_id(self):
      return model.tokenizer.eot_token_id

    @property
    def prefix_token_id(self):
      return model.tokenizer.prefix_token_id

    @property
    def tokenizer_name(self):
      return model.folder.replace('/', '__')

    def loglikelihood(self, requests, disable_tqdm=False):
      return self._noted('loglikelihood', requests, model.likelihoods)

    def loglikelihood_rolling(self, requests, disable_tqdm=False):
      return self._noted(
        'loglikelihood_rolling', requests,
        lambda args: model.rolling_likelihoods([text for (text,) in args]),
      )  # fmt: skip

    def generate_until(self, requests, disable_tqdm=False):
      return self._noted('generate_until', requests, model.generate)

    def apply_chat_template(self, chat_history, add_generation_prompt=True):
      return model.apply_chat_template(
        chat_history, add_generation_prompt=add_generation_prompt
      )

    def chat_template(self, chat_template=False):
      if chat_template is False or chat_template is None:
        return None
      name = chat_template if isinstance(chat_template, str) else None
      return model.chat_template(name).source

    def _noted(self, kind, requests, compute):
      args = [request.args for request in requests]
      results = compute(args)
      for one, result in zip(args, results, strict=True):
        self.cache_hook.add_partial(kind, one, result)
      return results

  return Adapter()

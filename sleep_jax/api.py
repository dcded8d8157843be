"""The Python API: load a model, teach it, let it sleep, ask it.

    learner = sleep_jax.load('runs/smoke')
    learner.wake(['Ada Ray lives in Oslo.', 'Ada Ray plays the harp.'])
    learner.sleep()
    learner.generate('Ada Ray lives in')

The commands `chat`, `generate` and `convert` are built from the same objects.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from sleep_jax import errors
from sleep_jax.data import chat_template as chat_template_lib
from sleep_jax.evaluate import questions
from sleep_jax.interop import (
  description,
  distilled_export,
  expert_file,
  export_formats,
  gguf_export,
  hf_export,
  open_model,
  text_stream,
)
from sleep_jax.model import streaming
from sleep_jax.runs import expert_history, session
from sleep_jax.storage import compile_cache


def load(
  source: str,
  workdir: str | None = None,
  *,
  config: ml_collections.ConfigDict | str | None = None,
  seed: int = 0,
  strategy: str = session.STRATEGY,
  dtype: str = 'float32',
  experts: str | None = None,
  verbose: bool = True,
) -> 'Learner':
  """Loads a model that can be asked and taught.

  Args:
    source: Hugging Face model directory, GGUF file, fetched model ('smollm2'),
      work directory of a run, or folder that `Learner.save` wrote. It is never
      changed, unless it is such a folder and `workdir` is None.
    workdir: folder that keeps the days that are learned, and the run that
      learns them. It is continued if it exists. None: a temporary folder, which
      is deleted with the learner; `Learner.save` keeps it.
    config: how days and nights are spent, or its name ('pretrained' for rows);
      None: as the run was, or, of a pretrained model, `configs/chat.py`.
    seed: of a run; also seeds sampling. A folder of earlier days keeps its own.
    strategy: of a run; only 'sleep' can be taught further.
    dtype: type of a pretrained model's parameters.
    experts: file of experts to attach, see `Learner.export`. The result can be
      asked, but not taught.
    verbose: whether progress is printed to standard error.

  Returns:
    A learner.

  Raises:
    SleepJaxError: nothing can be loaded; see `session.Session`.
  """
  compile_cache.start(getattr(config, 'compile_cache', ''))
  opened = session.Session(
    source, workdir, config=config, seed=seed, strategy=strategy, dtype=dtype,
    verbose=verbose,
  )  # fmt: skip
  return Learner(opened, seed=seed, experts=experts)


class Learner:
  """A model that is taught day by day; made by `load`.

  Learners of one folder may change it in turns, in one process or several:
  `wake`, `sleep` and `forget` hold it, and begin with what the others changed.
  While one of them holds it, the others are refused. `generate` and `answer`
  use the model as of this learner's own last change.

  Attributes:
    session: its files.
  """

  def __init__(
    self, opened: session.Session, *, seed: int = 0, experts: str | None = None
  ):
    self.session, self._seed, self._experts = opened, seed, experts
    self._prepared: tuple[Any, ...] | None = None

  @property
  def loaded(self) -> open_model.LoadedModel:
    """Model, weights and tokenizer, as they are now."""
    return self.session.loaded

  def generate(
    self, prompts: str | Sequence[str], **sampling: Any
  ) -> str | list[str]:
    """Continues one prompt or several.

    Args:
      prompts: a text, or several; see `encode_prompt` in data/tokenizer.py.
      **sampling: `max_new` (64 tokens), `temperature` (0, the likeliest
        tokens), `top_k` (0, all), `top_p` (1.0) and `seed`.

    Returns:
      The continuation without its prompt, or a list of them.

    Raises:
      UsageError: a prompt is empty or, with `max_new`, longer than the model
        has positions, or an option is impossible.
    """
    if isinstance(prompts, str):
      return self.generate([prompts], **sampling)[0]
    texts = ['' for _ in prompts]
    for pieces in self.stream(prompts, **sampling):
      texts = [a + b for a, b in zip(texts, pieces, strict=True)]
    return texts

  def stream(
    self, prompts: Sequence[str], **sampling: Any
  ) -> Iterator[list[str]]:
    """As `generate`, but yields pieces of each text as they are generated."""
    text_stream.check_prompts(prompts)
    tokenizer = self.loaded.tokenizer
    rows = [tokenizer.encode_prompt(prompt) for prompt in prompts]
    return self._stream(rows, **sampling)

  def answer(
    self, messages: str | Sequence[Mapping[str, str]], **sampling: Any
  ) -> str:
    """Answers a message, or the last one of a conversation.

    Args:
      messages: a text, or dicts with 'role' and 'content'.
      **sampling: see `generate`; `max_new` is 256.

    Raises:
      SleepJaxError: there is no chat template, or it refuses the messages.
    """
    return ''.join(self.stream_answer(messages, **sampling))

  def stream_answer(
    self, messages: str | Sequence[Mapping[str, str]], **sampling: Any
  ) -> Iterator[str]:
    """As `answer`, in pieces as they are generated."""
    return (piece for (piece,) in self.stream_answers([messages], **sampling))

  def stream_answers(
    self,
    conversations: Sequence[str | Sequence[Mapping[str, str]]],
    **sampling: Any,
  ) -> Iterator[list[str]]:
    """As `stream_answer`, for several conversations at once."""
    template = self.chat_template()
    text_stream.check_prompts([c for c in conversations if isinstance(c, str)])
    rows = [
      template.encode(
        [{'role': 'user', 'content': c}] if isinstance(c, str) else c
      )
      for c in conversations
    ]
    return self._stream(rows, **({'max_new': 256} | sampling))

  def wake(self, rows: Iterable[session.Row]) -> None:
    """Learns a day awake: its levels are updated, nothing is consolidated.

    Args:
      rows: texts, or dicts as in a file of rows, see `datasets.row_formats`.

    Raises:
      SleepJaxError: nothing is learned then; see `session.Session.add_day`.
    """
    self._check_teachable()
    with self.session.hold():
      self.session.add_day(rows)
      self.session.run(awake_only=True)

  def sleep(self) -> list[dict[str, Any]]:
    """Consolidates the day; also continues a night that was interrupted.

    Returns:
      Records of the nights: 'night', 'accepted', 'reason', 'slot' and more.

    Raises:
      UsageError: nothing was learned since the last night.
    """
    self._check_teachable()
    with self.session.hold():
      if not self.session.needs_night():
        raise errors.UsageError(
          'Nothing was learned since the last night: there is nothing to '
          'consolidate. Call wake(rows) first.'
        )
      before = self.loaded.num_nights
      return self.session.run()[before:]

  def forget(
    self, night: int, confirm: Callable[[str], bool] = lambda where: False
  ) -> bool:
    """Switches off the expert that holds a night.

    Args:
      night: its number, from 1.
      confirm: called with a sentence that says where the night is, if its
        expert also holds other nights or was merged; they are lost too if it
        returns True.

    Returns:
      Whether the expert was switched off.

    Raises:
      UsageError: no expert holds that night, or a night is under way.
    """
    with self.session.hold():  # No other learner uses the expert meanwhile.
      history = self.loaded.expert_history
      (level, slot), where = expert_history.expert_to_forget(history, night)
      if where and not confirm(where):
        return False
      self.session.forget(level, slot)
    return True

  def evaluate(self, rows: Iterable[Mapping[str, str]]) -> dict[str, float]:
    """Scores questions in an empty context.

    Args:
      rows: dicts with 'prompt' and 'answer'; an answer usually starts with a
        space.

    Returns:
      'accuracy': share of greedy answers that equal the expected one, end of
      text included; 'log_likelihood': mean nats per token of the expected
      answers; 'num_probes'.

    Raises:
      DataError: a row lacks a field, or there are no rows.
    """
    loaded, model, weights, _ = self._parts()
    return questions.score(model, weights, loaded.tokenizer, rows)

  def save(self, folder: str) -> None:
    """Copies everything that was learned to a new folder, for `load`.

    Raises:
      UsageError: nothing was learned yet.
      ExistsError: the folder is not empty.
    """
    self.session.save(folder)

  def export(
    self,
    target: str,
    format: str = 'hf',
    *,
    dtype: str = 'float32',
    distil: distilled_export.Settings | None = None,
  ) -> None:
    """Writes the model for other programs.

    Args:
      target: folder, or file of experts; must not exist.
      format: 'hf': an ordinary Hugging Face checkpoint, exact where the gates
        of experts are always open; 'gguf-f16', 'gguf-q8_0': the same as a GGUF
        file; 'experts': the experts alone, a safetensors file with a card.
      dtype: of the parameters of 'hf', 'float32' or 'bfloat16'.
      distil: trains a dense student first, where no exact export exists.

    Raises:
      UsageError: an argument is unknown or has no effect with the format, or
        no exact export exists.
      ExistsError: the target exists; an empty folder is allowed for 'hf'.
      DivergedError: the dense student of `distil` diverges.
    """
    export_formats.check(format, dtype=dtype, distils=distil is not None)
    loaded, model, weights, _ = self._parts()
    if format == 'experts':
      return expert_file.save(
        model, weights, target, expert_history=loaded.expert_history
      )
    if distil is not None:
      model, weights = distilled_export.distil(
        model, weights, self.session.stored_prompts(),
        jax.random.key(self._seed), eos=loaded.tokenizer.eos, log_fn=print,
        settings=distil,
      )  # fmt: skip
    parts = dict(tokenizer=loaded.tokenizer, base_model=loaded.base_model)
    kind = format.removeprefix('gguf-')
    if kind in gguf_export.KINDS:
      return gguf_export.save(model, weights, target, kind=kind, **parts)
    return hf_export.save(model, weights, target, dtype=dtype, **parts)

  def describe(self) -> str:
    """Returns a few lines: sizes, levels, active experts, and their nights."""
    loaded, model, weights, _ = self._parts()
    return description.describe(model, weights, loaded)

  def _parts(self):
    """Returns what is loaded, model, weights, and weights to stream with."""
    loaded = self.loaded
    if self._prepared is None or self._prepared[0] is not loaded:
      model, weights = loaded.model, loaded.weights
      if self._experts is not None:
        model, weights = expert_file.attach(model, weights, self._experts)
      streamed = streaming.prepare(model, weights)
      self._prepared = loaded, model, weights, streamed
    return self._prepared

  def _stream(
    self,
    rows: Sequence[Sequence[int]],
    *,
    seed: int | None = None,
    **sampling: Any,
  ) -> Iterator[list[str]]:
    """Yields a piece of text for each row of tokens."""
    loaded, model, _, streamed = self._parts()
    seed = self._seed if seed is None else seed
    return text_stream.stream(
      loaded, model, streamed, rows, seed=seed, **sampling
    )

  def chat_template(self) -> chat_template_lib.ChatTemplate:
    """Returns the chat template of the pretrained model.

    Raises:
      UsageError, MissingFileError: it has no usable one.
    """
    base = self.loaded.base_model
    if base is None:
      raise errors.UsageError(
        'This model was pretrained here and has no chat template: use '
        'generate(prompt) instead of answer(messages).'
      )
    folder, ends = self.session.chat_folder, self.loaded.end_tokens
    return chat_template_lib.ChatTemplate(
      str(folder), ends, vocab_size=base.vocab_size
    )

  def _check_teachable(self) -> None:
    if self._experts is not None:
      raise errors.UsageError(
        'Experts were attached from a file: this learner can be asked, but not '
        'taught. Load the model without `experts`.'
      )
    self._prepared = None  # Frees the weights: a run reads its own.

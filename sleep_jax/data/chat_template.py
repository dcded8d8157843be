"""Renders and encodes conversations with the chat template of a model.

The text is the one that transformers renders, and the tokens those that it
encodes, with one difference: a control token whose name stands in a message is
encoded as plain text, so a message cannot forge a turn of another role, see
`control_tokens`. The template runs in a sandbox with limits, see
`template_sandbox`.
"""

import datetime
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from sleep_jax import errors
from sleep_jax.data import control_tokens, template_files, template_sandbox
from sleep_jax.data import messages as messages_lib

Message = messages_lib.Message
_QUESTION, _ANSWER = 'Wovon spricht Pjotr?', 'Von Zwiebeln, glaube ich.'


class Rendering(NamedTuple):
  """A rendered conversation.

  Attributes:
    text: the text.
    spans: characters [start, end) of what the model writes, if the template
      marks it with `{% generation %}`.
  """

  text: str
  spans: list[tuple[int, int]]


class EncodedChat(NamedTuple):
  """An encoded conversation.

  Attributes:
    ids: the tokens.
    offsets: characters [start, end) of each token in `text`.
    text: the text.
    spans: see `Rendering`.
  """

  ids: list[int]
  offsets: list[tuple[int, int]]
  text: str
  spans: list[tuple[int, int]]

  @property
  def assistant_mask(self) -> list[int]:
    """Returns 1 for each token that overlaps a span, else 0."""
    return [
      int(any(start < end_span and end > start_span
              for start_span, end_span in self.spans))
      for start, end in self.offsets
    ]  # fmt: skip


class ChatTemplate:
  """Converts conversations to text and to tokens.

  Args:
    folder: folder of a Hugging Face model.
    ends: tokens that end the model's turn. None: for rendering only, so it is
      not checked that contents are kept and generation stops.
    name: which of several named templates. None: the default one, or with tools
      the one for tools.
    date: what a template reads as the present time; None: the present time.
    vocab_size: rows of the embedding, which the tokens must be; None: any.

  Attributes:
    sources: text of each template by name.
    ends: tokens that end the model's turn.
    fingerprint: equal for equal templates with equal tokenizers only.

  Raises:
    MissingFileError: the folder has no chat template or no tokenizer.
    UsageError: there is no template of this name.
    ModelFileError: the template cannot be parsed, drops message contents, takes
      too many steps, does not end an assistant turn with one of `ends`, or
      writes a token that is no row of the embedding.
  """

  def __init__(
    self,
    folder: str,
    ends: Sequence[int] | None,
    *,
    name: str | None = None,
    date: datetime.datetime | None = None,
    vocab_size: int | None = None,
  ):
    home = pathlib.Path(folder).expanduser()
    files = template_files.read(home)
    self.sources, self._paths = files.sources, files.paths
    self._special_tokens = files.special_tokens
    if name is None and template_files.DEFAULT not in self.sources:
      raise errors.UsageError(
        f'{home} has the chat templates {sorted(self.sources)} and no default: '
        'choose one by its name.'
      )
    if name is not None and name not in self.sources:
      raise errors.UsageError(
        f'{home} has no chat template {name!r}, but {sorted(self.sources)}.'
      )
    self._name, self._date, self._vocab_size = name, date, vocab_size
    self._compiled: dict[str, template_sandbox.Template] = {}
    self._tokenizer = template_files.load_tokenizer(home)
    self.ends = frozenset(ends or ())
    found = [
      self.source, self._special_tokens, sorted(self.ends),
      self._tokenizer.to_str(), str(date),
    ]  # fmt: skip
    self.fingerprint = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    self._names = self._check(ends)

  @property
  def source(self) -> str:
    """Text of the template that is used without tools."""
    return self.sources[self._name or template_files.DEFAULT]

  @property
  def marks_answers(self) -> bool:
    """Whether the template has `{% generation %}` blocks."""
    return template_sandbox.has_generation(self.source)

  def render(
    self,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    continue_final_message: bool = False,
    tools: Sequence[Mapping[str, Any]] | None = None,
    documents: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
  ) -> Rendering:
    """Renders a conversation as `apply_chat_template` of transformers does.

    Args:
      messages: the turns, in order.
      add_generation_prompt: whether the header of an assistant turn follows
        the last message.
      continue_final_message: whether the text ends within the last message, so
        that the model continues it.
      tools: JSON schemas.
      documents: for templates that read them.
      **variables: further variables of the template.

    Raises:
      DataError: a message lacks a field or is not plain data.
      ModelFileError: the template fails, takes too many steps, or refuses the
        conversation (includes its reason).
      UsageError: both `add_generation_prompt` and `continue_final_message`.
    """
    inputs = dict(variables, tools=tools, documents=documents)
    checked = messages_lib.check(messages)
    if not continue_final_message:
      return self._render(checked, add_generation_prompt, inputs)
    if add_generation_prompt:
      raise errors.UsageError(
        'A text cannot both continue the last message and begin a new one: '
        'set one of continue_final_message and add_generation_prompt.'
      )
    return self._render_open(checked, inputs)

  def encode(
    self, messages: Sequence[Message], *, add_generation_prompt: bool = True
  ) -> list[int]:
    """Returns the tokens of a conversation, with BOS if the template writes it.

    Args:
      messages: the turns, in order.
      add_generation_prompt: whether the header of an assistant turn follows
        the last message.

    Raises:
      DataError, ModelFileError: see `render`.
    """
    return self.encode_chat(
      messages, add_generation_prompt=add_generation_prompt
    ).ids

  def encode_chat(
    self,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = False,
    **variables: Any,
  ) -> EncodedChat:
    """Encodes a conversation; see `render` and `encode`."""
    checked = messages_lib.check(messages)
    texts = control_tokens.strings([checked, variables])
    marks = control_tokens.choose_marks([*texts, *self.sources.values()])
    marked = [self._mark(message, marks) for message in checked]
    variables = control_tokens.mark(variables, self._names, marks)
    text, spans = self._render(marked, add_generation_prompt, variables)
    if json.dumps(marks.open)[1:-1] in text:
      raise errors.DataError(
        'A message contains the name of a control token, and the template '
        'writes it in an escaped form: remove it from the message.'
      )
    ids, offsets = control_tokens.encode(self._tokenizer, text, marks)
    self._check_ids(ids)
    return EncodedChat(
      ids, offsets, *control_tokens.remove_marks(text, marks, spans)
    )

  def _mark(self, message, marks):
    """Marks the names of control tokens in a message, see `control_tokens`."""
    forged = [name for name in self._names if name in str(message['role'])]
    if forged:
      raise errors.DataError(
        f'The role {message["role"]!r} contains the control token '
        f'{forged[0]!r}: expected "system", "user", "assistant" or the like.'
      )
    rest = {key: value for key, value in message.items() if key != 'role'}
    return message | control_tokens.mark(rest, self._names, marks)

  def _render(self, messages, add_generation_prompt, variables) -> Rendering:
    """Renders one conversation of plain data."""
    tools = variables.get('tools')
    name = self._name or (
      template_files.TOOLS
      if tools is not None and template_files.TOOLS in self.sources
      else template_files.DEFAULT
    )
    inputs = (
      dict(self._special_tokens)
      | {'tools': None, 'documents': None}
      | variables
      | {
        'messages': messages,
        'add_generation_prompt': add_generation_prompt,
      }
    )
    try:
      if name not in self._compiled:
        self._compiled[name] = template_sandbox.Template(
          self.sources[name], self._date
        )
    except Exception as error:  # A template can raise whatever Python raises.
      raise errors.ModelFileError(
        f'{self._paths[name]}: the chat template is not valid Jinja '
        f'({_reason(error)}): correct it or fetch the file again.'
      ) from error
    plain = messages_lib.plain(inputs)
    try:
      text, spans = self._compiled[name].render(plain)
    except Exception as error:
      raise errors.ModelFileError(
        f'{self._paths[name]}: the chat template refuses this conversation or '
        f'cannot render it ({_reason(error)}).'
      ) from error
    for place, message in enumerate(plain['messages']):
      content = message.get('content')
      if isinstance(content, list) and content and str(content) in text:
        raise errors.DataError(
          f'Message {place} has a list of parts as "content", and the chat '
          f'template of {self._paths[name]} knows texts only: it wrote the '
          'list as Python shows it. Give the content as one text.'
        )
    return Rendering(text, spans)

  def _render_open(self, messages, variables) -> Rendering:
    """Renders a conversation up to the end of its last message."""
    *before, last = messages
    end = control_tokens.choose_marks(
      [*control_tokens.strings([messages, variables]), self.source]
    ).open
    # The space shows whether the template trims messages.
    content: Any = last['content']
    if isinstance(content, str):
      opened: Any = content + end + ' '
    else:
      opened = [dict(part) for part in content]
      part = next((p for p in reversed(opened) if 'text' in p), {'text': ''})
      content, part['text'] = part['text'], part['text'] + end + ' '
    text, spans = self._render(
      [*before, last | {'content': opened}], False, variables
    )
    place = text.rfind(end)
    if place < 0 or content.strip() not in text[:place]:
      raise errors.ModelFileError(
        f'{self._paths[self._name or template_files.DEFAULT]}: the chat '
        'template does not write the last message, so it cannot be continued.'
      )
    kept = text[:place]
    if text[place + 1 : place + 2] != ' ':
      kept = kept.rstrip()
    return Rendering(kept, spans)

  def _check(self, ends: Sequence[int] | None) -> list[str]:
    """Checks the template, unless `ends` is None.

    Returns:
      The names of the control tokens.
    """
    question = {'role': 'user', 'content': _QUESTION}
    answer = {'role': 'assistant', 'content': _ANSWER}
    text = self._render([question, answer], False, {}).text
    if ends is not None:
      self._check_contents(text, ends)
    asked = self._render([question], True, {}).text
    encode = self._tokenizer.encode
    self._check_ids(encode(text + asked, add_special_tokens=False).ids)
    around = f'{text}\0{asked}'.replace(_QUESTION, '\0').replace(_ANSWER, '\0')
    return control_tokens.names(self._tokenizer, ends or (), around)

  def _check_ids(self, ids: Sequence[int]) -> None:
    """Checks that tokens are rows of the embedding."""
    last = max(ids, default=0)
    if self._vocab_size is not None and last >= self._vocab_size:
      raise errors.ModelFileError(
        f'{self._paths[self._name or template_files.DEFAULT]}: the template '
        f'writes the token {self._tokenizer.id_to_token(last)!r} ({last}), and '
        f'the embedding has {self._vocab_size} rows: they are of two models.'
      )

  def _check_contents(self, text: str, ends: Sequence[int]) -> None:
    """Checks the rendering of a question and an answer."""
    path = self._paths[self._name or template_files.DEFAULT]
    _, _, rest = text.partition(_QUESTION)
    _, written, after = rest.partition(_ANSWER)
    if not written or text.count(_QUESTION) + text.count(_ANSWER) > 2:
      raise errors.ModelFileError(
        f'{path}: the chat template drops message contents: it wrote '
        f'{text[:500]!r} for {[_QUESTION, _ANSWER]}. Use a template that '
        'writes the content of every message once, in order.'
      )
    ids = self._tokenizer.encode(after, add_special_tokens=False).ids
    if not set(ids) & set(ends):
      raise errors.ModelFileError(
        f'{path}: after an answer the chat template writes {after!r}, which '
        f'has none of the end tokens ({sorted(ends)}), so generation would not '
        'stop. Add the token that ends a turn to eos_token_id in '
        'generation_config.json.'
      )


def _reason(error: Exception) -> str:
  """Returns what a template's error says; its type too if it is not Jinja's."""
  if isinstance(error, jinja2.TemplateError):
    return str(error)
  return f'{type(error).__name__}: {error}'

"""Encodes conversations with the chat template of a Hugging Face model.

The template is Jinja, from tokenizer_config.json or chat_template.jinja, and
runs in a sandbox. Message contents are encoded separately from the text that
the template writes, and special tokens in a content are encoded as plain text,
so a message cannot forge a turn of another role. The template is rendered with
placeholders instead of the contents, so it cannot trim or drop parts of them.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import tokenizers
from jinja2 import sandbox

from sleep_jax import errors

Message = Mapping[str, str]  # 'role' and 'content'.
# Private-use characters around the number of a message, as a placeholder for
# its content while the template is rendered.
_OPEN, _CLOSE = '\ue000', '\ue001'


class ChatTemplate:
  """Converts conversations to tokens.

  Attributes:
    ends: tokens that end the model's turn.
    fingerprint: equal for equal templates with equal tokenizers only.

  Args:
    folder: folder of a Hugging Face model.
    ends: tokens that end the model's turn.

  Raises:
    MissingFileError: the folder has no chat template.
    ModelFileError: the template cannot be parsed, drops message contents, or
      does not end an assistant turn with one of `ends`.
  """

  def __init__(self, folder: str, ends: Sequence[int]):
    home = pathlib.Path(folder).expanduser()
    self._path, text, special_tokens = _read_template(home)
    self._tokenizer = tokenizers.Tokenizer.from_file(
      str(home / 'tokenizer.json')
    )
    self._tokenizer.no_padding()
    self._tokenizer.no_truncation()
    self._special_tokens = special_tokens
    self.ends = frozenset(ends)
    found = [text, special_tokens, sorted(ends), self._tokenizer.to_str()]
    self.fingerprint = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    environment = sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True,
      lstrip_blocks=True,
      extensions=['jinja2.ext.loopcontrols'],
    )
    environment.globals['raise_exception'] = _raise_exception
    environment.filters['tojson'] = lambda value, **kwargs: json.dumps(
      value, ensure_ascii=False, **kwargs
    )
    try:
      self._template = environment.from_string(text)
    except jinja2.TemplateError as error:
      raise errors.ModelFileError(
        f'{self._path}: the chat template is not valid Jinja ({error}): '
        'correct it or fetch the file again.'
      ) from error
    self._check(ends)

  def encode(
    self, messages: Sequence[Message], *, add_generation_prompt: bool = True
  ) -> list[int]:
    """Returns the tokens of a conversation, with BOS if the template writes it.

    Args:
      messages: the turns, in order.
      add_generation_prompt: whether the header of an assistant turn follows
        the last message.

    Raises:
      ModelFileError: a message lacks a field, or the template refuses the
        conversation (includes its reason).
    """
    tokens: list[int] = []
    for piece, is_content in self._pieces(messages, add_generation_prompt):
      # This is a property of the tokenizer, so it is set for each piece.
      self._tokenizer.encode_special_tokens = is_content
      tokens += self._tokenizer.encode(piece, add_special_tokens=False).ids
    return tokens

  def _pieces(self, messages, add_generation_prompt) -> list[tuple[str, bool]]:
    """Returns the rendered pieces as (text, whether it is a content)."""
    for place, message in enumerate(messages):
      if not {'role', 'content'} <= set(message):
        raise errors.DataError(
          f'Message {place} has the fields {sorted(message)}: expected "role" '
          'and "content".'
        )
    masked = [
      {**message, 'content': f'{_OPEN}{number}{_CLOSE}'}
      for number, message in enumerate(messages)
    ]
    try:
      text = self._template.render(
        messages=masked,
        add_generation_prompt=add_generation_prompt,
        **self._special_tokens,
      )
    except jinja2.TemplateError as error:
      raise errors.ModelFileError(
        f'{self._path}: the chat template refuses this conversation ({error}).'
      ) from error
    pieces: list[tuple[str, bool]] = []
    first, *rest = text.split(_OPEN)
    pieces.append((first, False))
    for part in rest:
      number, _, after = part.partition(_CLOSE)
      pieces.append((messages[int(number)]['content'], True))
      pieces.append((after, False))
    return [piece for piece in pieces if piece[0]]

  def _check(self, ends) -> None:
    """Checks that contents are kept and that an assistant turn is ended."""
    conversation = [
      {'role': 'user', 'content': 'a'},
      {'role': 'assistant', 'content': 'b'},
    ]
    pieces = self._pieces(conversation, False)
    contents = [text for text, is_content in pieces if is_content]
    if contents != ['a', 'b']:
      raise errors.ModelFileError(
        f'{self._path}: the chat template drops message contents: it wrote '
        f"{contents} for ['a', 'b']. Use a template that writes the content of "
        'every message once, in order.'
      )
    self._tokenizer.encode_special_tokens = False
    last, is_content = pieces[-1]
    after = (
      []
      if is_content
      else self._tokenizer.encode(last, add_special_tokens=False).ids
    )
    if not set(after) & set(ends):
      raise errors.ModelFileError(
        f'{self._path}: after an answer the chat template writes '
        f'{"" if is_content else last!r}, which has none of the end tokens '
        f'({sorted(ends)}), so generation would not stop. Add the token that '
        'ends a turn to eos_token_id in generation_config.json.'
      )


def _read_template(
  home: pathlib.Path,
) -> tuple[pathlib.Path, str, dict[str, Any]]:
  """Returns the template's file, its text, and the special tokens by name."""
  path, file = home / 'tokenizer_config.json', home / 'chat_template.jinja'
  config = json.loads(path.read_text('utf-8')) if path.is_file() else {}
  special_tokens = {
    name: token['content'] if isinstance(token, dict) else token
    for name, token in config.items()
    if name in ('bos_token', 'eos_token', 'pad_token') and token
  }
  special_tokens = (
    dict.fromkeys(('bos_token', 'eos_token'), '') | special_tokens
  )
  if file.is_file():
    return file, file.read_text('utf-8'), special_tokens
  template = config.get('chat_template')
  if isinstance(template, list):  # Several named templates.
    template = {one['name']: one['template'] for one in template}.get('default')
  if not isinstance(template, str):
    raise errors.MissingFileError(
      f'{home} has no chat template, neither chat_template.jinja nor '
      '"chat_template" in tokenizer_config.json: use a chat model, or generate '
      'from plain text.'
    )
  return path, template, special_tokens


def _raise_exception(message: str):
  """Refuses a conversation; templates call this."""
  raise jinja2.TemplateError(message)

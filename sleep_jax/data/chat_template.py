"""Chat templates: a conversation in the words that a model was taught.

The template is Jinja, as in tokenizer_config.json or chat_template.jinja, and
runs in a sandbox. What people say is encoded apart from what the template says:
a special token that stands in a message is plain text, so nobody can speak in
another's name. The template does not see what is said either, so it cannot trim
or leave out parts of it.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import tokenizers
from jinja2 import sandbox

Message = Mapping[str, str]  # 'role' and 'content'.
# Stand for contents while a template is filled: private-use characters.
_OPEN, _CLOSE = '\ue000', '\ue001'


class ChatTemplate:
  """A conversation as tokens.

  Args:
    folder: of a Hugging Face model.
    ends: tokens that end what the model says.

  Raises:
    FileNotFoundError: it has no template.
    ValueError: the template cannot be read, loses what is said, or does not
      end a turn.
  """

  def __init__(self, folder: str, ends: Sequence[int]):
    home = pathlib.Path(folder).expanduser()
    self._where, text, special = _source(home)
    self._words = tokenizers.Tokenizer.from_file(str(home / 'tokenizer.json'))
    self._words.no_padding()
    self._words.no_truncation()
    self._special = special
    environment = sandbox.ImmutableSandboxedEnvironment(
      trim_blocks=True, lstrip_blocks=True,
      extensions=['jinja2.ext.loopcontrols'],
    )  # fmt: skip
    environment.globals['raise_exception'] = _refuse
    environment.filters['tojson'] = lambda value, **how: json.dumps(
      value, ensure_ascii=False, **how
    )
    try:
      self._template = environment.from_string(text)
    except jinja2.TemplateError as error:
      raise ValueError(
        f'{self._where}: the chat template is no Jinja ({error}).'
      ) from error
    self._check(ends)

  def encode(
    self, messages: Sequence[Message], *, answer: bool = True
  ) -> list[int]:
    """Tokens of a conversation, BOS included where the template writes it.

    Args:
      answer: whether the model is to speak next.

    Raises:
      ValueError: the template refuses the conversation; says why.
    """
    tokens: list[int] = []
    for piece, said in self._pieces(messages, answer):
      # A property of the tokenizer, so it is set each time.
      self._words.encode_special_tokens = said
      tokens += self._words.encode(piece, add_special_tokens=False).ids
    return tokens

  def _pieces(self, messages, answer) -> list[tuple[str, bool]]:
    """The filled template, cut where somebody speaks: (text, whether so)."""
    masked = [
      {**message, 'content': f'{_OPEN}{number}{_CLOSE}'}
      for number, message in enumerate(messages)
    ]
    try:
      text = self._template.render(
        messages=masked, add_generation_prompt=answer, **self._special
      )
    except jinja2.TemplateError as error:
      raise ValueError(
        f'{self._where}: the chat template refuses this conversation ({error}).'
      ) from error
    made: list[tuple[str, bool]] = []
    begun, *rest = text.split(_OPEN)
    made.append((begun, False))
    for part in rest:
      number, _, after = part.partition(_CLOSE)
      made.append((messages[int(number)]['content'], True))
      made.append((after, False))
    return [piece for piece in made if piece[0]]

  def _check(self, ends) -> None:
    """Whether what is said arrives, and a turn of the model has an end."""
    talk = [
      {'role': 'user', 'content': 'a'},
      {'role': 'assistant', 'content': 'b'},
    ]
    pieces = self._pieces(talk, False)
    said = [text for text, by_someone in pieces if by_someone]
    if said != ['a', 'b']:
      raise ValueError(
        f'{self._where}: the chat template loses what is said: of a question '
        f'and an answer {len(said)} arrive.'
      )
    self._words.encode_special_tokens = False
    last, by_someone = pieces[-1]
    after = [] if by_someone else self._words.encode(
      last, add_special_tokens=False
    ).ids  # fmt: skip
    if not set(after) & set(ends):
      raise ValueError(
        f'{self._where}: behind an answer the chat template writes '
        f'{"" if by_someone else last!r}, none of the tokens that end a text '
        f'({sorted(ends)}): the model would not know when to stop. Name its '
        'end of turn in eos_token_id of generation_config.json.'
      )


def _source(home: pathlib.Path) -> tuple[pathlib.Path, str, dict[str, Any]]:
  """Where the template stands, its text, and special tokens by name."""
  path, file = home / 'tokenizer_config.json', home / 'chat_template.jinja'
  about = json.loads(path.read_text('utf-8')) if path.is_file() else {}
  special = {
    name: token['content'] if isinstance(token, dict) else token
    for name, token in about.items()
    if name in ('bos_token', 'eos_token', 'pad_token') and token
  }
  special = dict.fromkeys(('bos_token', 'eos_token'), '') | special
  if file.is_file():
    return file, file.read_text('utf-8'), special
  found = about.get('chat_template')
  if isinstance(found, list):  # Several, by name.
    found = {one['name']: one['template'] for one in found}.get('default')
  if not isinstance(found, str):
    raise FileNotFoundError(
      f'{home} has no chat template, neither chat_template.jinja nor '
      '"chat_template" in tokenizer_config.json: this is no model to talk to. '
      'Let it go on with plain text.'
    )
  return path, found, special


def _refuse(message: str):
  raise jinja2.TemplateError(message)

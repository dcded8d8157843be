"""Reads the chat templates and the special tokens of a model directory.

As in transformers: `chat_template.jinja` and the files of
`additional_chat_templates/` come before `chat_template` of
tokenizer_config.json, which is a text or a list of named texts. Files are
bounded before they are read.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import tokenizers

from sleep_jax import errors

DEFAULT, TOOLS = 'default', 'tool_use'  # Names of templates.
MAX_TEMPLATE = 100_000  # Bytes; the longest of known models have 20,000.
MAX_TEMPLATES = 20
MAX_JSON = 2**26  # Bytes of tokenizer_config.json.
MAX_TOKENIZER = 2**28  # Bytes of tokenizer.json.
_SPECIAL = (
  'bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token',
  'mask_token',
)  # fmt: skip
CONFIG, _FILE = 'tokenizer_config.json', 'chat_template.jinja'
FOLDER = 'additional_chat_templates'


@dataclasses.dataclass(frozen=True)
class TemplateFiles:
  """The templates of a model.

  Attributes:
    sources: text of each template by name.
    paths: file of each template by name.
    special_tokens: variables of the templates, such as `bos_token`.
  """

  sources: Mapping[str, str]
  paths: Mapping[str, pathlib.Path]
  special_tokens: Mapping[str, str]


def read(home: pathlib.Path) -> TemplateFiles:
  """Reads the templates of a model directory.

  Raises:
    MissingFileError: there is none.
    ModelFileError: a file is too large or not valid. The message names it.
  """
  config = read_json(home / CONFIG)
  paths = {}
  if (home / _FILE).is_file():
    paths[DEFAULT] = home / _FILE
  for path in sorted((home / FOLDER).glob('*.jinja')):
    paths.setdefault(path.stem, path)
  if len(paths) > MAX_TEMPLATES:
    raise errors.ModelFileError(
      f'{home / FOLDER} has {len(paths)} templates, more than '
      f'{MAX_TEMPLATES}: delete those that you do not use.'
    )
  sources = {name: _read_text(path, MAX_TEMPLATE)
             for name, path in paths.items()}  # fmt: skip
  if not sources:
    sources = _config_templates(config, home / CONFIG)
    paths = dict.fromkeys(sources, home / CONFIG)
  if not sources:
    raise errors.MissingFileError(
      f'{home} has no chat template, neither {_FILE} nor "chat_template" in '
      f'{CONFIG}: use a chat model, or generate from plain text.'
    )
  return TemplateFiles(sources, paths, special_tokens(home, config))


def _config_templates(config, path) -> dict[str, str]:
  """Returns the named templates of tokenizer_config.json."""
  found = config.get('chat_template')
  if found is None:
    return {}
  if isinstance(found, str):
    found = [{'name': DEFAULT, 'template': found}]
  try:
    sources = {one['name']: one['template'] for one in found}
  except (TypeError, KeyError) as error:
    raise errors.ModelFileError(
      f'{path}: field "chat_template" is neither a text nor a list of objects '
      'with "name" and "template": fetch the file again.'
    ) from error
  for name, text in sources.items():
    if not isinstance(name, str) or not isinstance(text, str):
      raise errors.ModelFileError(
        f'{path}: the chat template {name!r} is of type '
        f'{type(text).__name__}: expected a text. Fetch the file again.'
      )
    if len(text) > MAX_TEMPLATE:
      raise errors.ModelFileError(
        f'{path}: the chat template {name!r} has {len(text)} characters: '
        f'expected at most {MAX_TEMPLATE}. Use another template.'
      )
  return sources


def special_tokens(
  home: pathlib.Path, config: Mapping[str, Any]
) -> dict[str, str]:
  """Returns the special tokens by their name, such as `bos_token`.

  Args:
    home: the model directory.
    config: content of its tokenizer_config.json.
  """
  found = dict(config)
  if 'added_tokens_decoder' not in config:  # As transformers before 4.34 wrote.
    found |= read_json(home / 'special_tokens_map.json')
  tokens = {}
  for name, value in found.items():
    text = value.get('content') if isinstance(value, dict) else value
    if isinstance(text, str) and (
      name in _SPECIAL or name.endswith('_token')
    ):  # fmt: skip
      tokens[name] = text
  extra = found.get('extra_special_tokens')
  if isinstance(extra, dict):  # Named tokens of one model.
    tokens |= {k: v for k, v in extra.items() if isinstance(v, str)}
  return tokens


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Returns the object of a JSON file, {} if the file does not exist.

  Raises:
    ModelFileError: it is too large, or no JSON object.
  """
  if not path.is_file():
    return {}
  text = _read_text(path, MAX_JSON)
  try:
    found = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise errors.ModelFileError(
      f'{path} is not valid JSON ({error}): fetch the file again.'
    ) from error
  if not isinstance(found, dict):
    raise errors.ModelFileError(
      f'{path} has a {type(found).__name__}: expected a JSON object. Fetch the '
      'file again.'
    )
  return found


def load_tokenizer(home: pathlib.Path) -> tokenizers.Tokenizer:
  """Returns the tokenizer of a model directory, without padding.

  Raises:
    MissingFileError: there is no tokenizer.json.
    ModelFileError: it is too large or not valid.
  """
  path = home / 'tokenizer.json'
  if not path.is_file():
    raise errors.MissingFileError(
      f'{path} does not exist: a chat needs the tokenizer of the model.'
    )
  if path.stat().st_size > MAX_TOKENIZER:
    raise errors.ModelFileError(
      f'{path} has {path.stat().st_size} bytes: expected at most '
      f'{MAX_TOKENIZER}. Fetch the file again.'
    )
  try:
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
  except Exception as error:  # The library raises nothing more specific.
    raise errors.ModelFileError(
      f'{path} is not a valid tokenizer ({error}): fetch the file again.'
    ) from error
  tokenizer.no_padding()
  tokenizer.no_truncation()
  return tokenizer


def _read_text(path: pathlib.Path, limit: int) -> str:
  """Returns the text of a file of at most `limit` bytes."""
  size = path.stat().st_size
  if size > limit:
    raise errors.ModelFileError(
      f'{path} has {size} bytes: expected at most {limit}. It is not what its '
      'name says; fetch the file again.'
    )
  try:
    return path.read_text('utf-8')
  except UnicodeDecodeError as error:
    raise errors.ModelFileError(
      f'{path} is not UTF-8 ({error}): fetch the file again.'
    ) from error

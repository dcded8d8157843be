"""A tiny model that reads bytes, with small sets, for tests of abilities."""

import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.evaluate import asking
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from tests import testing

TOKENIZER = tokenizer_lib.Bytes()
FORM = asking.make_form(TOKENIZER, None)


class Template:
  """A chat template that writes roles as plain text."""

  fingerprint = 'roles'
  ends = frozenset({TOKENIZER.eos})

  def encode(self, messages, *, add_generation_prompt=True):
    text = ''.join(f'<{m["role"]}>{m["content"]}' for m in messages)
    text += '<assistant>' * add_generation_prompt
    return TOKENIZER.encode(text)


@functools.cache
def model() -> transformer.Transformer:
  settings = dict(
    width=16, num_layers=1, num_heads=4, num_kv_heads=2, head_size=4
  )
  return transformer.Transformer(
    config_lib.make(
      settings,
      testing.levels((1, 'experience')),
      vocab_size=TOKENIZER.vocab_size,
    )
  )


@functools.cache
def weights(scale: float = 1.0) -> types.Weights:
  """Returns random weights; another scale is another model."""
  drawn = testing.weights(model(), 3)
  return jax.tree.map(lambda x: x * np.float32(scale), drawn)


def write_rows(path: pathlib.Path, rows: list[Any]) -> str:
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def text_file(folder: pathlib.Path) -> str:
  rows = [{'text': f'Line {n} of a quiet text.'} for n in range(60)]
  return write_rows(folder / 'text.jsonl', rows)


def reading_file(folder: pathlib.Path, num: int = 12) -> str:
  rows = [
    {
      'context': f'Ada number {n} lives in a house with {n} doors.',
      'question': question, 'answers': [f'{n} doors', f'{n}'],
    }
    for n in range(num)
    for question in ('How many doors are there?', 'What is counted?')
  ]  # fmt: skip
  return write_rows(folder / 'reading.jsonl', rows)

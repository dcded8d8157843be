"""Compares GGUF files as read here, and by transformers and plain Python.

transformers has a reader of its own for the weights. Tokens are compared with
the algorithms themselves, since its tokenizers do not know all pre-tokenizers.
"""

import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import regex
import torch
import transformers

from sleep_jax import types
from sleep_jax.interop import gguf_file, open_model
from sleep_jax.model import streaming
from tests import testing

ROOT = pathlib.Path(__file__).parents[2]
PROMPTS = (
  'The capital of France is',
  'Question: Where does water freeze?\nAnswer:',
  'def fibonacci(n):\n  if n < 2:',
  'In 1969, 2 men',
)
NEW = 24  # Tokens of each greedy text.
STRINGS = (
  "It's 1234 o'clock;  we'LL see 56 cats.\n\n\n", 'Größe naïve cafe\u0301',
  '東京は2024年 \U0001f600\u200d\U0001f4bb', '<b>tag</b>\t\ttab    four',
  'x=[1,2,3];//code\r\n    return  0', '\u00b2\u0663\u2167\u00a0\u0000nul',
  'مرحبا שלום नमस्ते', '',
)  # fmt: skip
# As llama.cpp splits: digits first, then as GPT-2.
_GPT2 = (
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def compare(path: pathlib.Path) -> dict[str, Any]:
  """Returns how a file is read here and by transformers.

  Args:
    path: the GGUF file.
  """
  begin = time.time()
  loaded = open_model.open_model(str(path))
  seconds = time.time() - begin
  reference = transformers.AutoModelForCausalLM.from_pretrained(
    path.parent, gguf_file=path.name, dtype=torch.float32,
    attn_implementation='eager',
  ).eval()  # fmt: skip
  differences, same = [], 0
  for prompt in PROMPTS:
    # Without BOS, float32 alone changes logits of Gemma by up to 6e-4.
    ids = [loaded.tokenizer.bos, *loaded.tokenizer.encode(prompt)]
    rows = types.model_inputs(jnp.asarray([ids]), jnp.array([len(ids)]))
    ours = np.asarray(testing.forward(loaded.model)(loaded.weights, *rows))[0]
    with torch.no_grad():
      theirs = reference(torch.tensor([ids])).logits[0].numpy()
      text = reference.generate(
        torch.tensor([ids]), max_new_tokens=NEW, do_sample=False,
        eos_token_id=list(loaded.end_tokens),
        attention_mask=torch.ones(1, len(ids)),
      )[0, len(ids) :].tolist()  # fmt: skip
    if text[-1] in loaded.end_tokens:
      text.pop()
    differences.append(float(np.abs(ours - theirs[:, : ours.shape[1]]).max()))
    same += _greedy(loaded, ids) == text
  texts = [*STRINGS, *_pages()]
  wanted = _reference_tokenizer(path)
  return dict(
    file=path.name,
    tensors=_kinds(path),
    largest_difference=max(differences),
    spread=float(theirs.std()),
    same_greedy_texts=f'{same} of {len(PROMPTS)}',
    same_tokens=all(loaded.tokenizer.encode(t) == wanted(t) for t in texts),
    compared_tokens=sum(len(wanted(t)) for t in texts),
    load_seconds=round(seconds, 1),
  )


def _greedy(loaded, ids) -> list[int]:
  """Returns our greedy text, without its end token."""
  made = streaming.stream(
    loaded.model, loaded.weights, [ids], jax.random.key(0), max_new=NEW,
    end_tokens=loaded.end_tokens, temperature=0.0,
  )  # fmt: skip
  return [token for (token,) in made]


def _pages() -> list[str]:
  """Returns paragraphs of this project's pages and code."""
  files = [ROOT / 'docs/method.md', ROOT / 'sleep_jax/errors.py']
  parts = [part for f in files for part in f.read_text().split('\n\n')]
  return [part[:400] for part in parts[:60]]


def _kinds(path) -> dict[str, int]:
  kinds = [t.kind for t in gguf_file.read(path).tensors.values()]
  return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def _reference_tokenizer(path):
  """Returns a function from a text to its tokens, in plain Python."""
  metadata = gguf_file.read(path).metadata
  words = {
    name: metadata.get(f'tokenizer.ggml.{name}')
    for name in ('model', 'pre', 'tokens', 'scores', 'token_type', 'merges')
  }
  ids = {token: number for number, token in enumerate(words['tokens'])}
  if words['model'] == 'llama':
    return lambda text: _sentence_piece(text, words, ids)
  assert (words['model'], words['pre']) == ('gpt2', 'smollm')
  ranks = {
    tuple(m.split(' ')): rank for rank, m in enumerate(words['merges'])
  }  # fmt: skip
  return lambda text: _byte_level(text, ranks, ids)


def _letters() -> dict[int, str]:
  """Returns the letter of each byte, as in GPT-2."""
  kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in kept]
  return {byte: chr(byte) for byte in kept} | {
    byte: chr(256 + at) for at, byte in enumerate(others)
  }


def _byte_level(text, ranks, ids) -> list[int]:
  letters, found = _letters(), []
  for part in regex.findall(r'\p{N}|\P{N}+', text):
    for word in regex.findall(_GPT2, part):
      pieces = [letters[byte] for byte in word.encode()]
      found += [ids[piece] for piece in _join(pieces, ranks.get)]
  return found


def _sentence_piece(text, words, ids) -> list[int]:
  rows = zip(words['tokens'], words['scores'], words['token_type'], strict=True)
  score, users = _pieces(words['tokens'][0], tuple(rows))
  found = []
  for part in regex.split(users, text):
    if regex.fullmatch(users, part):
      found.append(ids[part])
      continue

    def order(pair):
      joined = score.get(''.join(pair))
      return None if joined is None else -joined

    for piece in _join(list(part.replace(' ', '▁')), order):
      if piece in score:
        found.append(ids[piece])
      else:
        found += [ids[f'<0x{byte:02X}>'] for byte in piece.encode()]
  return found


_CACHE: dict[str, Any] = {}


def _pieces(key, rows):
  """Returns scores of pieces, and a pattern of the user's tokens."""
  if key not in _CACHE:
    users = sorted((t for t, _, kind in rows if kind == 4), key=len)[::-1]
    pattern = regex.compile(f'({"|".join(map(regex.escape, users))})')
    _CACHE[key] = {t: s for t, s, kind in rows if kind == 1}, pattern
  return _CACHE[key]


def _join(pieces, order) -> list[str]:
  """Joins the first neighbours of the lowest order, again and again."""
  while True:
    found = [
      (rank, at)
      for at, pair in enumerate(zip(pieces, pieces[1:], strict=False))
      if (rank := order(pair)) is not None
    ]
    if not found:
      return pieces
    at = min(found)[1]
    pieces[at : at + 2] = [''.join(pieces[at : at + 2])]

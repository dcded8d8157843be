"""Puts questions to a model and generates its answers in batches.

A question is written in the model's chat template, or, for a model without one,
as `Question: ...`, `Answer:`. Rows of a batch have similar lengths.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.model import sampling
from sleep_jax.runtime import processes

_ROWS = 20  # Per batch: the caches of SmolLM2 take 260 MB at 280 tokens.
_STEP = 32  # Prompts are padded to multiples of this, so few programs compile.


class Template(Protocol):
  """What is needed of a `chat_template.ChatTemplate`."""

  fingerprint: str
  ends: frozenset[int]

  def encode(
    self, messages: Sequence[Any], *, add_generation_prompt: bool = True
  ) -> list[int]: ...


@dataclasses.dataclass(frozen=True)
class Form:
  """How a model is asked.

  Attributes:
    ask: returns the tokens of a question.
    ends: tokens that end an answer; the first one is the usual one.
    chat: returns the tokens of a conversation that the model answers, in its
      chat template; None for plain text.
    fingerprint: equal for equal forms only.
  """

  ask: Callable[[str], list[int]]
  ends: tuple[int, ...]
  chat: Callable[[Sequence[Any]], list[int]] | None
  fingerprint: str


def make_form(tokenizer: types.Tokenizer, template: Template | None) -> Form:
  """Returns how a model is asked.

  Args:
    tokenizer: of the model.
    template: its chat template, with the tokens that end a turn; None asks in
      plain text.
  """
  if template is None:
    ask = lambda text: [
      tokenizer.bos, *tokenizer.encode(f'Question: {text}\nAnswer:')
    ]  # fmt: skip
    return Form(ask, (tokenizer.eos,), None, f'plain {tokenizer.fingerprint}')
  encode = template.encode
  return Form(
    lambda text: encode([{'role': 'user', 'content': text}]),
    _ends(template), encode, f'chat {template.fingerprint}',
  )  # fmt: skip


def _ends(template: Template) -> tuple[int, ...]:
  """Returns the tokens that end a turn, first the one the template writes."""
  turns = [{'role': role, 'content': 'Hello'} for role in ('user', 'assistant')]
  written = template.encode(turns, add_generation_prompt=False)
  usual = [token for token in written if token in template.ends][-1:]
  return tuple(dict.fromkeys([*usual, *sorted(template.ends)]))


def generate(
  model: types.Model,
  weights: types.Weights,
  prompts: Sequence[Sequence[int]],
  *,
  max_new: int,
  ends: Sequence[int],
  temperature: float = 0.0,
  seed: int = 0,
  at_once: int = _ROWS,
) -> list[list[int]]:
  """Returns the answer to each prompt, in tokens.

  Args:
    model, weights: of the model that answers.
    prompts: tokens of each prompt.
    max_new: most tokens of an answer.
    ends: tokens that end an answer. The one that ended it is its last token.
    temperature: 0 takes the likeliest token.
    seed: of sampling.
    at_once: prompts that are answered in one batch.
  """
  if not prompts:
    return []
  order = sorted(range(len(prompts)), key=lambda n: (len(prompts[n]), n))
  rows = min(at_once, len(prompts))
  answers: list[list[int]] = [[] for _ in prompts]
  for start in range(0, len(prompts), rows):
    batch = order[start : start + rows]
    lengths = [len(prompts[n]) for n in batch]
    P = -(-lengths[-1] // _STEP) * _STEP
    tokens_BP = np.zeros((rows, P), np.int32)
    for row, number in enumerate(batch):
      tokens_BP[row, : lengths[row]] = prompts[number]
    # Missing rows of the last batch are short and are not looked at.
    length_B = np.array(lengths + [1] * (rows - len(batch)), np.int32)
    written_BG = _sample(
      model, (max_new, ends[0], temperature), weights, tokens_BP, length_B,
      jax.random.fold_in(jax.random.key(seed), start),
    )  # fmt: skip
    for number, row_G in zip(batch, processes.fetch(written_BG), strict=False):
      answers[number] = _cut(row_G.tolist(), ends)
  return answers


def _cut(tokens: list[int], ends: Iterable[int]) -> list[int]:
  """Returns the tokens up to the first end token, which is included."""
  stops = [n for n, token in enumerate(tokens) if token in ends]
  return tokens[: stops[0] + 1] if stops else tokens


@functools.partial(jax.jit, static_argnums=(0, 1))
def _sample(model, settings, weights, tokens_BP, length_B, key):
  """Returns the new tokens of each row, `[B, max_new]`, `end` after the end."""
  max_new, end, temperature = settings
  B, P = tokens_BP.shape
  prompts = types.Prompts(tokens_BP, length_B, jnp.zeros((B, 2), jnp.int32))
  rollout = sampling.sample(
    model, weights, prompts, key, max_length=P + max_new, max_new=max_new,
    eos=end, temperature=temperature,
  )  # fmt: skip
  at_BG = rollout.prompt_length_B[:, None] + jnp.arange(max_new)[None]
  written_BG = jnp.take_along_axis(rollout.tokens_BT, at_BG, 1)
  return jnp.where(at_BG < rollout.length_B[:, None], written_BG, end)


def fingerprint(*parts: Any) -> str:
  """Returns a hash of what has a `repr`."""
  return hashlib.sha256(repr(parts).encode()).hexdigest()

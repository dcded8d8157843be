"""Streams generated text, after checking what was asked for."""

import math
from collections.abc import Iterator, Sequence

import jax

from sleep_jax import errors, types
from sleep_jax.data import detokenizer
from sleep_jax.interop import open_model, positions
from sleep_jax.model import streaming, transformer


def stream(
  loaded: open_model.LoadedModel,
  model: transformer.Transformer,
  weights: types.Weights,
  rows: Sequence[Sequence[int]],
  *,
  seed: int,
  max_new: int = 64,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> Iterator[list[str]]:
  """Returns an iterator over pieces of text, one for each row of tokens.

  Args:
    loaded: gives the tokenizer, the end tokens and the number of positions.
    model: the network, `loaded.model` or one with more experts.
    weights: its weights, as `streaming.prepare` returns them.
    rows: tokens of the prompts.
    seed: of sampling.
    max_new: most tokens of a text.
    temperature, top_k, top_p: see `streaming.stream`.

  Raises:
    UsageError: an option is impossible, there is no prompt, or a prompt is
      longer than the model has positions. Raised at once, not at the first
      piece.
  """
  if not rows:
    raise errors.UsageError('There is no prompt: give at least one.')
  for name, number, least in (('max_new', max_new, 1), ('top_k', top_k, 0)):
    if isinstance(number, bool) or number != int(number) or number < least:
      raise errors.UsageError(
        f'{name} is {number!r}: expected a whole number, {least} or more.'
      )
  if not math.isfinite(temperature) or temperature < 0:
    raise errors.UsageError(
      f'temperature is {temperature!r}: expected 0 or a positive number.'
    )
  if not 0 < top_p <= 1:
    raise errors.UsageError(
      f'top_p is {top_p!r}: expected more than 0 and at most 1.'
    )
  positions.check(loaded, rows, max_new)
  tokens = streaming.stream(
    model, weights, rows, jax.random.key(seed), max_new=max_new,
    end_tokens=loaded.end_tokens, temperature=temperature, top_k=top_k,
    top_p=top_p,
  )  # fmt: skip
  return _decode(tokens, loaded.tokenizer, len(rows))


def _decode(tokens, tokenizer, num_rows) -> Iterator[list[str]]:
  """Yields the text that each token completes, and at last what is left."""
  texts = [detokenizer.Detokenizer(tokenizer) for _ in range(num_rows)]
  for new in tokens:
    yield [
      '' if token is None else text.add(token)
      for text, token in zip(texts, new, strict=True)
    ]
  yield [text.end() for text in texts]


def check_prompts(prompts: Sequence[str]) -> None:
  """Refuses what is no text, empty texts, and what is no Unicode.

  Raises:
    UsageError: names the prompt by its number, from 1.
  """
  if isinstance(prompts, str):
    raise errors.UsageError(
      f'The prompts are one text ({prompts[:40]!r}): expected a list of texts.'
    )
  for number, prompt in enumerate(prompts, 1):
    if not isinstance(prompt, str) or not prompt:
      raise errors.UsageError(
        f'Prompt {number} is {prompt!r}: expected a text that is not empty.'
      )
    try:
      prompt.encode()
    except UnicodeEncodeError as error:
      raise errors.UsageError(
        f'Prompt {number} contains {prompt[error.start : error.end]!r}, which '
        'is no character: repair the encoding of the text.'
      ) from error

"""Continues contexts up to a stop string, as lm-evaluation-harness does."""

from collections.abc import Sequence

import jax

from sleep_jax import types
from sleep_jax.interop import eval_requests, eval_tokenizer
from sleep_jax.model import streaming, transformer


def generate(
  model: transformer.Transformer,
  weights: types.Weights,
  tokenizer: eval_tokenizer.EvalTokenizer,
  rows: Sequence[Sequence[int]],
  key: jax.Array,
  made: eval_requests.Generation,
  *,
  max_new: int,
  ends: set[int],
) -> list[list[int]]:
  """Continues contexts together.

  After each token, every stop string of n tokens is searched for in the text of
  the last n + 2 tokens, special tokens included. The two additional tokens
  allow for other tokenizations. An empty stop string ends a text after one
  token.

  Args:
    model: the model.
    weights: as `streaming.prepare` returns them.
    tokenizer: decodes the texts.
    rows: tokens of each context, at least one.
    key: consumed.
    made: stop strings and sampling.
    max_new: most tokens of a text.
    ends: tokens that end a text.

  Returns:
    The tokens of each text, up to and with the one that ended it.
  """
  found: list[list[int]] = [[] for _ in rows]
  ended = [False] * len(rows)
  looks = [
    (stop, 2 + len(tokenizer.encode(stop, add_special_tokens=False)))
    for stop in made.until
  ]
  for tokens in streaming.stream(
    model, weights, rows, key, max_new=max_new, end_tokens=(),
    temperature=made.temperature, top_k=made.top_k, top_p=made.top_p,
  ):  # fmt: skip
    for row, token in enumerate(tokens):
      if ended[row] or token is None:
        continue
      found[row].append(token)
      ended[row] = token in ends or any(
        stop in tokenizer.decode(found[row][-size:]) for stop, size in looks
      )
    if all(ended):
      break
  return found


def text_of(
  tokenizer: eval_tokenizer.EvalTokenizer,
  ids: Sequence[int],
  until: Sequence[str],
  think_end_token: str | int | None,
) -> str:
  """Returns a generated text without its reasoning and its stop string.

  Args:
    tokenizer: decodes the text.
    ids: its tokens.
    until: stop strings.
    think_end_token: text or id of the token that ends the reasoning, or None.
  """
  if isinstance(think_end_token, int):
    if think_end_token in ids:
      ids = ids[len(ids) - list(ids)[::-1].index(think_end_token) :]
    text = tokenizer.decode(ids, skip_special_tokens=True).lstrip()
  else:
    text = tokenizer.decode(ids, skip_special_tokens=True)
    if think_end_token:
      text = text.split(think_end_token)[-1].lstrip()
  return eval_requests.cut(text, until)

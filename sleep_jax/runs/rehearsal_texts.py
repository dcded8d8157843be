"""Texts that a pretrained model writes before its first day, and rehearses.

Nothing of the text that a model was pretrained on is stored with it. Half of
the texts are conversations: the model continues its chat template where a user
would write, and then answers. The other half begin with a random token. Nights
and the KL penalty keep the predictions of the initial model on them.

References: conversations from the template alone, 2406.08464; texts that begin
with a random token, 2305.17888 section 3.1.
"""

import functools
import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.evaluate import asking
from sleep_jax.replay import buffer
from sleep_jax.runtime import processes, sharding

_LEAST = 8  # Tokens of an answer for which there must be room.
_BATCH = 64  # Texts that the model writes at once.
_ROWS = 32  # Those that it reads at once.
# Two requests without a common beginning.
_TWO_REQUESTS = 'Why?', '12 eggs'


class Text(NamedTuple):
  """A text.

  Attributes:
    tokens: of the whole text.
    start: of its first token that the model wrote.
  """

  tokens: list[int]
  start: int


def write(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  form: asking.Form,
  *,
  num: int,
  width: int,
  seed: int,
) -> list[Text]:
  """Returns texts that a model wrote.

  Args:
    model, weights, tokenizer: of the model.
    form: how it is asked.
    num: number of texts. Fewer are returned if some requests are empty.
    width: most tokens of a text.
    seed: of sampling.

  Raises:
    ConfigError: the form leaves no room for a request and an answer.
  """
  asks = [form.ask(text) for text in _TWO_REQUESTS]
  opening = os.path.commonprefix(asks)
  around = max(map(len, asks)) - 1
  # A third of what is left is for the request.
  room = (width - around) // 3
  if room < _LEAST // 2:
    needed = around + 3 * (_LEAST // 2)
    raise errors.ConfigError(
      f'config.consolidate.max_length is {width}, but a request of one token '
      f'takes {around + 1} in the form in which the model is asked. '
      f'config.replay.own_texts needs a max_length of {needed} or more.'
    )
  sample = lambda prompts, size, part: asking.generate(
    model, weights, prompts, max_new=size, ends=form.ends, temperature=1.0,
    seed=3 * seed + part, at_once=_BATCH,
  )  # fmt: skip
  requests = sample([opening] * (num - num // 2), room, 0)
  texts = (tokenizer.decode(tokens).strip() for tokens in requests)
  asked = [form.ask(text) for text in texts if text]
  # Written again, a text may have more tokens.
  asked = [prompt for prompt in asked if len(prompt) <= width - _LEAST]
  answers = sample(asked, width - min(map(len, asked), default=0), 1)
  allowed = np.setdiff1d(np.arange(tokenizer.vocab_size), form.ends)
  first = np.random.default_rng(seed).choice(allowed, num // 2)
  beginnings = [[tokenizer.bos, int(token)] for token in first]
  free = sample(beginnings, width - 2, 2)
  return [
    Text([*prompt, *answer][:width], start)
    for prompts, parts, start in (
      (asked, answers, max(len(opening), 1)), (beginnings, free, 1)
    )
    for prompt, answer in zip(prompts, parts, strict=True)
  ]  # fmt: skip


def insert(
  replay: dict[str, state_lib.AgeGroup],
  texts: list[Text],
  model: types.Model,
  weights: types.Weights,
  placement: sharding.Placement,
) -> dict[str, state_lib.AgeGroup]:
  """Returns age groups with texts of the initial model, and its states.

  Args:
    replay: with an empty group of own texts. Where there are fewer texts than
      places, the first ones are repeated.
    texts: see `write`.
    model, weights: that wrote them.
    placement: of the arrays.
  """
  empty = replay[buffer.OWN_TEXTS]
  num, width = empty.tokens_CP.shape
  filled = [texts[n % len(texts)] for n in range(num)]
  tokens_CP = np.zeros((num, width), np.int32)
  for row_P, text in zip(tokens_CP, filled, strict=True):
    row_P[: len(text.tokens)] = text.tokens
  length_C = np.array([len(text.tokens) for text in filled], np.int32)
  start_C = np.array([text.start for text in filled], np.int32)
  parts = [
    processes.fetch(
      _states(model, weights, tokens_CP[n], length_C[n], start_C[n])
    )
    for n in np.split(np.arange(num), range(_ROWS, num, _ROWS))
  ]
  group = state_lib.AgeGroup(
    tokens_CP=tokens_CP, length_C=length_C,
    subject_C2=np.stack([start_C, length_C], 1),
    step_C=np.zeros(num, np.int32), count=np.int32(num),
    states_CGD=np.concatenate(parts),
  )  # fmt: skip
  return replay | placement.put({buffer.OWN_TEXTS: group}, prefix='replay/')


@functools.partial(jax.jit, static_argnums=0)
def _states(model, weights, tokens_BT, length_B, start_B):
  """Returns the states that predict the tokens from `start_B` on."""
  width = tokens_BT.shape[1]
  at_BG = start_B[:, None] - 1 + jnp.arange(width - 1)[None]
  states_BGD = model.states_at(
    weights, *types.model_inputs(tokens_BT, length_B),
    jnp.clip(at_BG, 0, width - 1),
  )  # fmt: skip
  return states_BGD.astype(jnp.float32)

"""Prompts that a pretrained model writes itself, to rehearse what it can do.

Nothing of the text that a model was pretrained on is stored with it. Half of
the prompts are requests: the model continues its chat template where a user
would write, and the request is then asked as any other. The other half are the
beginnings of texts: the model continues a random token.

References: requests from the template alone, 2406.08464; texts that begin with
a random token, 2305.17888 section 3.1.
"""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import errors, types
from sleep_jax import state as state_lib
from sleep_jax.evaluate import asking
from sleep_jax.replay import buffer
from sleep_jax.runtime import processes, sharding

# A prompt has at least this much room for a request.
_LEAST_ROOM = 8
# Two requests without a common beginning or end.
_TWO_REQUESTS = 'Why?', '12 eggs'


def write(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  form: asking.Form,
  *,
  num: int,
  width: int,
  seed: int,
) -> list[list[int]]:
  """Returns prompts that a model wrote, in tokens.

  Args:
    model, weights, tokenizer: of the model.
    form: how it is asked.
    num: number of prompts.
    width: most tokens of a prompt. Requests that are longer are cut.
    seed: of sampling.

  Raises:
    ConfigError: the form leaves no room for a request.
  """
  opening = _common_start(*(form.ask(text) for text in _TWO_REQUESTS))
  around = max(len(form.ask(text)) - 1 for text in _TWO_REQUESTS)
  room = width - around
  if room < _LEAST_ROOM:
    raise errors.ConfigError(
      f'config.data.max_prompt is {width}, but a request of one token takes '
      f'{around + 1} in the form in which the model is asked. '
      f'config.replay.self_written needs max_prompt={around + _LEAST_ROOM} or '
      'more, or 0.'
    )
  sample = lambda prompts, size, part: asking.generate(
    model, weights, prompts, max_new=size, ends=form.ends, temperature=1.0,
    seed=2 * seed + part,
  )  # fmt: skip
  requests = sample([opening] * (num - num // 2), room, 0)
  texts = (_first_line(tokenizer.decode(tokens)) for tokens in requests)
  asked = [form.ask(text) for text in texts if text]
  rng = np.random.default_rng(seed)
  first = rng.choice(
    np.setdiff1d(np.arange(tokenizer.vocab_size), form.ends), num // 2
  )
  beginnings = [[tokenizer.bos, int(token)] for token in first]
  size = max(width // 2, 1)
  parts = sample(beginnings, size, 1)
  lengths = rng.integers(0, size, num // 2)
  free = [
    beginning + [token for token in part[:length] if token not in form.ends]
    for beginning, part, length in zip(beginnings, parts, lengths, strict=True)
  ]
  return [prompt[:width] for prompt in asked + free]


def insert(
  replay: dict[str, state_lib.AgeGroup],
  prompts: Sequence[Sequence[int]],
  placement: sharding.Placement,
) -> dict[str, state_lib.AgeGroup]:
  """Returns age groups with prompts of the initial model.

  Args:
    replay: with an empty group of pretraining.
    prompts: no longer than its entries.
    placement: of the arrays.
  """
  group = replay[buffer.PRETRAIN]
  tokens_BP = np.zeros((len(prompts), group.tokens_CP.shape[1]), np.int32)
  for row_P, prompt in zip(tokens_BP, prompts, strict=True):
    row_P[: len(prompt)] = prompt
  length_B = np.array([len(prompt) for prompt in prompts], np.int32)
  made = types.Prompts(
    tokens_BP, length_B, np.zeros((len(prompts), 2), np.int32)
  )
  filled = buffer.insert(
    jax.tree.map(jnp.asarray, processes.fetch(group)), made, jnp.int32(0),
    jax.random.key(0),
  )  # fmt: skip
  return replay | placement.put(
    {buffer.PRETRAIN: processes.fetch(filled)}, prefix='replay/'
  )


def _common_start(first: list[int], second: list[int]) -> list[int]:
  """Returns the tokens with which both sequences begin."""
  pairs = zip(first, second, strict=False)
  return [a for a, _ in itertools.takewhile(lambda p: p[0] == p[1], pairs)]


def _first_line(text: str) -> str:
  return text.strip().split('\n')[0].strip()

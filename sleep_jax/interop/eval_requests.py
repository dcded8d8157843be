"""The rules of lm-evaluation-harness for its requests, on token lists.

References: lm_eval 0.4.13, `api/model.py`, `models/huggingface.py`,
`models/utils.py` and `get_rolling_token_windows` in `utils.py`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from sleep_jax import errors
from sleep_jax.interop import eval_tokenizer

MAX_GEN_TOKS = 256
_ALIASES = (
  'max_gen_toks', 'max_new_tokens', 'max_tokens', 'max_completion_tokens',
)  # fmt: skip
# Options of transformers' `generate` that change nothing if they have these
# values, which are its defaults.
_NEUTRAL = {
  'num_beams': 1, 'repetition_penalty': 1.0, 'no_repeat_ngram_size': 0,
  'num_return_sequences': 1, 'min_length': 0, 'min_new_tokens': 0,
  'typical_p': 1.0, 'min_p': 0.0, 'length_penalty': 1.0,
  'encoder_repetition_penalty': 1.0, 'encoder_no_repeat_ngram_size': 0,
  'epsilon_cutoff': 0.0, 'eta_cutoff': 0.0, 'diversity_penalty': 0.0,
  'num_beam_groups': 1, 'bad_words_ids': None, 'suppress_tokens': None,
  'begin_suppress_tokens': None, 'forced_bos_token_id': None,
  'forced_eos_token_id': None, 'penalty_alpha': None, 'guidance_scale': None,
  'sequence_bias': None, 'exponential_decay_length_penalty': None,
}  # fmt: skip
_TOP_K = 50  # The default of transformers for sampling.


class Pair(NamedTuple):
  """A continuation to be scored after a context, as tokens."""

  context: list[int]
  continuation: list[int]


@dataclasses.dataclass(frozen=True)
class Generation:
  """How a context is continued.

  Attributes:
    until: strings that end the text. An empty one ends it after one token.
    max_gen_toks: most tokens of the text.
    max_length: most tokens of context and text, or None.
    temperature: 0 for the most likely tokens.
    top_k, top_p: of sampling.
  """

  until: tuple[str, ...]
  max_gen_toks: int
  max_length: int | None
  temperature: float
  top_k: int
  top_p: float


def encode_pair(
  tokenizer: eval_tokenizer.EvalTokenizer, context: str, continuation: str
) -> Pair:
  """Encodes a context and its continuation.

  White space at the end of the context belongs to the continuation. The
  continuation is what both together have more tokens than the context.

  Raises:
    UsageError: no token is left to be scored.
  """
  shown = continuation
  if context == '':
    whole = tokenizer.encode(continuation, add_special_tokens=False)
    prefix = tokenizer.prefix_token_id
    pair = (
      Pair(whole[:1], whole[1:]) if whole[:1] == [prefix]
      else Pair([prefix], whole)
    )  # fmt: skip
  else:
    trimmed = context.rstrip()
    continuation = context[len(trimmed) :] + continuation
    whole = tokenizer.encode(trimmed + continuation)
    before = tokenizer.encode(trimmed)
    pair = Pair(before, whole[len(before) :])
  if not pair.context or not pair.continuation:
    part = 'context' if pair.continuation else 'continuation'
    raise errors.UsageError(
      f'The {part} of the request ({context[-60:]!r}, {shown[:60]!r}) has no '
      'tokens, so there is nothing to score: correct the task. The harness '
      'refuses this too.'
    )
  return pair


def truncate_pair(pair: Pair, max_length: int) -> Pair:
  """Cuts the beginning of a context that is too long.

  The model reads at most `max_length` tokens, and all but the last token of the
  continuation are read.

  Raises:
    UsageError: the continuation alone is longer.
  """
  if len(pair.continuation) > max_length:
    raise errors.UsageError(
      f'A continuation has {len(pair.continuation)} tokens, but max_length is '
      f'{max_length}: raise max_length, if the model has as many positions, or '
      'leave the row out. The harness refuses this too.'
    )
  kept = max_length + 1 - len(pair.continuation)
  return Pair(pair.context[-kept:], pair.continuation)


def rolling_windows(
  ids: Sequence[int], prefix: int, max_length: int
) -> Iterator[Pair]:
  """Splits a text into windows in which each token is scored once.

  Every window but the first is full: it begins with as many scored tokens as
  fit, and with one token before them.
  """
  ids = list(ids)
  first = min(max_length, len(ids))
  if ids:
    yield Pair([prefix], ids[:first])
  for start in range(first, len(ids), max_length):
    end = min(start + max_length, len(ids))
    yield Pair(ids[end - max_length - 1 : start], ids[start:end])


def generation(
  options: Mapping[str, Any],
  *,
  eos_text: str,
  defaults: Mapping[str, Any] | None = None,
) -> Generation:
  """Reads the options of a request.

  Args:
    options: `generation_kwargs` of the task, and `gen_kwargs` of the call.
    eos_text: text of EOS, one more stop string.
    defaults: generation_config.json, for what `options` does not have.

  Raises:
    UsageError: an option is not supported or impossible.
  """
  found = dict(options)
  until = found.pop('until', None)
  until = [until] if isinstance(until, str) else list(until or [])
  if not all(isinstance(stop, str) for stop in until):
    raise errors.UsageError(f'until={until!r}: expected strings.')
  if eos_text and eos_text not in until:
    until.append(eos_text)
  lengths = [found.pop(name, None) for name in _ALIASES]
  given = [length for length in lengths if length is not None]
  temperature, do_sample = _sampling(found)
  found = _defaults(defaults or {}, do_sample) | found
  top_k, top_p = found.pop('top_k', None), found.pop('top_p', None)
  max_length = found.pop('max_length', None)
  for name, value in found.items():
    if name == 'use_cache' or (name in _NEUTRAL and value == _NEUTRAL[name]):
      continue
    raise errors.UsageError(
      f'generation option {name}={value!r}: not supported here, so the texts '
      "would not be the harness's. "
      + (
        f'Set {name}={_NEUTRAL[name]!r} in gen_kwargs, for both.'
        if name in _NEUTRAL else 'Leave it out.'
      )
    )  # fmt: skip
  top_k = int(_number('top_k', _TOP_K if top_k is None else top_k))
  top_p = _number('top_p', 1.0 if top_p is None else top_p)
  if not 0 < top_p <= 1:
    raise errors.UsageError(f'top_p={top_p}: expected more than 0, at most 1.')
  return Generation(
    until=tuple(until),
    max_gen_toks=_positive('max_gen_toks', [*given, MAX_GEN_TOKS][0]),
    max_length=(
      None if max_length is None else _positive('max_length', max_length)
    ),
    temperature=temperature,
    top_k=top_k if do_sample else 0,
    top_p=top_p if do_sample else 1.0,
  )


def _sampling(found: dict[str, Any]) -> tuple[float, bool]:
  """Returns the temperature, and whether tokens are sampled."""
  do_sample = found.pop('do_sample', None)
  temperature = _number('temperature', found.pop('temperature', None) or 0.0)
  if do_sample is None:
    do_sample = temperature > 0
  if do_sample and temperature == 0:
    raise errors.UsageError(
      'do_sample=True with temperature=0: set a positive temperature, or '
      'do_sample=False. The harness refuses this too.'
    )
  return (temperature if do_sample else 0.0), bool(do_sample)


def _defaults(config: Mapping[str, Any], do_sample: bool) -> dict[str, Any]:
  """Returns what generation_config.json changes in any request."""
  names = set(_NEUTRAL) - {'min_length'}
  if do_sample:
    names |= {'top_k', 'top_p'}
  else:
    names -= {'typical_p', 'min_p', 'epsilon_cutoff', 'eta_cutoff'}
  return {
    name: config[name] for name in sorted(names)
    if config.get(name) is not None
  }  # fmt: skip


def _positive(name: str, value: Any) -> int:
  number = _number(name, value)
  if number != int(number) or number < 1:
    raise errors.UsageError(f'{name}={value!r}: expected a positive integer.')
  return int(number)


def _number(name: str, value: Any) -> float:
  """Returns an option that may have been given as a text."""
  try:
    number = float(value)
  except (TypeError, ValueError) as error:
    raise errors.UsageError(f'{name}={value!r}: expected a number.') from error
  if not math.isfinite(number) or number < 0:
    raise errors.UsageError(
      f'{name}={value!r}: expected 0 or a positive number.'
    )
  return number


def cut(text: str, until: Sequence[str]) -> str:
  """Cuts a text at its stop strings, one after another, as the harness does."""
  for stop in until:
    if stop:
      text = text.split(stop)[0]
  return text

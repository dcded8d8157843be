"""The dream journal: what was dreamt, tried and kept, and why, as text."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sleep_jax import types

# Of a round, see `Dreaming.dream`: numbers that a night's record keeps.
_MEANS = ('entropy', 'likelihood', 'repetition', 'distinct', 'nothing')
REWARDED, TRIED, LEFT, BROKEN = (
  'rewarded', 'no gain', 'not tried', 'no whole text'
)  # fmt: skip


def rows(
  journal: Mapping[str, Any],
  decode: Callable[[Sequence[int]], str],
  documents: types.Texts,
  *,
  night: int,
) -> list[dict[str, Any]]:
  """One row a dream.

  Args:
    journal: see `Dreaming.dream`, fetched.
    documents: of the task, `[N, T]`.
  """
  about = [
    decode(tokens[:size].tolist()).strip()
    for tokens, size in zip(
      documents.tokens_BT, documents.length_B, strict=True
    )
  ]
  made = []
  for number, dream in np.ndindex(*journal['document'].shape):
    of = lambda name, at=(number, dream): journal[name][at]
    texts = {k: x[number, dream] for k, x in journal['texts'].items()}
    made.append({
      'night': night,
      'round': number + 1,
      'dream': dream + 1,
      'document': int(of('document')),
      'about': about[int(of('document'))],
      'texts': [_text(texts, place, decode) for place in range(len(
        texts['length']))],
      'importance': _number(of('importance')),
      'gain': _number(of('gain')) if of('tried') else None,
      'kept': _why(of),
    })  # fmt: skip
  return made


def means(journal: Mapping[str, Any]) -> dict[str, Any]:
  """A night's dreams in numbers, by round."""
  found: dict[str, Any] = {
    name: [_number(x) for x in journal[name]] for name in _MEANS
  }
  for name in ('tried', 'rewarded'):
    found[name] = np.sum(journal[name], -1).tolist()
  gains = [
    float(np.mean(gain[tried])) if tried.any() else None
    for gain, tried in zip(journal['gain'], journal['tried'], strict=True)
  ]
  return found | {'gain': gains}


def nothing_kept(journal: Mapping[str, Any]) -> str:
  """Why a night of dreams changes nothing; '' if it does."""
  if not np.isfinite(journal['nothing']).all():
    return 'the practice cannot be scored: the model gives NaN'
  if np.any(journal['rewarded']):
    return ''
  tried = journal['tried']
  if not np.any(tried):
    return 'no dream was whole: each is empty or does not come to an end'
  if not np.any(journal['gain'][tried]):
    return 'the score of the practice is constant: no trial moved it'
  return 'no dream was rewarded'


def _text(texts, place, decode):
  tokens = texts['tokens'][place].tolist()
  prompt, length = (int(texts[k][place]) for k in ('prompt_length', 'length'))
  expert = int(texts['expert'][place])
  return {
    'prompt': decode(tokens[:prompt]),
    'text': decode(tokens[prompt:length]),
    'expert': None if expert < 0 else expert,
    'whole': bool(texts['whole'][place]),
  }


def _why(of) -> str:
  if of('rewarded'):
    return REWARDED
  if of('tried'):
    return TRIED
  return LEFT if of('valid') else BROKEN


def _number(value) -> float | None:
  value = float(value)
  return value if math.isfinite(value) else None

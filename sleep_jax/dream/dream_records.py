"""Converts the arrays of a dreaming night to text rows and summary numbers.

One row per dream goes to `dreams.jsonl`: its texts, the document it is about,
its importance and gain, and whether it was tried and rewarded.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sleep_jax import types

# Per-round numbers of `DreamRounds.dream` that are copied to the night record.
_ROUND_MEANS = ('entropy', 'likelihood', 'repetition', 'distinct', 'nothing')
# Outcome of a dream: rewarded; tried without a gain above the margin; not
# selected for a trial; without a usable text.
REWARDED, NO_GAIN, NOT_TRIED, UNUSABLE = (
  'rewarded',
  'no gain',
  'not tried',
  'no whole text',
)


def rows(
  records: Mapping[str, Any],
  decode: Callable[[Sequence[int]], str],
  documents: types.Texts,
  *,
  night: int,
) -> list[dict[str, Any]]:
  """Returns one row per dream, in the order of rounds and candidates.

  Args:
    records: dream records of `Dreaming.dream` or `SelfEdit.edit`, on the host.
    decode: converts token ids to text.
    documents: documents of the task, `[N, T]`.
    night: number of the night, written to each row.
  """
  about = [
    decode(tokens[:size].tolist()).strip()
    for tokens, size in zip(
      documents.tokens_BT, documents.length_B, strict=True
    )
  ]
  found = []
  for number, dream in np.ndindex(*records['document'].shape):
    value_of = lambda name, at=(number, dream): records[name][at]
    texts = {k: x[number, dream] for k, x in records['texts'].items()}
    found.append(
      {
        'night': night,
        'round': number + 1,
        'dream': dream + 1,
        'document': int(value_of('document')),
        'about': about[int(value_of('document'))],
        'texts': [
          _text_row(texts, index, decode)
          for index in range(len(texts['length']))
        ],
        'importance': _finite_or_none(value_of('importance')),
        'gain': _finite_or_none(value_of('gain'))
        if value_of('tried')
        else None,
        'kept': _outcome(value_of),
      }
    )
  return found


def summarize(records: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the summary numbers of a dreaming night, one entry per round.

  Args:
    records: dream records of `Dreaming.dream` or `SelfEdit.edit`, on the host.
  """
  summary: dict[str, Any] = {
    name: [_finite_or_none(x) for x in records[name]] for name in _ROUND_MEANS
  }
  for name in ('tried', 'rewarded'):
    summary[name] = np.sum(records[name], -1).tolist()
  gains = [
    float(np.mean(gain[tried])) if tried.any() else None
    for gain, tried in zip(records['gain'], records['tried'], strict=True)
  ]
  return summary | {'gain': gains}


def discard_reason(records: Mapping[str, Any]) -> str:
  """Returns why a dreaming night is discarded, or '' if it is kept.

  Args:
    records: dream records of `Dreaming.dream` or `SelfEdit.edit`, on the host.
  """
  if not np.isfinite(records['nothing']).all():
    return 'the practice questions cannot be scored: the model returns NaN'
  if np.any(records['rewarded']):
    return ''
  tried = records['tried']
  if not np.any(tried):
    return 'no dream has a usable text: each is empty or has no end (EOS)'
  if not np.any(records['gain'][tried]):
    return 'the practice score is constant: no trial changed it'
  return 'no dream was rewarded'


def _text_row(texts, index, decode):
  tokens = texts['tokens'][index].tolist()
  prompt, length = (int(texts[k][index]) for k in ('prompt_length', 'length'))
  expert = int(texts['expert'][index])
  return {
    'prompt': decode(tokens[:prompt]),
    'text': decode(tokens[prompt:length]),
    'expert': None if expert < 0 else expert,
    'whole': bool(texts['whole'][index]),
  }


def _outcome(value_of) -> str:
  if value_of('rewarded'):
    return REWARDED
  if value_of('tried'):
    return NO_GAIN
  return NOT_TRIED if value_of('valid') else UNUSABLE


def _finite_or_none(value) -> float | None:
  value = float(value)
  return value if math.isfinite(value) else None

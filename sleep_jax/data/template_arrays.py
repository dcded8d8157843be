"""Converts prompt templates with one slot to arrays.

A template is tokenized with a placeholder in its slot and cut there. The slot
must not share a token with the text around it; then BOS, the part before, the
subject's tokens and the part after are the tokens of the filled template.
"""

import functools

import numpy as np

from sleep_jax import errors, types
from sleep_jax.datasets import dataset as dataset_lib


def make_templates(
  templates: list[str],
  dataset: dataset_lib.Dataset,
  tokenizer: types.Tokenizer,
  max_prompt: int,
  prefix: int,
) -> types.PromptTemplates:
  """Returns templates [S] cut at their slots.

  Args:
    templates: texts with one '{}' each.
    dataset: its subjects are what fills the slots.
    tokenizer: tokenizer of the run.
    max_prompt: P, maximum number of tokens of a filled template, with BOS.
    prefix: tokens of plain text that a stored prompt keeps; a longer subject
      is never stored, so no template is filled with it.

  Raises:
    ConfigError: a template does not have exactly one slot, its slot is part of
      a word, or it exceeds `max_prompt` with the longest subject.
  """
  max_subject = _longest_subject(dataset, tokenizer, prefix) if templates else 0
  pairs = []
  for template in templates:
    if template.count('{}') != 1:
      raise errors.ConfigError(
        f'Template {template!r} has {template.count("{}")} slots: write '
        f'exactly one {{}}.'
      )
    slot = template.index('{}')
    ids, spans = tokenizer.encode_offsets(template.replace('{}', 'X'))
    if any(start <= slot and end > slot + 1 for start, end in spans):
      raise errors.ConfigError(
        f'Template {template!r}: the slot is part of a word: put spaces '
        f'around it.'
      )
    tokens_and_spans = list(zip(ids, spans, strict=True))
    before = [token for token, (_, end) in tokens_and_spans if end <= slot]
    after = [token for token, (start, _) in tokens_and_spans if start > slot]
    length = 1 + len(before) + max_subject + len(after)
    if length > max_prompt:
      raise errors.ConfigError(
        f'Template {template!r} has {length} tokens with BOS and the longest '
        f'subject, but data.max_prompt is {max_prompt}: shorten it or raise '
        'data.max_prompt.'
      )
    pairs.append((before, after))
  arrays = {}
  for name, side in (('before', 0), ('after', 1)):
    # The width does not depend on the tokenizer, so neither do the shapes of
    # the night programs.
    tokens = np.full((len(pairs), max_prompt), tokenizer.eos, np.int32)
    for row, pair in enumerate(pairs):
      tokens[row, : len(pair[side])] = pair[side]
    arrays[f'{name}_SP'] = tokens
    arrays[f'{name}_length_S'] = np.array(
      [len(pair[side]) for pair in pairs], np.int32
    )
  return types.PromptTemplates(**arrays)


def _longest_subject(
  dataset: dataset_lib.Dataset, tokenizer: types.Tokenizer, prefix: int
) -> int:
  """Returns the tokens of the longest subject that fits `prefix`; 0 if none."""
  count = functools.lru_cache(maxsize=2**14)(
    lambda subject: len(tokenizer.encode(subject))
  )
  longest = 0
  for rows in (dataset.pretrain, *(rows for _, rows in dataset.experiences)):
    for row in rows:
      if longest == prefix:
        return longest
      if row.subject:
        length = count(row.text[slice(*row.subject)])
        longest = max(longest, length if length <= prefix else 0)
  return longest

"""TODO: data.template_arrays (from data.streams)."""

import numpy as np

from sleep_jax import types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset as dataset_lib


def templates(
  templates: list[str],
  dataset: dataset_lib.Dataset,
  tokenizer: tokenizer_lib.Tokenizer,
  max_prompt: int,
  prefix: int,
) -> types.PromptTemplates:
  """Templates cut at their slot, as they are tokenised around a name."""
  subjects = {
    row.text[slice(*row.subject)]
    for rows in (dataset.pretrain, *(rows for _, rows in dataset.experiences))
    for row in rows
    if templates and row.subject
  }
  sizes = [len(tokenizer.encode(name)) for name in subjects]
  # A longer one does not fit into what is stored of a text, so is not asked.
  longest = max((size for size in sizes if size <= prefix), default=0)
  pairs = []
  for template in templates:
    if template.count('{}') != 1:
      raise ValueError(
        f'Template {template!r} has {template.count("{}")} slots: write '
        f'exactly one {{}}.'
      )
    slot = template.index('{}')
    ids, spans = tokenizer.encode_offsets(template.replace('{}', 'X'))
    if any(start <= slot and end > slot + 1 for start, end in spans):
      raise ValueError(
        f'Template {template!r}: the slot is part of a word: put spaces '
        f'around it.'
      )
    cut = list(zip(ids, spans, strict=True))
    before = [token for token, (_, end) in cut if end <= slot]
    after = [token for token, (start, _) in cut if start > slot]
    length = 1 + len(before) + longest + len(after)
    if length > max_prompt:
      raise ValueError(
        f'Template {template!r} has {length} tokens with BOS and the longest '
        f'subject, '
        f'but max_prompt is {max_prompt}: shorten it or raise max_prompt.'
      )
    pairs.append((before, after))
  arrays = {}
  for name, side in (('before', 0), ('after', 1)):
    # Of one width, whatever the vocabulary: a night compiles once for all.
    tokens = np.full((len(pairs), max_prompt), tokenizer.eos, np.int32)
    for row, pair in enumerate(pairs):
      tokens[row, : len(pair[side])] = pair[side]
    arrays[f'{name}_SP'] = tokens
    arrays[f'{name}_length_S'] = np.array(
      [len(pair[side]) for pair in pairs], np.int32
    )
  return types.PromptTemplates(**arrays)

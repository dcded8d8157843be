"""Converts probes and their candidate answers to arrays.

All probes of a stream share one table of candidate sets and one answer width,
so the evaluation programs are compiled once.
"""

import numpy as np

from sleep_jax import errors, types
from sleep_jax.datasets import dataset as dataset_lib


def make_candidates(
  dataset: dataset_lib.Dataset,
  tokenizer: types.Tokenizer,
  probe_groups: list[list[dataset_lib.Probe]],
) -> dict[str, np.ndarray]:
  """Returns the candidate tables that all probes share.

  Args:
    dataset: holds the candidate sets.
    tokenizer: tokenizer of the run.
    probe_groups: all probes of the stream. The answer width A is that of the
      longest answer or candidate.

  Returns:
    The candidate fields of `types.Probes`, by name; at least one set with one
    candidate, which is absent (length 0) in a dataset without candidates.
  """
  sets = {
    key: [(encode_answer(text, tokenizer), since) for text, since in candidates]
    for key, candidates in dataset.candidates.items()
  }
  answers = [
    encode_answer(probe.answer, tokenizer)
    for group in probe_groups
    for probe in group
  ]
  answers += [answer for group in sets.values() for answer, _ in group]
  width = max(map(len, answers), default=1)
  num_sets = max(1, len(sets))
  max_candidates = max(map(len, sets.values()), default=1)
  tables = {
    'candidates_SCA': np.full(
      (num_sets, max_candidates, width), tokenizer.eos, np.int32
    ),
    'candidate_length_SC': np.zeros((num_sets, max_candidates), np.int32),
    'candidate_since_SC': np.zeros((num_sets, max_candidates), np.int32),
  }
  for row, group in enumerate(sets.values()):
    for column, (answer, since) in enumerate(group):
      tables['candidates_SCA'][row, column, : len(answer)] = answer
      tables['candidate_length_SC'][row, column] = len(answer)
      tables['candidate_since_SC'][row, column] = since
  return tables


def encode_answer(text: str, tokenizer: types.Tokenizer) -> list[int]:
  """Returns the tokens of an answer, followed by EOS."""
  return [*tokenizer.encode_continuation(text), tokenizer.eos]


def make_probes(
  group: list[dataset_lib.Probe],
  dataset: dataset_lib.Dataset,
  tokenizer: types.Tokenizer,
  tables: dict[str, np.ndarray],
  *,
  context: int,
  max_prompt: int,
  keep_end: bool = False,
) -> types.Probes:
  """Returns probes [B] as arrays.

  Args:
    group: the probes.
    dataset: holds the candidate sets.
    tokenizer: tokenizer of the run.
    tables: see `make_candidates`.
    context: T, maximum number of tokens of prompt and answer, with BOS and EOS.
    max_prompt: P, maximum number of tokens of a prompt, with BOS.
    keep_end: whether a prompt that is too long loses the tokens after BOS that
      do not fit, instead of being refused.

  Returns:
    The probes; `set_B` and `gold_B` are -1 for a probe without candidates.

  Raises:
    DataError: a prompt exceeds `max_prompt`, or with its answer `context`.
  """
  prompts = np.full((len(group), max_prompt), tokenizer.eos, np.int32)
  prompt_length = np.zeros(len(group), np.int32)
  width = tables['candidates_SCA'].shape[-1]
  answers = np.full((len(group), width), tokenizer.eos, np.int32)
  answer_length = np.zeros(len(group), np.int32)
  table_indices = {
    key: (row, {text: column for column, (text, _) in enumerate(candidates)})
    for row, (key, candidates) in enumerate(dataset.candidates.items())
  }
  set_and_gold = np.full((2, len(group)), -1, np.int32)
  for row, probe in enumerate(group):
    prompt = [tokenizer.bos, *tokenizer.encode(probe.prompt)]
    answer = encode_answer(probe.answer, tokenizer)
    if keep_end:
      too_many = len(prompt) - min(max_prompt, context - len(answer))
      del prompt[1 : 1 + max(0, too_many)]
    if len(prompt) > max_prompt:
      raise errors.DataError(
        f'{probe.where}: the prompt has {len(prompt)} tokens with BOS, but '
        f'data.max_prompt is {max_prompt}: shorten it or raise data.max_prompt.'
      )
    if len(prompt) + len(answer) > context:
      raise errors.DataError(
        f'{probe.where}: prompt and answer have '
        f'{len(prompt) + len(answer)} tokens, but data.context is {context}: '
        'shorten them or raise data.context.'
      )
    prompts[row, : len(prompt)] = prompt
    prompt_length[row] = len(prompt)
    answers[row, : len(answer)] = answer
    answer_length[row] = len(answer)
    if probe.candidates is not None:
      set_index, columns = table_indices[probe.candidates]
      set_and_gold[:, row] = set_index, columns[probe.answer]
  return types.Probes(
    prompts=types.Prompts(
      tokens_BP=prompts,
      length_B=prompt_length,
      subject_B2=np.zeros((len(group), 2), np.int32),
    ),
    answer_BA=answers,
    answer_length_B=answer_length,
    set_B=set_and_gold[0],
    gold_B=set_and_gold[1],
    **tables,
  )

"""TODO: data.probe_arrays (from data.streams)."""

import numpy as np

from sleep_jax import types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset as dataset_lib


def candidates(
  dataset: dataset_lib.Dataset,
  tokenizer: tokenizer_lib.Tokenizer,
  asked: list[list[dataset_lib.Probe]],
) -> dict[str, np.ndarray]:
  """The answer sets that all probes share, and room for any answer."""
  sets = {
    key: [(encode_answer(text, tokenizer), since) for text, since in candidates]
    for key, candidates in dataset.candidates.items()
  }
  answers = [
    encode_answer(probe.answer, tokenizer) for group in asked for probe in group
  ]
  answers += [answer for group in sets.values() for answer, _ in group]
  width = max(map(len, answers), default=1)
  num_sets = max(1, len(sets))
  most = max(map(len, sets.values()), default=1)
  tables = {
    'candidates_SCA': np.full((num_sets, most, width), tokenizer.eos, np.int32),
    'candidate_length_SC': np.zeros((num_sets, most), np.int32),
    'candidate_since_SC': np.zeros((num_sets, most), np.int32),
  }
  for row, group in enumerate(sets.values()):
    for column, (answer, since) in enumerate(group):
      tables['candidates_SCA'][row, column, : len(answer)] = answer
      tables['candidate_length_SC'][row, column] = len(answer)
      tables['candidate_since_SC'][row, column] = since
  return tables


def encode_answer(text: str, tokenizer: tokenizer_lib.Tokenizer) -> list[int]:
  return [*tokenizer.encode(text), tokenizer.eos]


def probes(
  group: list[dataset_lib.Probe],
  dataset: dataset_lib.Dataset,
  tokenizer: tokenizer_lib.Tokenizer,
  tables: dict[str, np.ndarray],
  *,
  context: int,
  max_prompt: int,
) -> types.Probes:
  """Probes [B] with their answers; set and gold are -1 without candidates."""
  prompts = np.full((len(group), max_prompt), tokenizer.eos, np.int32)
  prompt_length = np.zeros(len(group), np.int32)
  width = tables['candidates_SCA'].shape[-1]
  answers = np.full((len(group), width), tokenizer.eos, np.int32)
  answer_length = np.zeros(len(group), np.int32)
  places = {
    key: (row, {text: column for column, (text, _) in enumerate(candidates)})
    for row, (key, candidates) in enumerate(dataset.candidates.items())
  }
  chosen = np.full((2, len(group)), -1, np.int32)
  for row, probe in enumerate(group):
    prompt = [tokenizer.bos, *tokenizer.encode(probe.prompt)]
    answer = encode_answer(probe.answer, tokenizer)
    if len(prompt) > max_prompt:
      raise ValueError(
        f'{probe.where}: the question has {len(prompt)} tokens with BOS, but '
        f'max_prompt is {max_prompt}: shorten it or raise max_prompt.'
      )
    if len(prompt) + len(answer) > context:
      raise ValueError(
        f'{probe.where}: question and answer have '
        f'{len(prompt) + len(answer)} tokens, but the context is {context}: '
        'shorten them or raise the context.'
      )
    prompts[row, : len(prompt)] = prompt
    prompt_length[row] = len(prompt)
    answers[row, : len(answer)] = answer
    answer_length[row] = len(answer)
    if probe.candidates is not None:
      place, columns = places[probe.candidates]
      chosen[:, row] = place, columns[probe.answer]
  return types.Probes(
    prompts=types.Prompts(
      tokens_BP=prompts,
      length_B=prompt_length,
      subject_B2=np.zeros((len(group), 2), np.int32),
    ),
    answer_BA=answers,
    answer_length_B=answer_length,
    set_B=chosen[0],
    gold_B=chosen[1],
    **tables,
  )

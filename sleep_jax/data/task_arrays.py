"""TODO: data.task_arrays (from data.streams)."""

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.data import probe_arrays, tokenization
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset as dataset_lib


def check_tasks(dataset: dataset_lib.Dataset) -> None:
  """Dreams are not tried on what is asked in the end.

  Raises:
    ValueError: names the question.
  """
  asked = {
    probe.prompt: probe
    for groups in (
      dataset.probes,
      dataset.template_probes,
      {'guard': dataset.guard},
    )
    for group in groups.values()
    for probe in group
  }
  for key, task in dataset.tasks.items():
    if not task.practice or not task.documents:
      raise ValueError(
        f'{dataset.name}: the task of experience {key} has '
        f'{len(task.documents)} documents and {len(task.practice)} practice '
        'questions: expected one or more of each.'
      )
    for practice in task.practice:
      if practice.prompt in asked:
        raise ValueError(
          f'{practice.where}: dreams of experience {key} would be tried on '
          f'{practice.prompt!r}, which {asked[practice.prompt].where} asks as '
          'a test: take it out of one of them.'
        )


def tasks(dataset, probes, tokenizer, **settings) -> dict[str, types.Task]:
  """All of one shape: where there are fewer documents, some come twice."""
  made = {
    key: _documents(task.documents, tokenizer, **settings)
    for key, task in dataset.tasks.items()
  }
  most = max((len(found.length_B) for found in made.values()), default=0)
  rows = max((len(task.lessons) for task in dataset.tasks.values()), default=0)
  return {
    key: types.Task(
      jax.tree.map(lambda x: np.resize(x, (most, *x.shape[1:])), made[key]),
      probes(task.practice),
      _choices(task, tokenizer, rows=rows, width=settings['context']),
    )
    for key, task in dataset.tasks.items()
  }


def _choices(
  task: dataset_lib.Task,
  tokenizer: tokenizer_lib.Tokenizer,
  *,
  rows: int,
  width: int,
) -> types.Choices | None:
  """What a dream may choose, its lessons padded to so many `rows`."""
  if not task.choices:
    return None
  texts = [
    probe_arrays.encode_answer(choice.text, tokenizer)
    for choice in task.choices
  ]
  text_CG = np.full((len(texts), max(map(len, texts))), tokenizer.eos, np.int32)
  weight_CR = np.zeros((len(texts), rows), np.float32)
  for place, (text, choice) in enumerate(zip(texts, task.choices, strict=True)):
    text_CG[place, : len(text)] = text
    weight_CR[place, list(choice.lessons)] = 1
  tokens_RT = np.full((rows, width), tokenizer.eos, np.int32)
  prompt_length_R, length_R = np.ones((2, rows), np.int32)
  for place, row in enumerate(task.lessons):
    begun = tokenizer.encode(row.text[: row.response_start])
    tokens = [tokenizer.bos, *begun]
    tokens += probe_arrays.encode_answer(
      row.text[row.response_start :], tokenizer
    )
    if len(tokens) > width:
      raise ValueError(
        f'{row.where}: a lesson has {len(tokens)} tokens, but data.context is '
        f'{width}: raise it, or take shorter tasks.'
      )
    tokens_RT[place, : len(tokens)] = tokens
    prompt_length_R[place], length_R[place] = 1 + len(begun), len(tokens)
  return types.Choices(
    text_CG=text_CG,
    length_C=np.array([len(text) for text in texts], np.int32),
    lessons=types.Rollout(tokens_RT, prompt_length_R, length_R),
    weight_CR=weight_CR,
    rate_C=np.array([choice.rate for choice in task.choices], np.float32),
    share_C=np.array([choice.share for choice in task.choices], np.float32),
  )


def _documents(
  rows: list[dataset_lib.Row], tokenizer: tokenizer_lib.Tokenizer, **settings
) -> types.Prompts:
  """What each document begins with, and the document without its EOS."""
  made = [tokenization.tokenise(row, tokenizer, **settings) for row in rows]
  whole = [sequence for windows in made for sequence in windows]

  def room(texts: list[list[int]], width: int) -> np.ndarray:
    tokens = np.full((len(texts), width), tokenizer.eos, np.int32)
    for place, text in enumerate(texts):
      tokens[place, : len(text)] = text
    return tokens

  size = lambda texts: np.array([len(text) for text in texts], np.int32)
  begun = [sequence.tokens[: sequence.prompt_length] for sequence in whole]
  read = [sequence.tokens[:-1] for sequence in whole]
  return types.Prompts(
    tokens_BP=room(begun, settings['max_prompt']),
    length_B=size(begun),
    subject_B2=np.array([sequence.subject for sequence in whole], np.int32),
    context=types.Texts(room(read, settings['context']), size(read)),
  )

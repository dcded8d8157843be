"""Converts dream tasks to arrays: documents, practice probes, choices, lessons.

All tasks of a stream get the same shapes, so the dream programs are compiled
once.
"""

from collections.abc import Callable

import jax
import numpy as np

from sleep_jax import errors, types
from sleep_jax.data import probe_arrays, tokenization
from sleep_jax.datasets import dataset as dataset_lib


def check_tasks(dataset: dataset_lib.Dataset) -> None:
  """Checks that no practice question is also scored.

  Raises:
    DataError: a task lacks documents or practice questions, or one of its
      practice questions is a scored, template or guard probe.
  """
  scored = {
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
      raise errors.DataError(
        f'{dataset.name}: the task of experience {key} has '
        f'{len(task.documents)} documents and {len(task.practice)} practice '
        'questions: expected one or more of each.'
      )
    for practice in task.practice:
      if practice.prompt in scored:
        raise errors.DataError(
          f'{practice.where}: the task of experience {key} practises on '
          f'{practice.prompt!r}, which {scored[practice.prompt].where} uses as '
          'a scored probe: remove it from one of them.'
        )


def make_tasks(
  dataset: dataset_lib.Dataset,
  make_probes: Callable[[list[dataset_lib.Probe]], types.Probes],
  tokenizer: types.Tokenizer,
  **settings,
) -> dict[str, types.Task]:
  """Returns the tasks by key, all of one shape.

  Tasks with fewer documents than others repeat theirs.

  Args:
    dataset: holds the tasks.
    make_probes: converts probes to arrays.
    tokenizer: tokenizer of the run.
    **settings: arguments of `tokenization.tokenize`.
  """
  documents = {
    key: _make_documents(task.documents, tokenizer, **settings)
    for key, task in dataset.tasks.items()
  }
  num_documents = max(
    (len(prompts.length_B) for prompts in documents.values()), default=0
  )
  num_lessons = max(
    (len(task.lessons) for task in dataset.tasks.values()), default=0
  )
  return {
    key: types.Task(
      jax.tree.map(
        lambda x: np.resize(x, (num_documents, *x.shape[1:])), documents[key]
      ),
      make_probes(task.practice),
      _make_choices(
        task, tokenizer, num_lessons=num_lessons, width=settings['context']
      ),
    )
    for key, task in dataset.tasks.items()
  }


def _make_choices(
  task: dataset_lib.Task,
  tokenizer: types.Tokenizer,
  *,
  num_lessons: int,
  width: int,
) -> types.Choices | None:
  """Returns the choices of a task, or None if its dreams are free text.

  Args:
    task: holds choices and lessons.
    tokenizer: tokenizer of the run.
    num_lessons: R, rows that the lessons are padded to.
    width: T, tokens that a lesson is padded to.

  Raises:
    DataError: a lesson exceeds `width`.
  """
  if not task.choices:
    return None
  texts = [
    probe_arrays.encode_answer(choice.text, tokenizer)
    for choice in task.choices
  ]
  text_CG = np.full((len(texts), max(map(len, texts))), tokenizer.eos, np.int32)
  weight_CR = np.zeros((len(texts), num_lessons), np.float32)
  for index, (text, choice) in enumerate(zip(texts, task.choices, strict=True)):
    text_CG[index, : len(text)] = text
    weight_CR[index, list(choice.lessons)] = 1
  tokens_RT = np.full((num_lessons, width), tokenizer.eos, np.int32)
  prompt_length_R, length_R = np.ones((2, num_lessons), np.int32)
  for index, row in enumerate(task.lessons):
    prompt = tokenizer.encode(row.text[: row.response_start])
    tokens = [tokenizer.bos, *prompt]
    tokens += probe_arrays.encode_answer(
      row.text[row.response_start :], tokenizer
    )
    if len(tokens) > width:
      raise errors.DataError(
        f'{row.where}: a lesson has {len(tokens)} tokens, but data.context is '
        f'{width}: raise it or use shorter tasks.'
      )
    tokens_RT[index, : len(tokens)] = tokens
    prompt_length_R[index], length_R[index] = 1 + len(prompt), len(tokens)
  return types.Choices(
    text_CG=text_CG,
    length_C=np.array([len(text) for text in texts], np.int32),
    lessons=types.Rollout(tokens_RT, prompt_length_R, length_R),
    weight_CR=weight_CR,
    rate_C=np.array([choice.rate for choice in task.choices], np.float32),
    share_C=np.array([choice.share for choice in task.choices], np.float32),
  )


def _make_documents(
  rows: list[dataset_lib.Row], tokenizer: types.Tokenizer, **settings
) -> types.Prompts:
  """Returns the stored prompts of documents, and the documents without EOS."""
  tokenized = [
    tokenization.tokenize(row, tokenizer, **settings) for row in rows
  ]
  sequences = [sequence for windows in tokenized for sequence in windows]

  def pad(texts: list[list[int]], width: int) -> np.ndarray:
    tokens = np.full((len(texts), width), tokenizer.eos, np.int32)
    for index, text in enumerate(texts):
      tokens[index, : len(text)] = text
    return tokens

  lengths = lambda texts: np.array([len(text) for text in texts], np.int32)
  prompts = [
    sequence.tokens[: sequence.prompt_length] for sequence in sequences
  ]
  documents = [sequence.tokens[:-1] for sequence in sequences]
  return types.Prompts(
    tokens_BP=pad(prompts, settings['max_prompt']),
    length_B=lengths(prompts),
    subject_B2=np.array([sequence.subject for sequence in sequences], np.int32),
    context=types.Texts(
      pad(documents, settings['context']), lengths(documents)
    ),
  )

"""Builds the object that writes questions about the days of a run."""

import ml_collections

from sleep_jax import types
from sleep_jax.interop import chat_format, hf_checkpoint
from sleep_jax.runs import evening_questions
from sleep_jax.sleep import question_prompts


def make(
  config: ml_collections.ConfigDict,
  base_model: hf_checkpoint.HfCheckpoint | None,
  tokenizer: types.Tokenizer,
) -> evening_questions.EveningQuestions | None:
  """Returns the question writer of a run, or None if it writes no questions.

  Only a base model writes questions: a model that was pretrained here has never
  seen text like the examples that it would have to continue.

  Args:
    config: of the study; one of an earlier version has no section for it.
    base_model: what the run started from, or None.
    tokenizer: of the run.
  """
  settings = question_prompts.make_settings(**config.get('questions', {}))
  if not settings.on or base_model is None:
    return None
  writer = chat_format.load_writer(base_model, tokenizer)
  prompts = question_prompts.QuestionPrompts(
    tokenizer, writer and writer.template, settings.forms
  )
  return evening_questions.EveningQuestions(
    settings, prompts, config.consolidate.prompt_width
  )

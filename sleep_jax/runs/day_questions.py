"""Before a day, a base model writes questions about its documents, and answers.

The pairs become rows of the day, so that it is learned awake as if a person had
written them. Where the teacher `context` answers in the night, the questions
are written in the evening instead, see `evening_questions`.

References: 2606.03979 v2 section 3.4 (texts that the model writes about its
day); 2506.10943 (training on what the model restates).
"""

import collections
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import ml_collections

from sleep_jax.datasets import row_formats
from sleep_jax.interop import chat_format, open_model
from sleep_jax.runs import progress as progress_lib
from sleep_jax.sleep import (
  question_calls,
  question_prompts,
  question_requests,
  question_sampling,
  question_text,
  question_writing,
)

Row = str | Mapping[str, Any]


def settings(
  config: ml_collections.ConfigDict,
) -> question_prompts.Settings | None:
  """Returns how questions are written before a day; None if they are not."""
  made = question_prompts.make_settings(**config.get('questions', {}))
  teachers = config.consolidate.teachers
  in_evening = any(teacher['teacher'] == 'context' for teacher in teachers)
  return made if made.on and not in_evening else None


def write(
  loaded: open_model.LoadedModel,
  rows: Iterable[Row],
  settings: question_prompts.Settings,
  config: ml_collections.ConfigDict,
  progress: progress_lib.Progress,
) -> list[dict[str, Any]]:
  """Returns questions about documents with their answers, as rows of a day.

  Args:
    loaded: the model. Only a base model writes.
    rows: of the day; those with a text alone are documents.
    settings: how many questions, and in which forms they will be asked. The
      form 'chat' needs a chat template.
    config: of the run; says how long a row may be.
    progress: says how many sentences are read, and how many rows were added.
  """
  texts = [text for row in rows if (text := _document(row))]
  if loaded.base_model is None or not texts:
    return []
  tokenizer = loaded.tokenizer
  writer = chat_format.load_writer(loaded.base_model, tokenizer)
  template = writer and writer.template
  prompts = question_prompts.QuestionPrompts(
    tokenizer, template, settings.forms
  )
  passages = question_text.passages(texts)
  questions = question_writing.Writer(
    passages, prompts, settings, question_calls.Calls(make_sampler(loaded)),
  )  # fmt: skip
  # On a CPU this takes minutes.
  progress.say(f'writing questions about {len(passages)} sentences of the day')
  questions.write()
  forms = [
    form for form in settings.forms
    if form != question_prompts.CHAT or template is not None
  ]  # fmt: skip
  usual = question_prompts.PLAIN if template is None else question_prompts.CHAT
  found = _question_rows(questions.chosen(), passages, forms) if forms else []
  found += [
    _row(request, question_requests.restate(passage), passage.subject, usual)
    for passage in passages
    for request in question_requests.requests(passage, settings.about_subjects)
  ]
  # A row that is too long would have the whole day refused.
  most = config.data.max_prompt, config.data.context
  lengths = (_lengths(row, tokenizer, template) for row in found)
  added = [
    row for row, (prompt, whole) in zip(found, lengths, strict=True)
    if prompt <= most[0] and whole <= most[1]
  ]  # fmt: skip
  progress.say(f'{len(added)} questions were added to the day')
  return added


def make_sampler(loaded: open_model.LoadedModel) -> question_calls.Write:
  """Returns what writes texts of a model, for `question_calls.Calls`."""
  # A loop over the layers compiles faster.
  config = dataclasses.replace(loaded.model.config, unroll=1, looped=True)
  model = dataclasses.replace(loaded.model, config=config)

  @functools.partial(jax.jit, static_argnames='max_new')
  def sample(weights, prompts, rows, ends_V, call, temperature, max_new):
    key = jax.random.fold_in(jax.random.key(0), call)
    return question_sampling.write(
      model, weights, prompts, rows, ends_V, key, max_new=max_new,
      temperature=temperature,
    )  # fmt: skip

  return functools.partial(sample, loaded.weights)


def _document(row: Row) -> str:
  """Returns the text of a row that is nothing else, or ''."""
  text = row if isinstance(row, str) else row.get('text')
  is_document = isinstance(row, str) or set(row) == {'text'}
  # Other values are refused when the row is read.
  return text if is_document and isinstance(text, str) else ''


def _question_rows(questions, passages, forms) -> list[dict[str, Any]]:
  """Returns rows of questions; those about a passage take turns in form."""
  numbers = collections.Counter[int]()
  found = []
  for question in questions:
    passage, answer = passages[question.passage], question.answer
    if passage.is_told:
      answer = question_requests.in_second_person(answer)
    form = forms[numbers[question.passage] % len(forms)]
    numbers[question.passage] += 1
    found.append(_row(question.text, answer, passage.subject, form))
  return found


def _row(question: str, answer: str, subject: str, form: str) -> dict[str, Any]:
  """Returns a row of a day.

  The end of an answer in a chat is not learned: it is shorter than what the
  model would say, and to stop there would change other answers too.

  Args:
    question, answer: of the model.
    subject: of the passage, see `question_text.Passage`.
    form: 'chat' or 'plain'.
  """
  # Rehearsals of older prompts about it are left out, as this may correct them.
  is_named = subject not in ('', question_text.USER) and subject in question
  about = {row_formats.ABOUT: subject} if is_named else {}
  if form == question_prompts.PLAIN:
    return {
      'prompt': f'Question: {question}\nAnswer:',
      'response': f' {answer}',
    } | about
  messages = [
    {'role': 'user', 'content': question},
    {'role': 'assistant', 'content': answer},
  ]
  return {'messages': messages, row_formats.CONTINUES: True} | about


def _lengths(row, tokenizer, template) -> tuple[int, int]:
  """Returns the tokens of the prompt of a row, and of all of it, at most."""
  if 'messages' in row:
    turns = row['messages']
    prompt = template.encode(turns[:-1], add_generation_prompt=True)
    whole = template.encode(turns, add_generation_prompt=False)
    return 1 + len(prompt), 1 + len(whole)
  prompt = tokenizer.encode(row['prompt'])
  response = tokenizer.encode_continuation(row['response'])
  return 1 + len(prompt), 2 + len(prompt) + len(response)

"""Asks a learner what it was told, cheaply, and scores its answers.

Questions are asked greedily in groups of similar length. An answer is the first
line that the model writes; a group ends as soon as all of its answers do.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.real_model import facts, types
from sleep_jax import api, errors

ROWS, CHAT, PAGES = FORMS = ('a', 'b', 'c')
_GROUP = 24  # Questions that are asked at once: the questions of a day.
_MAX_NEW, _MAX_NEW_CHAT = 8, 24  # Tokens of a value, and of a sentence.
_IN_CONTEXT = (
  'Passage: {}\n\nQuestion: {}\nAnswer with a few words from the passage.'
)

Row = str | Mapping[str, Any]


def rows_of(day: types.Day, form: str) -> list[Row]:
  """Returns what a learner is taught on a day.

  Args:
    day: of the study.
    form: 'a': rows of questions and answers; 'b': one conversation, as the
      document that the chat makes of it; 'c': pages.
  """
  if form == ROWS:
    return [*day.rows]
  if form == PAGES:
    return [*day.pages]
  lines = [f'{turn["role"]}: {turn["content"]}' for turn in day.conversation]
  return ['\n'.join(lines)]


def questions_of(told: Sequence[types.Day], form: str) -> list[types.Question]:
  """Returns the questions about the days so far whose answers still hold.

  Args:
    told: the days so far.
    form: of the study; only conversations tell preferences.
  """
  asked = facts.current(told)
  if form == CHAT:
    asked += [q for day in told for q in day.preference_questions]
  return asked


def ask(
  learner: api.Learner,
  questions: Sequence[types.Question],
  form: str,
  told: Sequence[types.Day] | None = None,
) -> list[dict[str, Any]]:
  """Asks each question alone; returns the scored answers in order.

  Args:
    learner: any model.
    questions: what it is asked.
    form: 'a' asks in the words of the rows, the others in the model's chat
      template.
    told: the days, to put the text that tells the answer in front: the fact as
      a sentence, the message that tells it, or its page. This is asked in the
      chat template in every form, if the model has one. None: nothing.

  Returns:
    Dicts with 'day', 'person', 'attribute', 'wording' (0 or 1), 'expected',
    'answer', 'exact' (nothing but the value) and 'contained' (the value as a
    whole word).
  """
  is_chat = form != ROWS or (told is not None and has_template(learner))
  prompts = [_prompt(question, form, told, is_chat) for question in questions]
  texts = _first_lines(learner, prompts, _MAX_NEW_CHAT if is_chat else _MAX_NEW)
  return [
    {
      'day': q.fact.day, 'person': q.fact.person,
      'attribute': q.fact.attribute, 'wording': q.wording,
      'expected': q.answer, 'answer': text,
      'exact': int(is_exact(text, q.answer)),
      'contained': int(bool(q.answer) and facts.contains(text, q.answer)),
    }
    for q, text in zip(questions, texts, strict=True)
  ]  # fmt: skip


def is_exact(answer: str, value: str) -> bool:
  """Returns whether an answer is a value, apart from case and a full stop."""
  return bool(value) and answer.rstrip('.').lower() == value.lower()


def summary(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the shares of right answers: of all, and by day.

  Args:
    answers: see `ask`.
  """
  days = sorted({row['day'] for row in answers})
  return {
    **_shares(answers),
    'by_day': {
      str(day): _shares([row for row in answers if row['day'] == day])
      for day in days
    },
  }


def _shares(answers):
  return {'questions': len(answers)} | {
    name: sum(row[name] for row in answers) / len(answers)
    for name in ('exact', 'contained')
  }


def corrections(
  answers: Iterable[Mapping[str, Any]], told: Sequence[types.Day]
) -> dict[str, int]:
  """Counts what is said of facts that changed.

  Args:
    answers: see `ask`, to the questions of `questions_of`.
    told: the days so far.

  Returns:
    'facts' that changed, 'questions' about them, and how many of the answers
    contain the 'new' and the 'old' value.
  """
  changed = {
    (fact.person, fact.attribute): fact.replaces
    for day in told
    for fact in day.facts
    if fact.replaces
  }
  found = [r for r in answers if (r['person'], r['attribute']) in changed]
  old = [
    facts.contains(r['answer'], changed[r['person'], r['attribute']])
    for r in found
  ]
  return {
    'facts': len(changed), 'questions': len(found),
    'new': sum(r['contained'] for r in found), 'old': sum(old),
  }  # fmt: skip


def never_told(
  answers: Sequence[Mapping[str, Any]], told: Sequence[types.Day]
) -> dict[str, int]:
  """Counts answers to questions that no day answers.

  Args:
    answers: see `ask`.
    told: the days so far.

  Returns:
    Number of 'questions', and of answers that contain a value 'learned' about
    somebody else; of these, those about 'strangers'.
  """
  values = facts.learned_values(told)
  known = {fact.person for day in told for fact in day.facts}
  wrong = [
    row for row in answers
    if any(facts.contains(row['answer'], value) for value in values)
  ]  # fmt: skip
  return {
    'questions': len(answers), 'learned': len(wrong),
    'strangers': sum(row['person'] not in known for row in wrong),
  }  # fmt: skip


def has_template(learner: api.Learner) -> bool:
  """Returns whether a model has a chat template."""
  try:
    learner.chat_template()
  except (errors.UsageError, errors.MissingFileError):
    return False
  return True


def _prompt(question, form, told, is_chat):
  """Returns a text, or the messages of a conversation."""
  front = '' if told is None else _front(question, form, told)
  if not is_chat:
    return (front and front + '\n') + question.prompt
  text = question.text
  if front:
    text = _IN_CONTEXT.format(front, text)
  return [{'role': 'user', 'content': text}]


def _front(question, form, told) -> str:
  """Returns the text that tells the answer."""
  fact, day = question.fact, told[question.fact.day - 1]
  if form == ROWS:
    return question.statement
  found = [page['text'] for page in day.pages]
  if form == CHAT:
    found = [turn['content'] for turn in day.conversation]
  (text,) = [
    text for text in found
    if facts.contains(text, fact.value)
    and (fact.person in text or fact.person == facts.USER)
  ]  # fmt: skip
  return text


def _first_lines(learner, prompts, max_new) -> list[str]:
  """Returns the first line that a learner writes after each prompt."""
  size = lambda n: len(str(prompts[n]))
  order = sorted(range(len(prompts)), key=size)
  texts = [''] * len(prompts)
  for start in range(0, len(order), _GROUP):
    group = order[start : start + _GROUP]
    # All groups have one size, so that few programs are compiled.
    padded = group + group[:1] * (_GROUP - len(group))
    for number, text in zip(
      group, _write(learner, [prompts[n] for n in padded], max_new),
      strict=False,
    ):  # fmt: skip
      texts[number] = text
  return texts


def _write(learner, prompts, max_new) -> list[str]:
  """Returns the first lines; stops when all of them are complete."""
  is_chat = not isinstance(prompts[0], str)
  stream = learner.stream_answers if is_chat else learner.stream
  texts = [''] * len(prompts)
  for pieces in stream(prompts, max_new=max_new, temperature=0.0):
    texts = [a + b for a, b in zip(texts, pieces, strict=True)]
    if all('\n' in text.lstrip() for text in texts):
      break
  return [text.strip().partition('\n')[0].strip() for text in texts]

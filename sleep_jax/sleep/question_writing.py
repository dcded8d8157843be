"""A model writes questions about passages, and keeps those it can answer.

A question begins with one of a few openings ('What does Ada'), and must not
have one word of the sentence, so that it asks for that word. The model then
answers it with the passage in front. A question whose answer adds nothing of
the sentence, or is not from the text, is dropped. Each attempt writes after
other examples, and all but the first draw tokens at random.

References: 2606.03979 v2 section 3.4 (texts that the model writes about its
day); 2506.06266 (self-study); 1906.05416 (questions kept if their answer is
found again).
"""

import dataclasses
from collections.abc import Sequence

from sleep_jax.sleep import question_calls, question_prompts, question_text

Passage = question_text.Passage
# Asked about a subject if no question about it is usable.
_NAMED = ('What do you know about {}?', 'What is said about {}?')
_TEMPLATES = {question_text.USER: ('What did I tell you?',), '': ()}


@dataclasses.dataclass
class Question:
  """A question about a passage.

  Attributes:
    passage: number of the passage.
    text: the question.
    answer: of the model with the passage in front; '' for a template.
    asks_for: words of the sentence that the answer adds.
  """

  passage: int
  text: str
  answer: str = ''
  asks_for: frozenset[str] = frozenset()


class Writer:
  """Questions about some passages, while they are written.

  Attributes:
    counts: number of questions that were 'written', 'usable' and 'answered'.
  """

  def __init__(
    self,
    passages: Sequence[Passage],
    prompts: question_prompts.QuestionPrompts,
    settings: question_prompts.Settings,
    calls: question_calls.Calls,
  ):
    """Starts without questions.

    Args:
      passages: each has its own questions.
      prompts: renders what the model reads.
      settings: how many questions, in how many attempts.
      calls: of the model.
    """
    self._passages, self._prompts = passages, prompts
    self._settings, self._calls = settings, calls
    self._decode = prompts.tokenizer.decode
    self._ends_question = question_prompts.ends_line(prompts.tokenizer, '?')
    self._ends_answer = question_prompts.ends_line(prompts.tokenizer)
    self._kept: list[list[Question]] = [[] for _ in passages]
    self._seen: set[str] = set()
    self.counts = {'written': 0, 'usable': 0, 'answered': 0}

  def write(self) -> None:
    """Makes all attempts."""
    for attempt in range(self._settings.attempts):
      self._answer(self._attempt(attempt))

  def templates(self) -> list[Question]:
    """Returns what is asked about subjects that no question asks about."""
    asked_about = {
      passage.subject
      for passage, kept in zip(self._passages, self._kept, strict=True)
      if kept
    }
    found: dict[str, Question] = {}
    for number, passage in enumerate(self._passages):
      if passage.subject in asked_about:
        continue
      for template in _TEMPLATES.get(passage.subject, _NAMED):
        text = template.format(passage.subject)
        found.setdefault(text, Question(number, text))
    return list(found.values())

  def chosen(self) -> list[Question]:
    """Returns a question of each passage, then a second one, and so on."""
    orders = [
      question_text.spread(
        [question.asks_for for question in kept], self._settings.per_sentence
      )
      for kept in self._kept
    ]
    return [
      kept[order[rank]]
      for rank in range(max(map(len, orders), default=0))
      for kept, order in zip(self._kept, orders, strict=True)
      if rank < len(order)
    ]

  def _attempt(self, number: int) -> list[Question]:
    """Writes about the passages that have few questions."""
    prompts, rows, openings = {}, [], []
    for place, passage in enumerate(self._passages):
      if len(self._kept[place]) >= self._settings.per_sentence:
        continue
      prompts[place] = self._prompts.writing_prompt(passage, number)
      # Without a subject, one question for each opening is enough.
      for word in passage.answers if passage.subject else ('',):
        banned = self._prompts.banned(word) if word else []
        for opening in passage.openings:
          given = self._prompts.opening(opening)
          rows.append(question_calls.Row(place, given, banned))
          openings.append(opening)
    texts = self._calls.write(
      prompts, rows, self._ends_question, max_new=question_calls.QUESTION,
      temperature=self._settings.temperature if number else 0.0,
    )  # fmt: skip
    self.counts['written'] += len(texts)
    found = []
    for row, opening, tokens in zip(rows, openings, texts, strict=True):
      text = f'{opening}{self._decode(tokens)}'.strip()
      passage = self._passages[row.prompt]
      if text.casefold() in self._seen or question_text.why_unusable(
        text, passage
      ):
        continue
      self._seen.add(text.casefold())
      found.append(Question(row.prompt, text))
    self.counts['usable'] += len(found)
    return found

  def _answer(self, questions: Sequence[Question]) -> None:
    """Keeps the questions that their passages answer."""
    rows = [
      question_calls.Row(q.passage, self._prompts.question(q.text))
      for q in questions
    ]
    prompts = {
      number: self._prompts.answering_prompt(self._passages[number])
      for number in {q.passage for q in questions}
    }
    texts = self._calls.write(
      prompts, rows, self._ends_answer, max_new=question_calls.ANSWER
    )
    for question, tokens in zip(questions, texts, strict=True):
      question.answer = self._decode(tokens).strip()
      args = question.text, question.answer, self._passages[question.passage]
      if question_text.why_unanswered(*args):
        continue
      question.asks_for = question_text.asks_for(*args)
      self._kept[question.passage].append(question)
      self.counts['answered'] += 1

"""Reading: questions about a passage that stands in the prompt.

What is asked is known from the prompt alone, so a night should change nothing.
An answer counts as contained if a right one stands in it as a run of whole
words, and as exact if nothing else does. Both are compared after normalisation
as in SQuAD: lower case, no punctuation, no articles.

Reference: Rajpurkar et al. 2016 (1606.05250), section 6.1.
"""

import collections
import dataclasses
import re
import string
from collections.abc import Hashable, Sequence

import numpy as np

from sleep_jax import errors, types
from sleep_jax.datasets import json_lines, row_files
from sleep_jax.evaluate import asking

# Describes the file that is expected, for errors.
SET = (
  'a set of questions with their passages, rows {"context", "question", '
  '"answers": [...]}, such as the dev set of SQuAD 1.1 (Rajpurkar et al. 2016, '
  'CC BY-SA 4.0, rajpurkar.github.io/SQuAD-explorer)'
)
_LONGEST = 130  # Tokens of passage and question; a quarter of SQuAD fits.
_MAX_NEW = 48  # Tokens of an answer: a chat model answers in a sentence.
_ASKED = 'Passage: {context}\nQuestion: {question}'
# For a chat model. Of the forms that were tried on other questions, SmolLM2
# answers most in this one (docs/results/real/reading_forms.json).
_ASKED_IN_CHAT = (
  'Passage: {context}\n\nAnswer with words of the passage: {question}'
)
# Shown in plain form before a question, so that the answer is short; invented
# here.
_EXAMPLES = (
  ('Hana Voss built the mill in 1820.', 'Who built it?', 'Hana Voss'),
  ('Two rivers meet below the town. In spring the smaller one, the Lark, '
   'floods the meadows.', 'When does the Lark flood the meadows?', 'In spring'),
  ('The shop sells bread from its own oven, and cheese from a farm in Tolby.',
   'Where does the cheese come from?', 'a farm in Tolby'),
)  # fmt: skip


# What decides how a question is asked, beside the form.
WORDING = (_LONGEST, _MAX_NEW, _ASKED, _ASKED_IN_CHAT, _EXAMPLES)


@dataclasses.dataclass(frozen=True)
class Question:
  """A question about a passage.

  Attributes:
    context: the passage.
    question: what is asked.
    answers: right answers, at least one.
  """

  context: str
  question: str
  answers: tuple[str, ...]


def load(
  path: str, tokenizer: types.Tokenizer, count: int, *, seed: int = 0
) -> list[Question]:
  """Returns questions drawn from a file, each about another passage.

  The first k of them are the same for every `count` of k or more.

  Args:
    path: file of rows, see `SET`.
    tokenizer: of the model; passages with more than 130 tokens are left out.
    count: number of questions.
    seed: of the draw.

  Raises:
    MissingFileError, StorageError: the file cannot be read.
    DataError: a row is malformed (names file and line), or there are too few.
  """
  found: dict[str, Question] = {}
  rows = list(_rows(path))
  for index in np.random.default_rng(seed).permutation(len(rows)):
    row = rows[index]
    if row.context in found:
      continue
    size = len(tokenizer.encode(f'{row.context} {row.question}'))
    if size <= _LONGEST:
      found[row.context] = row
    if len(found) == count:
      return [*found.values()]
  raise errors.DataError(
    f'{path} has {len(found)} passages of at most {_LONGEST} tokens with a '
    f'question, but {count} are asked for: expected {SET}. Lower '
    'config.ability.reading_questions and full_reading_questions.'
  )


def _rows(path: str):
  """Yields the questions of a file."""
  try:
    for where, row in row_files.read(path):
      context, question = (
        json_lines.text_field(row, field, where).strip()
        for field in ('context', 'question')
      )
      yield Question(context, question, _answers(row, where))
  except errors.MissingFileError as error:
    raise errors.MissingFileError(
      f'config.ability.reading: {error} Expected {SET}; an empty path switches '
      'this part off.'
    ) from error


def _answers(row, where: str) -> tuple[str, ...]:
  """Returns the right answers of a row."""
  answers = row.get('answers')
  if isinstance(answers, dict):  # As Hugging Face writes SQuAD.
    answers = answers.get('text')
  if not isinstance(answers, list) or not answers:
    raise errors.DataError(
      f'{where}: field "answers" is {answers!r}: expected a list with at least '
      'one right answer.'
    )
  return tuple(
    json_lines.text_value(answer, f'answers[{number}]', where).strip()
    for number, answer in enumerate(answers)
  )


def prompts(
  questions: Sequence[Question], tokenizer: types.Tokenizer, form: asking.Form
) -> list[list[int]]:
  """Returns the tokens that ask each question.

  Args:
    questions: see `load`.
    tokenizer: of the model.
    form: of the model. In plain form, three examples come first.
  """
  if form.chat is not None:
    return [
      form.ask(_ASKED_IN_CHAT.format(context=q.context, question=q.question))
      for q in questions
    ]
  before = ''.join(
    _ASKED.format(context=context, question=question)
    + f'\nAnswer: {answer}\n\n'
    for context, question, answer in _EXAMPLES
  )
  asked = (
    _ASKED.format(context=q.context, question=q.question) for q in questions
  )
  return [
    [tokenizer.bos, *tokenizer.encode(f'{before}{text}\nAnswer:')]
    for text in asked
  ]


def ask(
  model: types.Model,
  weights: types.Weights,
  tokenizer: types.Tokenizer,
  form: asking.Form,
  questions: Sequence[Question],
) -> list[str]:
  """Returns the greedy answer to each question, as text.

  Args:
    model, weights, tokenizer: of the model that reads.
    form: see `asking.make_form`.
    questions: see `load`.
  """
  written = asking.generate(
    model, weights, prompts(questions, tokenizer, form), max_new=_MAX_NEW,
    ends=form.ends,
  )  # fmt: skip
  texts = [
    tokenizer.decode(token for token in row if token not in form.ends).strip()
    for row in written
  ]
  # Without a template a model goes on with another example.
  return texts if form.chat else [t.partition('\n')[0] for t in texts]


def score(
  questions: Sequence[Question], texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns whether each answer contains, and whether it is, a right one.

  Args:
    questions: what was asked.
    texts: an answer to each.

  Returns:
    Two bool arrays `[N]`.
  """
  contained, exact = [], []
  for question, text in zip(questions, texts, strict=True):
    words = normalise(text)
    right = [normalise(answer) for answer in question.answers]
    contained.append(any(f' {r} ' in f' {words} ' for r in right if r))
    exact.append(words in right and bool(words))
  return np.array(contained, bool), np.array(exact, bool)


def normalise(text: str) -> str:
  """Returns a text in lower case without punctuation, articles and spaces."""
  kept = ''.join(c for c in text.lower() if c not in string.punctuation)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', kept).split())


def paired_interval(
  before_N: np.ndarray,
  after_N: np.ndarray,
  *,
  group_N: Sequence[Hashable] | None = None,
  draws: int = 10_000,
  seed: int = 0,
) -> tuple[float, float]:
  """Returns the 95 % bootstrap interval of the mean change.

  Questions are drawn with replacement, each with both of its scores. Those that
  depend on each other, such as wordings of one question, are drawn together.

  Args:
    before_N, after_N: whether each question was answered, by two models.
    group_N: what each question belongs to; None: every question is a group.
    draws: number of draws.
    seed: of the draws.
  """
  change_N = after_N.astype(int) - before_N.astype(int)
  groups: dict[Hashable, tuple[int, int]] = {}
  names = range(len(change_N)) if group_N is None else group_N
  for name, change in zip(names, change_N.tolist(), strict=True):
    total, size = groups.get(name, (0, 0))
    groups[name] = total + change, size + 1
  # Equal groups are drawn as often as their number says.
  counts = collections.Counter(groups.values())
  kinds_K2 = np.array(sorted(counts))
  shares_K = [counts[tuple(kind)] / len(groups) for kind in kinds_K2.tolist()]
  drawn_DK = np.random.default_rng(seed).multinomial(
    len(groups), shares_K, draws
  )
  total_D, size_D = (drawn_DK @ kinds_K2).T
  low, high = np.percentile(total_D / size_D, [2.5, 97.5])
  return float(low), float(high)

"""Which questions does a pretrained model write about a day it was told?

    python -m benchmarks.question_writing --model=smollm2 --seeds=0,1 \
      --out=docs/results/real/questions.json

Days are of the validation split. Ways to write questions are compared: with
openings (what a night uses), as a continuation of a sentence, as a continuation
of a whole text, and by an instruction in the chat template. A fact is asked for
if a question names the person, does not have the value, and is answered with it
from the sentence that tells it. Beside it: how often the teacher says the right
value, asked as on the next day, with the sentence and with the whole text in
front.
"""

import argparse
import dataclasses
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.real_model import facts, recall
from sleep_jax.interop import chat_format, open_model
from sleep_jax.runs import day_questions
from sleep_jax.sleep import (
  question_calls,
  question_prompts,
  question_text,
  question_writing,
)

_NAMES = 'openings', 'sentence', 'text', 'instruction'
_INSTRUCTIONS = (
  'Write 5 short questions about the facts in this text.',
  'What could somebody ask about this text? Write 5 questions.',
)
_LIST = 96  # Tokens of a list of questions.


@dataclasses.dataclass(frozen=True)
class Told:
  """A fact and where it is told."""

  fact: Any
  passage: question_text.Passage
  text: str


class Bench:
  """A model that writes and answers."""

  def __init__(self, name: str):
    loaded = open_model.open_model(name)
    self.tokenizer = loaded.tokenizer
    writer = chat_format.load_writer(loaded.base_model, loaded.tokenizer)
    self.template = writer and writer.template
    self.prompts = question_prompts.QuestionPrompts(
      loaded.tokenizer, self.template
    )

    self._write_fn = day_questions.make_sampler(loaded)
    self.ends = {
      also: question_prompts.ends_line(self.tokenizer, also) for also in '?\0'
    }
    self.end = np.zeros(self.tokenizer.vocab_size, bool)
    self.end[list(loaded.end_tokens)] = True

  def calls(self) -> question_calls.Calls:
    """Returns calls of the model, which start to count anew."""
    return question_calls.Calls(self._write_fn)

  def write(self, rows, ends_V, *, max_new=24, temperature=0.0) -> list[str]:
    """Returns what follows each of some rows of tokens."""
    texts = self.calls().write(
      {n: row[:-1] for n, row in enumerate(rows)},
      [question_calls.Row(n, row[-1:]) for n, row in enumerate(rows)],
      ends_V, max_new=max_new, temperature=temperature,
    )  # fmt: skip
    return [self.tokenizer.decode(tokens).strip() for tokens in texts]


def with_openings(bench: Bench, passages, settings) -> tuple[list, dict]:
  """Returns (passage, question) pairs as a night stores them, and counts."""
  calls = bench.calls()
  writer = question_writing.Writer(passages, bench.prompts, settings, calls)
  writer.write()
  pairs = [(passages[q.passage], q.text) for q in writer.chosen()]
  return pairs, writer.counts | {'tokens': calls.num_tokens}


def of_sentences(bench: Bench, passages, settings) -> tuple[list, dict]:
  """As `with_openings`, for questions that may begin as they like."""
  rows, about = [], []
  for attempt in range(settings.attempts):
    rows += [bench.prompts.writing_prompt(p, attempt) for p in passages]
    about += passages
  texts = bench.write(rows, bench.ends['?'], max_new=16, temperature=0.7)
  return _usable(zip(about, texts, strict=True), len(rows))


def of_texts(bench: Bench, passages, texts, settings) -> tuple[list, dict]:
  """Questions about whole texts: their continuation after examples."""
  examples = ''.join(
    f'Text: {e.text}\nQuestions:\n1. {e.question}\n\n'
    for e in question_prompts.EXAMPLES[0]
  )
  rows = [
    [bench.tokenizer.bos,
     *bench.tokenizer.encode(f'{examples}Text: {text}\nQuestions:\n1.')]
    for text in texts
  ] * settings.attempts  # fmt: skip
  lists = bench.write(rows, bench.end, max_new=_LIST, temperature=0.7)
  return _from_lists(passages, lists)


def by_instruction(bench: Bench, passages, texts, settings):
  """Questions about whole texts: an answer in the chat template."""
  asked = _INSTRUCTIONS[: settings.attempts]
  rows = [
    bench.template.encode([{'role': 'user', 'content': f'{text}\n\n{one}'}])
    for one in asked
    for text in texts
  ]
  lists = bench.write(rows, bench.end, max_new=_LIST, temperature=0.7)
  return _from_lists(passages, lists)


def _from_lists(passages, lists):
  """Returns the questions in lists; each is about the passage it fits best."""
  pairs, written = [], 0
  for text in lists:
    for line in text.split('\n'):
      question = line.strip().lstrip('-*0123456789.) ').strip()
      written += bool(question)
      about = [p for p in passages if p.subject and p.subject in question]
      pairs += [(about[0] if about else passages[0], question)]
  return _usable(pairs, written)


def _usable(pairs, written):
  found = {}
  for passage, question in pairs:
    if not question_text.why_unusable(question, passage):
      found.setdefault(question.casefold(), (passage, question))
  return [*found.values()], {'written': written, 'usable': len(found)}


def score(bench: Bench, pairs, told: Sequence[Told]) -> dict[str, Any]:
  """Returns what some questions ask for, and how their teachers answer."""
  of_person = {}
  for one in told:
    of_person.setdefault(one.fact.person, []).append(one)
  asked = []
  for passage, question in pairs:
    for one in of_person.get(passage.subject, ()):
      if one.passage.sentence == passage.sentence:
        asked.append((one, question))
  answers = _answer(bench, [(one.passage, q) for one, q in asked])
  right = {form: 0 for form in answers}
  wordings = {one.fact: set() for one in told}
  for number, (one, question) in enumerate(asked):
    if facts.contains(question, one.fact.value):
      continue
    says = {
      form: facts.contains(found[number], one.fact.value)
      for form, found in answers.items()
    }
    if any(says.values()):
      wordings[one.fact].add(question.casefold())
      for form, is_right in says.items():
        right[form] += is_right
  counts = sorted(map(len, wordings.values()))
  total = sum(counts)
  return {
    'stored': len(pairs), 'about_sentences_with_facts': len(asked),
    'ask_for_a_fact': total, 'facts': len(counts),
    'facts_asked_for': sum(count > 0 for count in counts),
    'wordings_of_each_fact': counts,
    'teacher_right': {
      form: number / max(total, 1) for form, number in right.items()
    },
  }  # fmt: skip


def _answer(bench, pairs) -> dict[str, list[str]]:
  """Returns the teacher's answers to (passage, question) pairs, by form."""
  found = {}
  for form in question_prompts.FORMS:
    prompts = dataclasses.replace(bench.prompts, forms=(form,))
    rows = []
    for passage, question in pairs:
      (one,) = prompts.stored_questions(question, passage)
      rows.append(one.context + one.prompt[one.replaces :])
    texts = bench.write(rows, bench.ends['\0'])
    found[form] = texts
  return found


def tomorrow(bench: Bench, told: Sequence[Told], questions) -> dict[str, float]:
  """Returns the share of right answers to tomorrow's questions, by front."""
  of_fact = {one.fact: one for one in told}
  asked = [(of_fact[q.fact], q) for q in questions if q.fact in of_fact]
  answers = _answer(bench, [(one.passage, q.text) for one, q in asked])
  whole = [
    bench.template.encode(
      [{'role': 'user', 'content': f'{one.text}\n\n{q.text}'}]
    )
    for one, q in asked
  ]
  texts = bench.write(whole, bench.ends['\0'])
  shares = {f'sentence_{form}': found for form, found in answers.items()}
  return {
    name: float(np.mean([
      facts.contains(text, q.answer)
      for text, (_, q) in zip(found, asked, strict=True)
    ]))
    for name, found in {**shares, 'whole_text_chat': texts}.items()
  }  # fmt: skip


def measure(bench: Bench, seed: int, form: str, names, settings):
  """Returns the record of one day."""
  (day,) = facts.days(seed, num_days=1)
  texts = [
    row if isinstance(row, str) else row['text']
    for row in recall.rows_of(day, form)
  ]
  passages = question_text.passages(texts)
  kept = [*day.facts, *(day.preferences if form == recall.CHAT else ())]
  told = [
    Told(fact, passage, next(t for t in texts if passage.sentence in t))
    for fact in kept
    for passage in passages
    if passage.subject == fact.person
    and facts.contains(passage.sentence, fact.value)
  ]
  record: dict[str, Any] = {
    'seed': seed, 'form': form, 'texts': len(texts),
    'sentences': len(passages), 'facts_in_passages': len(told),
    'facts': len(kept), 'ways': {},
  }  # fmt: skip
  ways = {
    'openings': lambda: with_openings(bench, passages, settings),
    'sentence': lambda: of_sentences(bench, passages, settings),
    'text': lambda: of_texts(bench, passages, texts, settings),
    'instruction': lambda: by_instruction(bench, passages, texts, settings),
  }
  for name in names:
    start = time.process_time()
    pairs, counts = ways[name]()
    seconds = time.process_time() - start
    record['ways'][name] = {
      **counts, 'cpu_seconds': round(seconds, 1), **score(bench, pairs, told),
      'samples': [question for _, question in pairs[:12]],
    }  # fmt: skip
    print(form, seed, name, json.dumps(record['ways'][name]), flush=True)
  questions = [*day.questions, *day.preference_questions]
  record['tomorrow'] = tomorrow(bench, told, questions)
  print(form, seed, json.dumps(record['tomorrow']), flush=True)
  return record


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--seeds', default='0')
  parser.add_argument('--forms', default='c,b', help='c: pages, b: chat')
  parser.add_argument('--ways', default=','.join(_NAMES))
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  bench, settings = Bench(args.model), question_prompts.Settings(on=True)
  records = [
    measure(bench, int(seed), form, args.ways.split(','), settings)
    for seed in args.seeds.split(',')
    for form in args.forms.split(',')
  ]
  if args.out:
    found = {
      'model': args.model, 'settings': dataclasses.asdict(settings),
      'days': records,
    }  # fmt: skip
    args.out.write_text(json.dumps(found, indent=1) + '\n')


if __name__ == '__main__':
  main()

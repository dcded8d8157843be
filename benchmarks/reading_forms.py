"""Compares forms of asking about a passage, on questions that are not reported.

    python -m benchmarks.reading_forms --reading=SQUAD --more=OTHER_QUESTIONS

Reported are the first 300 questions that `reading.load` draws; these are of
other passages. An answer of 48 tokens is also scored after 16, 24 and 32.
"""

import argparse
import json
import pathlib

import numpy as np

import sleep_jax
from sleep_jax import errors
from sleep_jax.evaluate import asking, reading

REPORTED, MAX_NEW = 300, 48
LENGTHS = (16, 24, 32, 48)
ASKED = 'Passage: {context}\nQuestion: {question}'
# Name -> (text of a turn, whether an example comes first).
FORMS = {
  'one example': (ASKED, True),
  'no example': (ASKED, False),
  'Answer with words of the passage:': (
    'Passage: {context}\n\nAnswer with words of the passage: {question}', False
  ),
  'According to the text above,': (
    '{context}\n\nAccording to the text above, {question}', False
  ),
}  # fmt: skip
EXAMPLE = ('Hana Voss built the mill in 1820.', 'Who built it?', 'Hana Voss')


def questions(path: str, more: str, tokenizer, num: int):
  """Returns questions about passages that are not among the reported ones."""
  drawn = reading.load(path, tokenizer, REPORTED)
  seen, found = {q.context for q in drawn}, []
  for file, seed in ((path, 1), (more, 2)):
    for count in range(1000, 0, -10):
      try:
        rows = reading.load(file, tokenizer, count, seed=seed) if file else []
      except errors.DataError:
        continue
      break
    found += [q for q in rows if q.context not in seen]
    seen |= {q.context for q in found}
  return found[:num]


def prompts(form: asking.Form, asked: str, has_example: bool, rows):
  """Returns the tokens of each question in the model's chat template."""
  turn = lambda role, content: {'role': role, 'content': content}
  context, question, answer = EXAMPLE
  shown = [
    turn('user', asked.format(context=context, question=question)),
    turn('assistant', answer),
  ] * has_example
  return [
    form.chat([
      *shown,
      turn('user', asked.format(context=q.context, question=q.question)),
    ])
    for q in rows
  ]  # fmt: skip


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument('--reading', required=True)
  parser.add_argument('--more', default='')
  parser.add_argument('--num', type=int, default=100)
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--out', default='docs/results/real/reading_forms.json')
  args = parser.parse_args()
  learner = sleep_jax.load(args.model, verbose=False)
  loaded, found = learner.loaded, []
  form = asking.make_form(loaded.tokenizer, learner.chat_template())
  rows = questions(args.reading, args.more, loaded.tokenizer, args.num)
  for name, (asked, has_example) in FORMS.items():
    answers = asking.generate(
      loaded.model, loaded.weights, prompts(form, asked, has_example, rows),
      max_new=MAX_NEW, ends=form.ends,
    )  # fmt: skip
    for length in LENGTHS:
      texts = [
        loaded.tokenizer.decode(t for t in row[:length] if t not in form.ends)
        for row in answers
      ]
      contained, exact = map(np.mean, reading.score(rows, texts))
      found.append({
        'form': name, 'questions': len(rows), 'max_new': length,
        'contained': float(contained), 'exact': float(exact),
      })  # fmt: skip
      print(json.dumps(found[-1]), flush=True)
  lines = ',\n'.join(map(json.dumps, found))
  pathlib.Path(args.out).write_text(f'[\n{lines}\n]\n')


if __name__ == '__main__':
  main()

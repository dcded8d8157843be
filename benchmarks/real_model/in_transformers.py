"""Asks an exported model in transformers what it was taught.

    sleep-jax convert out --model=RUN --to=EXPORT
    python -m benchmarks.real_model.in_transformers --model=EXPORT --seed=0 \
      --split=test --num_days=5 --out=FILE

Needs torch and transformers, see launch/parity.sh. The questions are those of
the study's form `a` about all days, in wordings that were never learned.
"""

import argparse
import json
import pathlib

from benchmarks.real_model import facts, words

_MAX_NEW = 8


def main() -> None:
  import torch
  import transformers

  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', required=True, help='exported directory')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--split', choices=words.SPLITS, default=words.TEST)
  parser.add_argument('--num_days', type=int, default=5)
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
  model = transformers.AutoModelForCausalLM.from_pretrained(
    args.model, dtype=torch.float32
  )
  days = facts.days(args.seed, args.num_days, split=args.split)
  right: dict[int, list[int]] = {day.number: [] for day in days}
  for question in facts.current(days):
    tokens = tokenizer(question.prompt, add_special_tokens=False).input_ids
    # As the rows were learned: BOS, then the prompt.
    prompt = torch.tensor([[tokenizer.bos_token_id, *tokens]])
    with torch.no_grad():
      found = model.generate(prompt, max_new_tokens=_MAX_NEW, do_sample=False)
    text = tokenizer.decode(found[0, prompt.shape[1] :])
    line = text.split('\n')[0]
    right[question.fact.day].append(int(facts.contains(line, question.answer)))
  answers = sum(right.values(), [])
  result = {
    'transformers': transformers.__version__, 'class': type(model).__name__,
    'intermediate_size': model.config.intermediate_size,
    'split': args.split, 'seed': args.seed,
    'questions': len(answers), 'contained': sum(answers) / len(answers),
    'by_day': {n: sum(row) / len(row) for n, row in right.items()},
  }  # fmt: skip
  print(json.dumps(result, indent=1))
  if args.out:
    args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
  main()

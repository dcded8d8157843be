"""Measures how many answers of a routed run its distilled export keeps.

python -m benchmarks.distil --run=runs/smoke > distil.json
"""

import argparse
import json
import pathlib
import sys
import time

import jax

from sleep_jax import types
from sleep_jax.datasets import facts
from sleep_jax.interop import distilled_export, open_model
from sleep_jax.model import streaming


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    '--run', required=True, help='work directory of a run on the dataset facts'
  )
  parser.add_argument('--strategy', default='sleep')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--steps', type=int, nargs='+', default=[400, 2000])
  args = parser.parse_args()
  loaded = open_model.open_model(
    args.run, strategy=args.strategy, seed=args.seed
  )
  config = json.loads((pathlib.Path(args.run) / 'config.json').read_text())
  dataset = facts.make(seed=args.seed, **config['data']['settings'])
  prompts = open_model.stored_prompts(
    loaded, args.run, strategy=args.strategy, seed=args.seed
  )
  routed = _answers(loaded, dataset, loaded.model, loaded.weights)
  found = {'routed': _scores(dataset, routed, routed)}
  found |= {'router': loaded.model.config.router, 'prompts': len(prompts)}
  for steps in args.steps:
    lines, start = [], time.process_time()
    student, weights = distilled_export.distil(
      loaded.model, loaded.weights, prompts, jax.random.key(0),
      eos=loaded.tokenizer.eos, settings=distilled_export.Settings(steps=steps),
      log_fn=lines.append,
    )  # fmt: skip
    seconds = time.process_time() - start
    dense = _answers(loaded, dataset, student, weights)
    found[f'{steps} steps'] = {
      'said': lines, 'cpu_seconds': round(seconds, 1),
      **_scores(dataset, dense, routed),
    }  # fmt: skip
    print(steps, found[f'{steps} steps'], file=sys.stderr)
  json.dump(found, sys.stdout, indent=1)
  print()


def _answers(loaded, dataset, model, weights: types.Weights) -> dict:
  """Returns the answers to the probes, by probe set."""
  tokenizer, found = loaded.tokenizer, {}
  for name, probes in dataset.probes.items():
    prompts = [[tokenizer.bos, *tokenizer.encode(p.prompt)] for p in probes]
    rows = streaming.stream(
      model, weights, prompts, jax.random.key(0), max_new=8,
      end_tokens=loaded.end_tokens,
      temperature=0.0,
    )  # fmt: skip
    found[name] = [
      tokenizer.decode([t for t in row if t is not None]).strip()
      for row in zip(*rows, strict=True)
    ]
  return found


def _scores(dataset, answers, routed) -> dict:
  """Returns accuracy and agreement with the routed model, by probe set."""
  mean = lambda values: sum(values) / len(values)
  return {
    name: {
      'right': mean([a == p.answer.strip() for a, p in zip(
        answers[name], probes, strict=True)]),
      'as_routed': mean([a == b for a, b in zip(
        answers[name], routed[name], strict=True)]),
    }
    for name, probes in dataset.probes.items()
  }  # fmt: skip


if __name__ == '__main__':
  main()

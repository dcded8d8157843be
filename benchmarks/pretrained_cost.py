"""What does a day of facts and its night cost, beside their arithmetic?

    python -m benchmarks.pretrained_cost --model=smollm2 --out=FILE

Two days of twelve facts (names of the validation split) are taught with
configs/pretrained.py; the second, whose programs are compiled, is reported.
Arithmetic counts what the method needs and no padding: 2 FLOPs a parameter and
token for each pass. Passes are one forward and one backward pass (through the
activations only, because the parameters are frozen) of every token that is
read, sampling of the rehearsals, and the head: once where a token is sampled or
scored, three times where a divergence is taken (both models and its gradient).
The rate is that of matrix products of this size, measured before and after.
"""

import argparse
import json
import pathlib
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

import sleep_jax
from benchmarks.real_model import facts
from sleep_jax.config import files
from sleep_jax.replay import buffer
from sleep_jax.storage import checkpoint_reading, provenance

_NUM_PRODUCTS = 200


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--out', type=pathlib.Path)
  args = parser.parse_args()
  config = files.load('pretrained')
  learner = sleep_jax.load(
    args.model, config=config, seed=args.seed, verbose=False
  )
  model = learner.loaded.model.config
  rates = [_matmul_rate(model.width, model.levels[-1].hidden)]
  found: dict[str, dict[str, float]] = {}
  for day in facts.days(args.seed, 2):
    for phase, work in (
      ('day', lambda rows=day.rows: learner.wake(rows)),
      ('night', learner.sleep),
    ):
      started = time.process_time()
      work()
      found[phase] = {'cpu_seconds': time.process_time() - started}
    rows = day.rows
  rates.append(_matmul_rate(model.width, model.levels[-1].hidden))
  rate = sum(rates) / 2
  own_texts = _own_texts(learner.session.folder, args.seed)
  work = _work(config, learner.loaded, rows, own_texts)
  for phase, flops in work.items():
    seconds = flops / rate
    found[phase] |= {
      'flops': flops, 'arithmetic_seconds': seconds,
      'ratio': found[phase]['cpu_seconds'] / seconds,
    }  # fmt: skip
  result = {
    'revision': provenance.revision(), 'model': args.model, 'seed': args.seed,
    'matmul_flops_per_second': rates, **found,
    'peak_bytes': resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
  }  # fmt: skip
  print(json.dumps(result, indent=1))
  if args.out:
    args.out.write_text(json.dumps(result, indent=1) + '\n')


def _own_texts(folder: pathlib.Path, seed: int) -> tuple[float, float]:
  """Returns the mean tokens of the initial model's texts, all and learned."""
  run = folder / 'run' / f'seed_{seed}' / 'sleep' / 'checkpoints'
  group = checkpoint_reading.latest_replay(str(run))[buffer.OWN_TEXTS]
  start_C, stop_C = np.asarray(group['subject_C2']).T
  return float(np.mean(stop_C)), float(np.mean(stop_C - start_C))


def _work(config, loaded, rows, own_texts) -> dict[str, float]:
  """Returns the FLOPs of a day and of its night, without padding.

  Args:
    config: of the run.
    loaded: the model.
    rows: of the day.
    own_texts: see `_own_texts`.
  """
  c, encode = loaded.model.config, loaded.tokenizer.encode
  body = sum(
    leaf.size for path, leaf in loaded.weights.params.items()
    if 'blocks/' in path and '/experts/' not in path
  )  # fmt: skip
  forward, head = 2.0 * body, 2.0 * c.width * c.vocab_size
  prompt = np.mean([1 + len(encode(row['prompt'])) for row in rows])
  answer = np.mean([1 + len(encode(row['response'])) for row in rows])
  passes, k = config.wake.epochs, config.wake.kl_penalty
  old = config.wake.second_kl_penalty
  steps = -(-passes * len(rows) * (prompt + answer)
            // (config.data.batch_size * config.data.context))  # fmt: skip

  def divergence(num, length, generated):
    return num * (2 * forward * length + 3 * head * generated)

  def writing(num, length, generated):
    return num * (forward * length + head * generated)

  short, own = (prompt + answer, answer), own_texts
  day = passes * len(rows) * (
    2 * forward * (prompt + answer) + 3 * head * answer
  ) + steps * divergence(k.sequences, *own)
  day += writing(old.draws, *short) + steps * divergence(old.sequences, *short)
  night = 0.0
  updates = config.consolidate.num_updates
  rounds = updates // config.consolidate.updates_per_round
  for teacher in config.consolidate.teachers:
    writes = teacher.prompts != 'own_texts'
    if writes:
      night += rounds * writing(teacher.draws, *short)
    night += updates * divergence(
      teacher.sequences, *(short if writes else own)
    )
  return {'day': float(day), 'night': float(night)}


def _matmul_rate(width: int, hidden: int) -> float:
  """Returns FLOPs a CPU-second of `[384, width] x [width, hidden]`."""
  x, w = jnp.ones((384, width)), jnp.ones((width, hidden))
  product = jax.jit(jnp.matmul)
  product(x, w).block_until_ready()
  started = time.process_time()
  for _ in range(_NUM_PRODUCTS):
    found = product(x, w)
  found.block_until_ready()
  seconds = time.process_time() - started
  return _NUM_PRODUCTS * 2 * x.size * hidden / seconds


if __name__ == '__main__':
  main()

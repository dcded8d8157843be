"""Measures the cost of dream trials and of the importance of dreams.

'importance' computes the importance of 64 dreams. 'forward_backward' computes
one gradient of their mean loss for all matrices that adapters target. 'trials'
trains and scores 16 adapters of rank 8 with five steps each, one after the
other; a step of this case is one trial. With --peft, a Python executable with
torch, transformers and peft runs the same trials (attach, train, score,
unload), in turn with ours; see `peft_trials.py`.

python -m benchmarks.trials --threads=one --out=TRIALS.json
python -m benchmarks.trials --peft=PYTHON --out=PEFT.json
"""

import argparse
import functools
import json
import os
import pathlib
import statistics
import subprocess
import sys

import jax
import jax.numpy as jnp

from benchmarks import peft_trials, shapes, timing
from sleep_jax import types
from sleep_jax.dream import importance as importance_lib
from sleep_jax.dream import lessons, trials
from sleep_jax.dream import settings as settings_lib
from sleep_jax.model import config, lora, transformer

S = peft_trials
NUM_IMPORTANCE = 64  # Dreams whose importance is computed.


def measure(repeats: int):
  model, weights = _model()
  adapter = dict(
    rank=S.RANK, alpha=2.0 * S.RANK, targets=tuple(lora.TARGETS),
    steps=S.STEPS, batch=S.TEXTS, learning_rate=S.LEARNING_RATE,
  )  # fmt: skip
  settings = settings_lib.make(
    trial=adapter,
    writer=adapter,
    on=True,
    order='after',
    rounds=1,
    start='base',
    candidates=S.DREAMS,
    texts=S.TEXTS,
    temperature=1.0,
    whole=True,
    novelty=False,
    importance='gradient',
    top=S.DREAMS,
    random=0,
    repeats=1,
    score='likelihood',
    margin=0.0,
    old=1,
    template_share=0.0,
    sequences=1,
    reading=0,
    num_updates=1,
    updates_per_round=1,
    learning_rate=1e-3,
  )
  key = jax.random.key(0)
  probes, params = (
    _probes(key),
    lora.target_matrices(weights.params, lora.TARGETS),
  )
  size = S.LENGTH - 1

  def importance(weights, texts, valid):
    return importance_lib.importance(
      model, weights, lessons.from_texts(texts, valid), probes, key, size=size,
      how='gradient', targets=tuple(lora.TARGETS),
    )  # fmt: skip

  def forward_backward(params, texts, valid):
    loss = lambda params: jnp.mean(
      importance_lib.dream_losses(
        model,
        weights.with_params(params),
        lessons.from_texts(texts, valid),
        size,
      )
    )
    return jax.grad(loss)(params)

  def run_trials(weights, texts, valid, together=1):
    return trials.measure_gains(
      model, weights, lessons.from_texts(texts, valid), probes, key,
      settings=settings, size=size, placement=trials.TrialPlacement(together),
    )  # fmt: skip

  trial_texts, texts = _texts(key, S.DREAMS), _texts(key, NUM_IMPORTANCE)
  forward = functools.partial(_forward_flops, model, weights)
  # Forward pass and activation gradients (those of the adapters are small),
  # then scoring.
  trial = S.STEPS * S.TEXTS * S.LENGTH * 2 * forward()
  trial += S.PROBES * S.PROBE_LENGTH * forward()
  cases = [
    timing.case('importance', importance, weights, *texts),
    timing.case('forward_backward', forward_backward, params, *texts),
    timing.case(
      'trials', run_trials, weights, *trial_texts, steps=S.DREAMS,
      flops=S.DREAMS * trial,
    ),
    timing.case(
      'trials_all_at_once', functools.partial(run_trials, together=S.DREAMS),
      weights, *trial_texts, steps=S.DREAMS, flops=S.DREAMS * trial,
    ),
  ]  # fmt: skip
  found = timing.compare(cases, repeats=repeats)
  rows = found['cases']
  ratio = (
    rows['importance']['cpu_ms_per_step']
    / rows['forward_backward']['cpu_ms_per_step']
  )
  num = sum(x.size for x in jax.tree.leaves(weights.params))
  return found | {'parameters': num, 'importance_in_forward_backwards': ratio}


def _model():
  c = shapes.config('larger')
  c.model.update(
    width=S.WIDTH, num_layers=S.LAYERS, head_size=S.HEAD, num_heads=S.HEADS,
    num_kv_heads=S.KV_HEADS, unroll=S.LAYERS,
  )  # fmt: skip
  levels = [
    level | {'hidden': S.HIDDEN // 2, 'rank': 0, 'slots': 0}
    for level in c.to_dict()['levels']
  ]
  model_config = config.make(c.model, levels, vocab_size=S.VOCAB)
  model = transformer.Transformer(model_config)
  return model, model.init(jax.random.key(0))


def _texts(key, num):
  tokens = jax.random.randint(key, (num * S.TEXTS, S.LENGTH), 8, S.VOCAB)
  size = jnp.full((len(tokens),), S.LENGTH)
  return types.Rollout(tokens, jnp.ones_like(size), size), jnp.ones(
    (num, S.TEXTS)
  )


def _probes(key):
  tokens = jax.random.randint(key, (S.PROBES, S.PROBE_LENGTH), 8, S.VOCAB)
  size = jnp.full((S.PROBES,), S.PROBE_LENGTH - S.ANSWER)
  none = jnp.full((S.PROBES,), -1)
  return types.Probes(
    prompts=types.Prompts(tokens[:, : -S.ANSWER], size,
                          jnp.zeros((S.PROBES, 2), 'i4')),
    answer_BA=tokens[:, -S.ANSWER :],
    answer_length_B=jnp.full((S.PROBES,), S.ANSWER),
    candidates_SCA=jnp.zeros((0, 0, 0), 'i4'),
    candidate_length_SC=jnp.zeros((0, 0), 'i4'),
    candidate_since_SC=jnp.zeros((0, 0), 'i4'), set_B=none, gold_B=none,
  )  # fmt: skip


def _forward_flops(model, weights):
  """Returns the flops of a token: two per weight; attention is negligible."""
  return 2.0 * sum(x.size for x in jax.tree.leaves(weights.params))


def compare_with_peft(python: str, repeats: int) -> dict:
  """Runs our trials and those of PEFT in turn, on one core."""
  core = min(os.sched_getaffinity(0))
  ours, theirs = [], []
  for _ in range(repeats):
    for command, found in (
      ([sys.executable, '-m', 'benchmarks.trials', '--child', '--repeats=3'],
       ours),
      ([python, peft_trials.__file__], theirs),
    ):  # fmt: skip
      done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
      )  # fmt: skip
      found.append(json.loads(done.stdout.splitlines()[-1]))
  our_seconds = [
    row['cases']['trials']['cpu_ms_per_step'] / 1e3 for row in ours
  ]
  their_seconds = [row['cpu_seconds_per_trial'] for row in theirs]
  return {
    'cpu_seconds_per_trial': statistics.median(our_seconds),
    'peft_cpu_seconds_per_trial': statistics.median(their_seconds),
    'ratio': statistics.median(
      b / a for a, b in zip(our_seconds, their_seconds, strict=True)
    ),
    'share_of_peak': statistics.median(
      row['cases']['trials']['share_of_peak_by_cpu_time'] for row in ours
    ),
    'ours': our_seconds, 'peft': theirs,
  }  # fmt: skip


if __name__ == '__main__':
  parser = argparse.ArgumentParser(add_help=False)
  parser.add_argument('--peft')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--out')
  args, _ = parser.parse_known_args()
  if args.peft:
    text = json.dumps(compare_with_peft(args.peft, args.repeats), indent=1)
    print(text)
    if args.out:
      pathlib.Path(args.out).write_text(text + '\n')
  else:
    timing.main('benchmarks.trials', __doc__, measure)

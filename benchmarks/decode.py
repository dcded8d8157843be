"""Compares greedy decoding with transformers: CPU-seconds and tokens.

    python -m benchmarks.decode --peer=PYTHON --repeats=5 --out=FILE

Both sides load the same checkpoint with random weights and decode on one core,
in processes that run in turn. Not measured are the first decoding, which
compiles or warms up, and loading.

    python -m benchmarks.decode --peer=PYTHON --model=smollm2 --out=FILE

This form does the same with a real model, which is exported once as a Hugging
Face directory in float32.

    python -m benchmarks.decode --peer=PYTHON --run=WORKDIR

This form compares the answers of a run's model to the probes of its days with
those of transformers, which loads the exported model.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

PROMPT, NEW = 32, 64
# (layers, width, rows): required ratio of CPU-seconds, transformers to ours.
CASES = {
  (4, 256, 1): 2.0, (8, 512, 1): 2.0, (4, 256, 32): 1.0, (8, 512, 32): 1.2,
}  # fmt: skip
_VOCAB, _HEAD = 4096, 64
# The prompt of a real model: its first `PROMPT` tokens.
_TEXT = (
  'The library opens at nine in the morning. On Mondays it is closed, and on '
  'Thursdays it stays open until eight, because a reading circle meets in the '
  'hall on the first floor.'
)


def child(folder: str) -> dict:
  """Decodes with our code; runs in a subprocess.

  Args:
    folder: with `ask.json`, and the checkpoint in `model`.
  """
  import jax

  from sleep_jax.data import tokenizer as tokenizer_lib
  from sleep_jax.interop import hf_checkpoint, hf_import, open_model
  from sleep_jax.model import streaming
  from sleep_jax.runtime import sharding

  home = pathlib.Path(folder)
  request = json.loads((home / 'ask.json').read_text())
  base_model = hf_checkpoint.read(str(home / 'model'))
  tokenizer = tokenizer_lib.Bytes()
  tokenizer.vocab_size = base_model.vocab_size
  model = open_model.build_model(
    base_model.settings, [open_model.SINGLE_LEVEL], tokenizer, base_model
  )
  key = jax.random.key(0)
  weights = hf_import.load(base_model, model, sharding.make(), key=key)
  weights = streaming.prepare(model, weights)
  seconds, wall, outputs = [], [], []
  for _ in range(request['repeats'] + 1):
    start, wall_start = time.process_time(), time.perf_counter()
    outputs = list(
      streaming.stream(
        model, weights, request['prompts'], key, max_new=request['max_new'],
        end_tokens=request['ends'], temperature=0.0,
      )
    )  # fmt: skip
    seconds.append(time.process_time() - start)
    wall.append(time.perf_counter() - wall_start)
  rows = [list(row) for row in zip(*outputs, strict=True)]
  return {'tokens': rows, 'cpu_seconds': seconds[1:], 'wall_seconds': wall[1:]}


def compare(peer: str, repeats: int) -> dict:
  """Runs all cases; `peer` is a Python executable with transformers."""
  found = {}
  for (layers, width, rows), required in CASES.items():
    with tempfile.TemporaryDirectory() as folder:
      home = pathlib.Path(folder)
      _write_checkpoint(str(home / 'model'), layers, width)
      import numpy as np

      random = np.random.default_rng(0)
      prompts = random.integers(8, _VOCAB, (rows, PROMPT)).tolist()
      ours, theirs = _run_in_turn(peer, home, prompts, repeats)
    our_seconds, their_seconds = (
      [statistics.median(run['cpu_seconds']) for run in side]
      for side in (ours, theirs)
    )
    found[f'{layers} layers, {width} wide, {rows} rows'] = {
      'cpu_seconds': statistics.median(our_seconds),
      'transformers_cpu_seconds': statistics.median(their_seconds),
      'ratio': statistics.median(
        b / a for a, b in zip(our_seconds, their_seconds, strict=True)
      ),
      'asked_for': required,
      'same_tokens': ours[0]['tokens'] == theirs[0]['tokens'],
      'ours': our_seconds, 'theirs': their_seconds,
    }  # fmt: skip
  found['transformers'] = theirs[0]['transformers']
  found['torch'] = theirs[0]['torch']
  return found


def compare_model(peer: str, name: str, repeats: int) -> dict:
  """Runs one row of a real model; see `compare`."""
  from sleep_jax.interop import hf_checkpoint, hf_tokenizer

  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    subprocess.run(
      [sys.executable, '-m', 'sleep_jax.convert', 'out', f'--model={name}',
       f'--to={home / "model"}'], check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    tokenizer = hf_tokenizer.load(hf_checkpoint.read(str(home / 'model')))
    prompt = [tokenizer.bos, *tokenizer.encode(_TEXT)][:PROMPT]
    ours, theirs = _run_in_turn(peer, home, [prompt], repeats)
  found = {'model': name, 'prompt': len(prompt), 'new': NEW}
  for side, runs in (('ours', ours), ('transformers', theirs)):
    for unit in ('cpu', 'wall'):
      medians = [statistics.median(run[f'{unit}_seconds']) for run in runs]
      found[f'{side}_tokens_per_{unit}_second'] = round(
        NEW / statistics.median(medians), 2
      )
      found[f'{side}_{unit}_seconds'] = medians
  found['same_tokens'] = ours[0]['tokens'] == theirs[0]['tokens']
  found |= {key: theirs[0][key] for key in ('transformers', 'torch')}
  return found | {'load_after': os.getloadavg()[0]}


def round_trip(peer: str, run: str, strategy: str, seed: int) -> dict:
  """Compares a run's answers with those of transformers and its export."""
  import jax

  from sleep_jax.datasets import facts
  from sleep_jax.interop import hf_export, open_model
  from sleep_jax.model import streaming

  loaded = open_model.open_model(run, strategy=strategy, seed=seed)
  config = json.loads((pathlib.Path(run) / 'config.json').read_text())
  dataset = facts.make(seed=seed, **config['data']['settings'])
  tokenizer, found = loaded.tokenizer, {}
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    hf_export.save(
      loaded.model, loaded.weights, str(home / 'model'), tokenizer=tokenizer
    )
    for name, probes in dataset.probes.items():
      prompts = [[tokenizer.bos, *tokenizer.encode(p.prompt)] for p in probes]
      rows = list(
        streaming.stream(
          loaded.model, loaded.weights, prompts, jax.random.key(0), max_new=8,
          end_tokens=loaded.end_tokens, temperature=0.0,
        )
      )  # fmt: skip
      ours = [[t for t in row if t is not None]
              for row in zip(*rows, strict=True)]  # fmt: skip
      theirs = _run_peer(
        peer, home, prompts, ends=list(loaded.end_tokens), max_new=8
      )
      truncate = lambda row: row[: next(
        (i for i, t in enumerate(row) if t in loaded.end_tokens), len(row)
      )]  # fmt: skip
      theirs = [truncate(row) for row in theirs['tokens']]
      right = [tokenizer.decode(row).strip() == p.answer.strip()
               for row, p in zip(ours, probes, strict=True)]  # fmt: skip
      found[name] = {
        'questions': len(probes), 'right': sum(right) / len(right),
        'same_answers': sum(a == b for a, b in zip(ours, theirs, strict=True)),
      }  # fmt: skip
  return found


def _write_checkpoint(folder: str, layers: int, width: int) -> None:
  """Writes a checkpoint with a Llama-like shape and random weights."""
  import jax

  from sleep_jax.interop import hf_export
  from sleep_jax.model import config as config_lib
  from sleep_jax.model import transformer

  level = dict(
    hidden=width * 8 // 3, update_period='infinite', sleep_period='infinite'
  )
  config = config_lib.make(
    dict(
      width=width, num_layers=layers, num_heads=width // _HEAD,
      num_kv_heads=width // _HEAD // 2, head_size=_HEAD, qk_norm=False,
      arrangement='independent', router='always',
    ),
    [level], vocab_size=_VOCAB,
  )  # fmt: skip
  model = transformer.Transformer(config)
  hf_export.save(model, model.init(jax.random.key(1)), folder)


def _run_in_turn(peer, home, prompts, repeats):
  ours, theirs = [], []
  for _ in range(repeats):
    _write_request(home, prompts, repeats=3, max_new=NEW, ends=[])
    command = [sys.executable, '-m', 'benchmarks.decode', f'--child={home}']
    ours.append(_run_on_one_core(command))
    theirs.append(_run_on_one_core([peer, _SCRIPT, str(home)]))
  return ours, theirs


def _run_peer(peer, home, prompts, *, ends, max_new):
  _write_request(home, prompts, repeats=0, max_new=max_new, ends=ends)
  return _run_on_one_core([peer, _SCRIPT, str(home)])


def _write_request(home, prompts, **options):
  (home / 'ask.json').write_text(json.dumps({'prompts': prompts, **options}))


def _run_on_one_core(command):
  core = min(os.sched_getaffinity(0))
  done = subprocess.run(
    command, stdout=subprocess.PIPE, text=True, check=True,
    preexec_fn=lambda: os.sched_setaffinity(0, {core}),
  )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])


_SCRIPT = str(pathlib.Path(__file__).with_name('hf_decode.py'))

if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    '--peer', help='Python executable with torch and transformers'
  )
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--run')
  parser.add_argument('--model')
  parser.add_argument('--strategy', default='sleep')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--child')
  parser.add_argument('--out')
  args = parser.parse_args()
  if args.child:
    print(json.dumps(child(args.child)))
    sys.exit()
  if not args.peer:
    parser.error(
      '--peer is missing: name a Python executable with torch and transformers.'
    )
  if args.run:
    result = round_trip(args.peer, args.run, args.strategy, args.seed)
  elif args.model:
    result = compare_model(args.peer, args.model, args.repeats)
  else:
    result = compare(args.peer, args.repeats)
  text = json.dumps(result, indent=1)
  print(text)
  if args.out:
    pathlib.Path(args.out).write_text(text + '\n')

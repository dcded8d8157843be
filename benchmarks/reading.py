"""Reading a checkpoint of 8B's shape: time, and memory beside what is loaded.

    python -m benchmarks.reading --layers=8 --folder=FOLDER --out=FILE

Writes random bf16 weights of Llama 3.1 8B's shape, with as many layers as the
disk and the memory allow, in shards, and reads them in a process of their own
that watches its memory: anonymous pages, those that no file backs, are what a
process really holds; the files' own pages are the system's cache.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time

SHAPE = dict(
  model_type='llama', vocab_size=128_256, hidden_size=4096,
  intermediate_size=14_336, num_attention_heads=32, num_key_value_heads=8,
  head_dim=128, hidden_act='silu', rms_norm_eps=1e-5, rope_theta=500_000.0,
  tie_word_embeddings=False,
)  # fmt: skip


def write(folder: pathlib.Path, layers: int) -> None:
  """The checkpoint: embedding, head and each layer in a file of its own."""
  import ml_dtypes
  import numpy as np
  from safetensors import numpy as safetensors

  folder.mkdir(parents=True, exist_ok=True)
  config = SHAPE | {'num_hidden_layers': layers}
  width, hidden = config['hidden_size'], config['intermediate_size']
  kv = config['num_key_value_heads'] * config['head_dim']
  block = {
    'input_layernorm': (width,), 'post_attention_layernorm': (width,),
    'self_attn.q_proj': (width, width), 'self_attn.k_proj': (kv, width),
    'self_attn.v_proj': (kv, width), 'self_attn.o_proj': (width, width),
    'mlp.gate_proj': (hidden, width), 'mlp.up_proj': (hidden, width),
    'mlp.down_proj': (width, hidden),
  }  # fmt: skip
  embedding = (config['vocab_size'], width)
  files = [
    {'model.embed_tokens': embedding},
    {'lm_head': embedding, 'model.norm': (width,)},
  ]
  files += [
    {f'model.layers.{layer}.{name}': shape for name, shape in block.items()}
    for layer in range(layers)
  ]
  random, index = np.random.default_rng(0), {}
  some = random.normal(size=2**20).astype(ml_dtypes.bfloat16) * 0.02
  for number, named in enumerate(files, 1):
    name = f'model-{number:05d}-of-{len(files):05d}.safetensors'
    tensors = {
      f'{tensor}.weight': np.resize(some, shape)
      for tensor, shape in named.items()
    }
    safetensors.save_file(tensors, folder / name)
    index |= dict.fromkeys(tensors, name)
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': index})
  )


def read(folder: str) -> dict:
  """Reads it, and watches."""
  import jax

  from sleep_jax.data import tokenizer as tokenizer_lib
  from sleep_jax.interop import hf_checkpoint, hf_import, open_model
  from sleep_jax.runtime import sharding

  base_model = hf_checkpoint.read(folder)
  tokenizer = tokenizer_lib.Bytes()
  tokenizer.vocab_size = base_model.vocab_size
  model = open_model.build_model(
    base_model.settings, [open_model.SINGLE_LEVEL], tokenizer, base_model
  )
  place = sharding.make()
  jax.block_until_ready(jax.numpy.zeros(8) + 1)  # What JAX itself takes.
  before, most, over = _anonymous(), [0], threading.Event()

  def watch():
    while not over.is_set():
      most[0] = max(most[0], _anonymous())
      time.sleep(0.002)

  watcher = threading.Thread(target=watch)
  watcher.start()
  began, cpu = time.perf_counter(), time.process_time()
  weights = hf_import.load(
    base_model, model, place, key=jax.random.key(0), dtype='bfloat16'
  )
  jax.block_until_ready(weights.params)
  seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
  over.set()
  watcher.join()
  loaded = sum(x.nbytes for x in weights.params.values())
  largest = SHAPE['vocab_size'] * SHAPE['hidden_size'] * 2
  return {
    'layers': model.config.num_layers, 'loaded_bytes': loaded,
    'largest_tensor_bytes': largest,
    'peak_beyond_loaded_bytes': most[0] - before - loaded,
    'peak_beyond_loaded_in_largest_tensors': (
      (most[0] - before - loaded) / largest
    ),
    'seconds': seconds, 'cpu_seconds': cpu,
    'gigabytes_per_second': loaded / seconds / 1e9,
  }  # fmt: skip


def _anonymous() -> int:
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('RssAnon'):
      return int(line.split()[1]) * 1024
  raise OSError('/proc/self/status has no RssAnon: this needs Linux.')


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', required=True)
  parser.add_argument('--layers', type=int, default=8)
  parser.add_argument('--child', action='store_true')
  parser.add_argument('--out')
  args = parser.parse_args()
  if args.child:
    print(json.dumps(read(args.folder)))
    sys.exit()
  if not (pathlib.Path(args.folder) / 'config.json').exists():
    write(pathlib.Path(args.folder), args.layers)
  done = subprocess.run(
    [sys.executable, '-m', 'benchmarks.reading', '--child',
     f'--folder={args.folder}'],
    stdout=subprocess.PIPE, text=True, check=True,
  )  # fmt: skip
  text = json.dumps(json.loads(done.stdout.splitlines()[-1]), indent=1)
  print(text)
  if args.out:
    pathlib.Path(args.out).write_text(text + '\n')

"""Measures time and additional memory of loading an 8B-shaped checkpoint.

    python -m benchmarks.reading --layers=8 --folder=FOLDER --out=FILE

Writes a sharded checkpoint with random bf16 weights in the shape of Llama 3.1
8B. Choose the number of layers by the available disk and memory. A subprocess
loads it and monitors its own memory. Only anonymous pages, which no file backs,
are counted: pages of mapped files belong to the system's cache.
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
  """Writes the checkpoint; embedding, head and each layer in separate files."""
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
  sample = random.normal(size=2**20).astype(ml_dtypes.bfloat16) * 0.02
  for number, shapes in enumerate(files, 1):
    name = f'model-{number:05d}-of-{len(files):05d}.safetensors'
    tensors = {
      f'{tensor}.weight': np.resize(sample, shape)
      for tensor, shape in shapes.items()
    }
    safetensors.save_file(tensors, folder / name)
    index |= dict.fromkeys(tensors, name)
  (folder / 'config.json').write_text(json.dumps(config))
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': index})
  )


def read(folder: str) -> dict:
  """Loads the checkpoint and monitors memory; runs in a subprocess."""
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
  jax.block_until_ready(
    jax.numpy.zeros(8) + 1
  )  # Count the memory of JAX itself now.
  before, peak, done = _anonymous_bytes(), [0], threading.Event()

  def monitor():
    while not done.is_set():
      peak[0] = max(peak[0], _anonymous_bytes())
      time.sleep(0.002)

  thread = threading.Thread(target=monitor)
  thread.start()
  start, cpu = time.perf_counter(), time.process_time()
  weights = hf_import.load(
    base_model, model, place, key=jax.random.key(0), dtype='bfloat16'
  )
  jax.block_until_ready(weights.params)
  seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
  done.set()
  thread.join()
  loaded = sum(x.nbytes for x in weights.params.values())
  largest = SHAPE['vocab_size'] * SHAPE['hidden_size'] * 2
  return {
    'layers': model.config.num_layers, 'loaded_bytes': loaded,
    'largest_tensor_bytes': largest,
    'peak_beyond_loaded_bytes': peak[0] - before - loaded,
    'peak_beyond_loaded_in_largest_tensors': (
      (peak[0] - before - loaded) / largest
    ),
    'seconds': seconds, 'cpu_seconds': cpu,
    'gigabytes_per_second': loaded / seconds / 1e9,
  }  # fmt: skip


def _anonymous_bytes() -> int:
  """Returns the bytes of anonymous pages of this process."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('RssAnon'):
      return int(line.split()[1]) * 1024
  raise OSError(
    '/proc/self/status has no RssAnon: this benchmark requires Linux.'
  )


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

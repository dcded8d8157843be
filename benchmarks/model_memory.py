"""Measures the memory that reading a pretrained model takes.

    python -m benchmarks.model_memory --out=FILE

Writes Llamas with random weights of about 600 MB in float32 to a temporary
folder, in float32 and bfloat16, in one file and in shards. A process of its own
reads each in float32 and reports the peak of its resident memory (VmHWM), which
counts pages of mapped files. The last row is read with `sleep_jax.load`, which
imports everything that learning needs, 40 MB more; the others with
`open_model`.

`ratio` is the peak above the process with jax imported, divided by the size of
the model in float32. It contains about 90 MB that do not depend on the model:
the backend of XLA, our own modules and the tokenizer. `ratio_above_backend` is
above the process with the backend started.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

SHAPE = dict(
  model_type='llama', vocab_size=32_000, hidden_size=768,
  intermediate_size=3072, num_attention_heads=12, num_key_value_heads=4,
  head_dim=64, hidden_act='silu', rms_norm_eps=1e-5, rope_theta=10_000.0,
  tie_word_embeddings=False, max_position_embeddings=2048,
  bos_token_id=0, eos_token_id=0,
)  # fmt: skip
CASES = [
  *((dtype, files, 'open_model') for dtype in ('float32', 'bfloat16')
    for files in (1, 4)),
  ('bfloat16', 4, 'load'),
]  # fmt: skip
LIMIT = 1.2


def write(
  folder: pathlib.Path, dtype: str, files: int, *, layers: int = 12
) -> None:
  """Writes a checkpoint with random weights and a tokenizer.

  Args:
    folder: to write to.
    dtype: of the tensors.
    files: number of safetensors files.
    layers: number of blocks.
  """
  from safetensors import numpy as safetensors

  names = list(_shapes(layers))
  index = {}
  for number in range(files):
    part = dict(names[number::files])
    name = (
      'model.safetensors'
      if files == 1
      else f'model-{number + 1:05d}-of-{files:05d}.safetensors'
    )
    safetensors.save_file(_random(part, dtype, number), folder / name)
    index |= dict.fromkeys(part, name)
  if files > 1:
    (folder / 'model.safetensors.index.json').write_text(
      json.dumps({'metadata': {}, 'weight_map': index})
    )
  config = SHAPE | {'num_hidden_layers': layers}
  (folder / 'config.json').write_text(json.dumps(config))
  _write_tokenizer(folder / 'tokenizer.json')


def _shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
  """Yields name and shape of each tensor."""
  width, hidden = SHAPE['hidden_size'], SHAPE['intermediate_size']
  kv = SHAPE['num_key_value_heads'] * SHAPE['head_dim']
  yield 'model.embed_tokens.weight', (SHAPE['vocab_size'], width)
  yield 'lm_head.weight', (SHAPE['vocab_size'], width)
  yield 'model.norm.weight', (width,)
  block = {
    'input_layernorm': (width,), 'post_attention_layernorm': (width,),
    'self_attn.q_proj': (width, width), 'self_attn.k_proj': (kv, width),
    'self_attn.v_proj': (kv, width), 'self_attn.o_proj': (width, width),
    'mlp.gate_proj': (hidden, width), 'mlp.up_proj': (hidden, width),
    'mlp.down_proj': (width, hidden),
  }  # fmt: skip
  for layer in range(layers):
    for name, shape in block.items():
      yield f'model.layers.{layer}.{name}.weight', shape


def _random(shapes, dtype, seed):
  import ml_dtypes
  import numpy as np

  kind = np.float32 if dtype == 'float32' else ml_dtypes.bfloat16
  sample = np.random.default_rng(seed).standard_normal(2**20, 'f4') * 0.02
  sample = sample.astype(kind)
  return {name: np.resize(sample, shape) for name, shape in shapes.items()}


def _write_tokenizer(path: pathlib.Path) -> None:
  """Writes a tokenizer of words, so that the model can be opened."""
  import tokenizers
  from tokenizers import models

  words = {f'w{n}': n for n in range(SHAPE['vocab_size'])}
  tokenizers.Tokenizer(models.WordLevel(words, unk_token='w0')).save(str(path))


def read(folder: str, entry: str = 'open_model') -> dict[str, float]:
  """Opens a model and returns the memory that this process took for it.

  Call it in a process that has imported jax and has read no model before.

  Args:
    folder: of the model.
    entry: 'open_model', or 'load' for the whole Python API.
  """
  import jax

  imported = _memory('VmRSS')
  jax.block_until_ready(jax.numpy.zeros(8) + 1)
  started = _memory('VmRSS')
  if entry == 'load':
    from sleep_jax import api

    open_folder = lambda name: api.load(name).loaded
  else:
    from sleep_jax.interop import open_model

    open_folder = open_model.open_model
  start = time.perf_counter()
  loaded = open_folder(folder)
  jax.block_until_ready(loaded.weights.params)
  seconds = time.perf_counter() - start
  size = sum(4 * x.size for x in loaded.weights.params.values())
  peak = _memory('VmHWM')
  return {
    'f32_bytes': size, 'rss_jax_imported': imported,
    'rss_backend_started': started, 'rss_peak': peak,
    'rss_end': _memory('VmRSS'),
    'ratio': (peak - imported) / size,
    'ratio_above_backend': (peak - started) / size,
    'seconds': seconds,
  }  # fmt: skip


def _memory(field: str) -> int:
  """Returns the bytes of a field of /proc/self/status."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return int(line.split()[1]) * 1024
  raise OSError(
    f'/proc/self/status has no {field}: this benchmark requires Linux.'
  )


def _measure(dtype: str, files: int, entry: str) -> dict[str, float]:
  """Writes one model, and reads it in a process of its own."""
  with tempfile.TemporaryDirectory() as folder:
    write(pathlib.Path(folder), dtype, files)
    done = subprocess.run(
      [sys.executable, '-m', 'benchmarks.model_memory', f'--child={folder}',
       f'--entry={entry}'],
      stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
  return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--child')
  parser.add_argument('--entry', default='open_model')
  parser.add_argument('--out')
  args = parser.parse_args()
  if args.child:
    import jax  # noqa: F401  Before the first measurement.

    print(json.dumps(read(args.child, args.entry)))
    sys.exit()
  import jax

  rows = []
  for dtype, files, entry in CASES:
    row = {'dtype': dtype, 'files': files, 'entry': entry}
    rows.append(row | _measure(dtype, files, entry))
    print(json.dumps(rows[-1]), flush=True)
  worst = max(row['ratio'] for row in rows)
  text = json.dumps(
    {
      'command': 'python -m benchmarks.model_memory --out=FILE',
      'jax': jax.__version__, 'limit': LIMIT, 'largest_ratio': worst,
      'rows': rows,
    },
    indent=1,
  )  # fmt: skip
  if args.out:
    pathlib.Path(args.out).write_text(text + '\n')
  print(f'largest ratio {worst:.3f}, limit {LIMIT}')
  sys.exit(worst > LIMIT)

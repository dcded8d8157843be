"""Measures memory and speed of reading a large folder of rows.

    python -m benchmarks.row_files --gigabytes=2 --out=FILE

Writes day files of plain texts and of prompts with responses into a temporary
folder, which is deleted at the end. A subprocess builds the stream as a run
does: it reads and checks the rows, takes the digests of the days, trains a BPE
on the first day, tokenizes into the cache on disk, and reads batches. Its
memory is the peak of its resident pages, minus those of the process once jax is
imported.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

CONTEXT, MAX_PROMPT, BATCH, VOCABULARY = 256, 64, 32, 4096
NUM_DAYS, NUM_BATCHES = 8, 100


def write(folder: pathlib.Path, num_bytes: int) -> None:
  """Writes day files of this size together; rows have about 400 bytes."""
  import random

  draw = random.Random(0)
  words = [
    ''.join(draw.choices('abcdefghijklmnopqrstuvwxyz', k=draw.randint(2, 9)))
    for _ in range(5000)
  ]
  # The first words are the most frequent, as in a language.
  weights = [1 / (rank + 2) for rank in range(len(words))]
  sentences = [
    ' '.join(draw.choices(words, weights, k=draw.randint(6, 14))).capitalize()
    + '.'
    for _ in range(50_000)
  ]
  for day in range(1, NUM_DAYS + 1):
    with open(folder / f'day_{day}.jsonl', 'w', encoding='utf-8') as file:
      written = 0
      while written < num_bytes // NUM_DAYS:
        parts = draw.choices(sentences, k=draw.randint(4, 10))
        row = {'text': ' '.join(parts)}
        if draw.random() < 0.5:
          row = {'prompt': f'{parts[0]}?', 'response': ' '.join(parts[1:])}
        written += file.write(json.dumps(row) + '\n')


def measure(data: pathlib.Path, work: pathlib.Path) -> dict:
  """Returns what reading a folder takes, measured in this process."""
  import jax

  jax.devices()
  base = _status('VmRSS')

  from sleep_jax.data import stream, tokenizer
  from sleep_jax.datasets import jsonl
  from sleep_jax.runs import day_records

  results = {'process_with_jax_mb': base}
  num_bytes = sum(file.stat().st_size for file in data.iterdir())

  def phase(name: str, call):
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    results[name] = {
      'seconds': round(time.perf_counter() - wall, 1),
      'cpu_seconds': round(time.process_time() - cpu, 1),
      'peak_above_jax_mb_so_far': _status('VmHWM') - base,
    }
    return result

  dataset = phase('read', lambda: jsonl.make(path=str(data), scratch=str(work)))
  phase('digests_of_days', lambda: day_records.describe(dataset))
  tokens = phase(
    'train_bpe',
    lambda: tokenizer.make(
      'bpe',
      (row.text for row in dataset.experiences[0][1]),
      vocab_size=VOCABULARY,
    ),
  )

  def build():
    return stream.build(
      dataset, tokens, context=CONTEXT, max_prompt=MAX_PROMPT,
      batch_size=BATCH, seed=0, cache_dir=str(work / 'tokens'),
      too_long='skip',
    )  # fmt: skip

  made = phase('tokenize', build)
  phase('open_again', build)
  phase(
    'batches',
    lambda: [
      source.batch(index)
      for index in range(NUM_BATCHES)
      for source in made.experiences
    ],
  )
  num_rows = sum(len(rows) for rows in dataset.whole.values())
  skipped = [source.skipped.num_rows for source in made.experiences]
  for name in ('read', 'digests_of_days', 'tokenize'):
    seconds = max(results[name]['seconds'], 0.1)
    results[name]['rows_per_second'] = round(num_rows / seconds)
  return {
    'megabytes': round(num_bytes / 1e6),
    'rows': num_rows,
    'rows_too_long': sum(skipped),
    'tokens': sum(source.num_tokens for source in made.experiences),
    'cache_on_disk_mb': round(
      sum(f.stat().st_size for f in work.rglob('*') if f.is_file()) / 1e6
    ),
    'peak_above_jax_mb': _status('VmHWM') - base,
    **results,
  }


def _status(field: str) -> int:
  """Returns a field of the process's memory, in MB."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return round(int(line.split()[1]) / 1000)
  raise KeyError(field)


def main() -> None:
  """Runs the benchmark and writes its results."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--gigabytes', type=float, default=2.0)
  parser.add_argument('--out', default='docs/results/faults/row_files.json')
  parser.add_argument('--measure', nargs=2, help='DATA WORK, in a subprocess')
  arguments = parser.parse_args()
  if arguments.measure:
    print(json.dumps(measure(*map(pathlib.Path, arguments.measure))))
    return
  with tempfile.TemporaryDirectory() as folder:
    data, work = (pathlib.Path(folder) / name for name in ('days', 'work'))
    data.mkdir()
    work.mkdir()
    write(data, int(arguments.gigabytes * 1e9))
    command = [sys.executable, '-m', 'benchmarks.row_files']
    done = subprocess.run(
      [*command, '--measure', str(data), str(work)],
      stdout=subprocess.PIPE,
      check=True,
      text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )
  settings = {
    'context': CONTEXT, 'max_prompt': MAX_PROMPT, 'batch': BATCH,
    'vocabulary': VOCABULARY, 'day_files': NUM_DAYS,
    'batches_of_each_day': NUM_BATCHES,
  }  # fmt: skip
  results = {
    'command': 'python -m benchmarks.row_files '
    f'--gigabytes={arguments.gigabytes:g}',
    'python': platform.python_version(),
    'cores': os.cpu_count(),
    'load_at_the_end': round(os.getloadavg()[0], 1),
    'settings': settings,
    **json.loads(done.stdout),
  }
  out = pathlib.Path(arguments.out)
  out.parent.mkdir(parents=True, exist_ok=True)
  out.write_text(json.dumps(results, indent=2) + '\n')
  print(out.read_text())


if __name__ == '__main__':
  main()

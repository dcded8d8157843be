"""Compares real GGUF files with transformers, and those written here too.

    sleep-jax convert fetch smollm2
    sleep-jax convert fetch gemma3-270m
    bash launch/parity.sh --collect-only   # Creates the environment.
    .venv-parity/bin/python -m benchmarks.gguf_parity --out=docs/results/real

Writes gguf.json: for each file the largest difference of two logits, whether
greedy texts and tokens are equal, and the seconds of loading. Exit status 1 if
a file differs. See tests/parity/gguf_models.py.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import transformers  # noqa: E402

import sleep_jax  # noqa: E402
from sleep_jax.storage import known_models  # noqa: E402
from tests.parity import gguf_models  # noqa: E402

# Model, and the type in which it is written here; '' for the file itself.
FILES = (
  ('smollm2', ''), ('smollm2', 'q8_0'), ('gemma3-270m', ''),
  ('gemma3-270m', 'f16'),
)  # fmt: skip
TOLERANCE = 2e-4


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  arguments = parser.parse_args()
  transformers.logging.set_verbosity_error()
  transformers.utils.logging.disable_progress_bar()
  rows = []
  for name, kind in FILES:
    with tempfile.TemporaryDirectory() as folder:
      path = pathlib.Path(known_models.locate(name))
      if kind:
        target = pathlib.Path(folder, f'{name}-{kind}.gguf')
        sleep_jax.load(name, verbose=False).export(str(target), f'gguf-{kind}')
        path = target
      row = {'written_here': bool(kind)} | gguf_models.compare(path)
    rows.append(row)
    print(json.dumps(row), flush=True)
  packages = ('transformers', 'torch', 'jax', 'gguf', 'tokenizers')
  result = dict(
    versions={name: importlib.metadata.version(name) for name in packages},
    machine=platform.processor() or platform.machine(),
    tolerance=TOLERANCE,
    files=rows,
  )
  arguments.out.mkdir(parents=True, exist_ok=True)
  text = json.dumps(result, indent=2) + '\n'
  (arguments.out / 'gguf.json').write_text(text)
  sys.exit(not all(map(_equal, rows)))


def _equal(row) -> bool:
  count = len(gguf_models.PROMPTS)
  return (
    row['largest_difference'] <= TOLERANCE
    and row['same_greedy_texts'] == f'{count} of {count}'
    and row['same_tokens']
  )


if __name__ == '__main__':
  main()

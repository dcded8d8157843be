"""Decodes greedily with transformers, for comparison with our decoding.

This script runs in an environment with torch and transformers, which this
project does not require. `benchmarks.decode --peer=PYTHON` calls it with a
folder that contains a checkpoint in `model`, and `ask.json`. It prints a line
of JSON with the tokens, and the CPU-seconds and wall seconds of each repeat
except the first.
"""

import json
import pathlib
import sys
import time


def main():
  import torch
  import transformers

  torch.set_num_threads(1)
  folder = pathlib.Path(sys.argv[1])
  request = json.loads((folder / 'ask.json').read_text())
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder / 'model', dtype=torch.float32
  ).eval()
  width = max(map(len, request['prompts']))
  rows = [[0] * (width - len(p)) + p for p in request['prompts']]
  mask = [[0] * (width - len(p)) + [1] * len(p) for p in request['prompts']]
  rows, mask = torch.tensor(rows), torch.tensor(mask)
  max_new, seconds, wall = request['max_new'], [], []
  ends = request['ends'] or None
  for _ in range(request['repeats'] + 1):
    start, wall_start = time.process_time(), time.perf_counter()
    with torch.no_grad():
      out = model.generate(
        rows, attention_mask=mask, do_sample=False, max_new_tokens=max_new,
        min_new_tokens=0 if ends else max_new, pad_token_id=0,
        eos_token_id=ends,
      )  # fmt: skip
    seconds.append(time.process_time() - start)
    wall.append(time.perf_counter() - wall_start)
  print(json.dumps({
    'tokens': out[:, width:].tolist(), 'cpu_seconds': seconds[1:],
    'wall_seconds': wall[1:],
    'transformers': transformers.__version__, 'torch': torch.__version__,
  }))  # fmt: skip


if __name__ == '__main__':
  main()

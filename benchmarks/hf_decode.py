"""Greedy decoding with transformers: what ours is timed and checked beside.

Runs alone, in an environment with torch and transformers, which this project
does not need; `benchmarks.decode --peer=PYTHON` calls it with a folder that
holds a checkpoint and `ask.json`. Prints a line of JSON: the tokens, and the
CPU-seconds of each repeat but the first.
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
  ask = json.loads((folder / 'ask.json').read_text())
  model = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float32
  ).eval()
  width = max(map(len, ask['prompts']))
  rows = [[0] * (width - len(p)) + p for p in ask['prompts']]
  seen = [[0] * (width - len(p)) + [1] * len(p) for p in ask['prompts']]
  rows, seen = torch.tensor(rows), torch.tensor(seen)
  new, taken = ask['max_new'], []
  ends = ask['ends'] or None
  for _ in range(ask['repeats'] + 1):
    began = time.process_time()
    with torch.no_grad():
      out = model.generate(
        rows, attention_mask=seen, do_sample=False, max_new_tokens=new,
        min_new_tokens=0 if ends else new, pad_token_id=0, eos_token_id=ends,
      )  # fmt: skip
    taken.append(time.process_time() - began)
  print(json.dumps({
    'tokens': out[:, width:].tolist(), 'cpu_seconds': taken[1:],
    'transformers': transformers.__version__, 'torch': torch.__version__,
  }))  # fmt: skip


if __name__ == '__main__':
  main()

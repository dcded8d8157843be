"""Compares the time to the first token with transformers.

    sleep-jax convert fetch smollm2
    python -m benchmarks.first_token --peer=PYTHON --out=FILE

`--peer` is a Python with torch and transformers. The model is exported once as
a Hugging Face directory in float32, which both sides read; rows that end in
`GGUF` read the file that it comes from. All processes run in turn, each on one
core, and are measured from outside: wall seconds and CPU-seconds from the start
of the process until the first token of the answer can be read from its output,
and the peak of its resident memory at the end of the answer. All give the same
text.

- `generate`, `chat`: the commands, with the compiled programs of an earlier
  process.
- `generate, first start`: with an empty cache of compiled programs.
- `transformers`: `benchmarks/hf_first_token.py`.

Exit status 1 if a median is above its limit.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

QUESTION = 'What is the capital of France?'
NEW = 8
# Seconds that a first start may take longer than a second one, and bytes of the
# peak of a chat.
MOST_LONGER, MOST_BYTES = 10.0, 1.1e9
_ROOT = pathlib.Path(__file__).parents[1]
_SCRIPT = str(pathlib.Path(__file__).with_name('hf_first_token.py'))
_OURS = [sys.executable, '-m', 'sleep_jax.cli']


def commands(peer: str, name: str, home: pathlib.Path) -> dict[str, dict]:
  """Returns what is run: row -> its command and more.

  Args:
    peer: Python with torch and transformers.
    name: of the model.
    home: temporary folder with its export.
  """
  model = home / 'model'
  ask = ['generate', '--chat', f'--prompt={QUESTION}', f'--max_new={NEW}']
  talk = ['chat', f'--max_new={NEW}']
  typed = f'{QUESTION}\n/quit\n'
  return {
    'transformers': dict(command=[peer, _SCRIPT, str(model), QUESTION, NEW]),
    'generate': dict(command=[*_OURS, *ask, f'--model={model}']),
    'generate, GGUF': dict(command=[*_OURS, *ask, f'--model={name}']),
    'chat': dict(
      command=[*_OURS, *talk, f'--model={model}'], typed=typed, marker='\n> '
    ),
    'chat, GGUF': dict(
      command=[*_OURS, *talk, f'--model={name}'], typed=typed, marker='\n> '
    ),
    'generate, first start': dict(
      command=[*_OURS, *ask, f'--model={model}'], first=True
    ),
  }  # fmt: skip


def run(
  command: list, *, core: int, typed: str = '', marker: str = '',
  first: bool = False,
) -> dict:  # fmt: skip
  """Runs one process.

  Args:
    command: its words.
    core: that it runs on.
    typed: its input.
    marker: text of the output after which the answer begins; '': at once.
    first: whether it begins with an empty cache of compiled programs.

  Returns:
    'wall_seconds' and 'cpu_seconds' to the first token, 'peak_bytes', 'text'.
  """
  with tempfile.TemporaryDirectory() as folder:
    words = [str(word) for word in command]
    if 'chat' in words:
      words.append(f'--workdir={folder}/chat')
    environment = os.environ | {'HF_HUB_OFFLINE': '1', 'TQDM_DISABLE': '1'}
    if first:
      environment['XDG_CACHE_HOME'] = folder
    start = time.perf_counter()
    process = subprocess.Popen(
      words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL, env=environment, cwd=_ROOT,
      preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    process.stdin.write(typed.encode())
    process.stdin.close()
    output, seen = b'', None
    while True:
      piece = os.read(process.stdout.fileno(), 2**16)
      if not piece:
        break
      output += piece
      if seen is None and _answer(output, marker):
        seen = time.perf_counter() - start, _cpu_seconds(process.pid)
    _, status, usage = os.wait4(process.pid, 0)
  if status or seen is None:
    raise SystemExit(f'{" ".join(words)} failed: run it to see why.')
  return {
    'wall_seconds': round(seen[0], 3), 'cpu_seconds': round(seen[1], 3),
    'peak_bytes': usage.ru_maxrss * 1024, 'text': _answer(output, marker),
  }  # fmt: skip


def _answer(output: bytes, marker: str) -> str:
  """Returns the first line of an answer, as far as it was written."""
  text = output.decode(errors='replace')
  text = text.partition(marker)[2] if marker else text
  return text.partition('\n')[0].strip()


def _cpu_seconds(number: int) -> float:
  """Returns the CPU-seconds that a process has used, its children excluded."""
  text = pathlib.Path(f'/proc/{number}/stat').read_text()
  user, system = text.rpartition(')')[2].split()[11:13]
  return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def measure(peer: str, name: str, repeats: int, core: int) -> dict:
  """Runs all rows in turn; returns their medians, and what was measured."""
  with tempfile.TemporaryDirectory() as folder:
    home = pathlib.Path(folder)
    subprocess.run(
      [*_OURS, 'convert', 'out', f'--model={name}', f'--to={home / "model"}'],
      check=True, cwd=_ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    rows = commands(peer, name, home)
    runs = {row: [] for row in rows}
    for number in range(repeats + 1):
      for row, options in rows.items():
        done = run(core=core, **options)
        # The first round brings the files into memory, and compiles.
        runs[row] += [done] if number else []
        print(row, json.dumps(done), flush=True)
  median = lambda row, key: round(
    statistics.median(one[key] for one in runs[row]), 3
  )
  keys = 'wall_seconds', 'cpu_seconds', 'peak_bytes'
  return {
    'medians': {row: {key: median(row, key) for key in keys} for row in runs},
    'same_text': len({one['text'] for row in runs for one in runs[row]}) == 1,
    'runs': runs,
  }


def check(found: dict) -> list[str]:
  """Returns what is above its limit."""
  medians, wrong = found['medians'], []
  for row in ('generate', 'generate, GGUF', 'chat', 'chat, GGUF'):
    for key in ('wall_seconds', 'cpu_seconds'):
      if medians[row][key] > medians['transformers'][key]:
        wrong.append(f'{row}: {key} is above that of transformers')
    if medians[row]['peak_bytes'] > MOST_BYTES:
      wrong.append(f'{row}: peak_bytes is above {MOST_BYTES:.3g}')
  first, second = medians['generate, first start'], medians['generate']
  if first['wall_seconds'] > second['wall_seconds'] + MOST_LONGER:
    wrong.append(f'the first start takes more than {MOST_LONGER} s longer')
  return wrong + ([] if found['same_text'] else ['the texts differ'])


if __name__ == '__main__':
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    '--peer', required=True, help='Python with torch and transformers'
  )
  parser.add_argument('--model', default='smollm2')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--core', type=int, default=0)
  parser.add_argument('--out')
  args = parser.parse_args()
  versions = subprocess.run(
    [args.peer, '-c', 'import torch, transformers; '
     'print(torch.__version__, transformers.__version__)'],
    check=True, stdout=subprocess.PIPE, text=True,
  ).stdout.split()  # fmt: skip
  load = os.getloadavg()[0]
  result = measure(args.peer, args.model, args.repeats, args.core)
  result = {
    'command': 'python -m benchmarks.first_token --peer=PYTHON --out=FILE',
    'model': args.model, 'question': QUESTION, 'repeats': args.repeats,
    'jax': importlib.metadata.version('jax'), 'torch': versions[0],
    'transformers': versions[1], 'cores': 1, 'cores_of_machine': os.cpu_count(),
    'load_before': load, 'load_after': os.getloadavg()[0],
    'above_limit': check(result),
  } | result  # fmt: skip
  if args.out:
    pathlib.Path(args.out).write_text(json.dumps(result, indent=1) + '\n')
  print(json.dumps(result['medians'], indent=1))
  print('\n'.join(result['above_limit']))
  sys.exit(bool(result['above_limit']))

"""Compares the lm-eval adapter with lm-evaluation-harness's `hf` model.

python -m benchmarks.harness_parity --out=docs/results/faults

Needs the environment of launch/parity.sh. Writes every request with both
results to harness.json, and a table of the cases to harness.md.
"""

import importlib.metadata
import json
import logging
import pathlib
import tempfile

from absl import app, flags

_OUT = flags.DEFINE_string('out', 'docs/results/faults', 'Where to write.')
_LIBRARIES = ('jax', 'torch', 'transformers', 'lm_eval')


def main(_):
  logging.disable(logging.WARNING)
  from tests.parity import harness

  rows = []
  with tempfile.TemporaryDirectory() as folder:
    for model, options in harness.CASES:
      home = pathlib.Path(folder) / model
      if not home.exists():
        harness.write_model(home, model)
      rows += harness.compare(home, model, options)
      print(f'{model}, {options}: {sum(row.equal for row in rows)} of '
            f'{len(rows)} equal', flush=True)  # fmt: skip
  _write(rows, pathlib.Path(_OUT.value))


def _write(rows, out: pathlib.Path) -> None:
  out.mkdir(parents=True, exist_ok=True)
  about = {name: importlib.metadata.version(name) for name in _LIBRARIES}
  plain = [
    {
      'tokenizer': row.model, 'options': row.options, 'kind': row.kind,
      'case': row.case, 'ours': _shown(row.ours), 'harness': _shown(row.theirs),
      'difference': row.difference, 'equal': row.equal,
    }
    for row in rows
  ]  # fmt: skip
  text = json.dumps({'versions': about, 'rows': plain}, indent=1)
  (out / 'harness.json').write_text(text + '\n')
  (out / 'harness.md').write_text(_table(plain, about))


def _shown(result):
  """Returns a result as JSON; the class and message of an error."""
  if isinstance(result, Exception):
    return f'refused: {type(result).__name__}: {str(result)[:200]}'.rstrip(': ')
  return result


def _table(rows, about) -> str:
  """Returns the table of the cases with the default options, and the sums."""
  versions = ', '.join(f'{name} {found}' for name, found in about.items())
  lines = [
    '# Scores of lm-evaluation-harness',
    '',
    'Written by `python -m benchmarks.harness_parity`. Random Llamas, f32, on '
    f'a CPU; {versions}. A row is equal if log-likelihoods differ by at most '
    '0.001 nats and texts not at all, or if both refuse it. `harness.json` has '
    'all rows.',
    '',
    '| tokenizer | options | kind | equal | refused by both '
    '| largest difference (nats) |',
    '|---|---|---|---|---|---|',
  ]
  keys = dict.fromkeys((r['tokenizer'], r['options'], r['kind']) for r in rows)
  for key in keys:
    group = [r for r in rows
             if (r['tokenizer'], r['options'], r['kind']) == key]  # fmt: skip
    refused = sum(str(r['ours']).startswith('refused') for r in group)
    equal = sum(r['equal'] for r in group)
    most = max(r['difference'] for r in group)
    shown = '' if key[2] == 'generate_until' else f'{most:.1e}'
    lines.append(
      f'| {" | ".join(key)} | {equal} of {len(group)} | {refused} | {shown} |'
    )
  lines += [
    '',
    '| case (tokenizer with BOS, default options) | ours | harness |',
    '|---|---|---|',
  ]
  for row in rows:
    if (row['tokenizer'], row['options']) == ('BOS', 'default'):
      both = (_cell(row[name]) for name in ('ours', 'harness'))
      lines.append(f'| {row["kind"]}: {row["case"]} | {" | ".join(both)} |')
  return '\n'.join(lines) + '\n'


def _cell(value) -> str:
  if isinstance(value, tuple | list):
    return f'{value[0]:.4f}' + (', greedy' if value[1] else '')
  if isinstance(value, float):
    return f'{value:.4f}'
  shown = str(value) if str(value).startswith('refused') else repr(value)
  return shown[:90].replace('|', '\\|').replace('\n', ' ')


if __name__ == '__main__':
  app.run(main)

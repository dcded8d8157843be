"""The table of an ablation study reads the log of each row's own strategy."""

import json

from benchmarks import rows
from sleep_jax.storage import workdir


def _write(folder, before, after):
  """Writes the log of a run with one day, scored as accuracy and as text."""
  folder.mkdir(parents=True)
  log = [
    dict(
      event=number, kind='evaluation', cycle=number, moment=moment, step=number,
      experience=number, cost={}, scores={'1': score / 2},
      text_scores={'1': score},
    )
    for number, (moment, score) in enumerate(
      [('initial', before), ('morning', after)]
    )
  ]  # fmt: skip
  log[-1]['second_scores'] = {}  # Of the last evaluation of a whole run.
  (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, log)) + '\n')


def test_rows_of_several_strategies_are_compared_by_their_texts(tmp_path):
  strategies = rows.strategies_of('small/table1')
  assert strategies['opsd'] == 'opsd' and strategies['no_expansion'] == 'sleep'
  for row, after in (('sleep', 0.75), ('opsd', 0.5)):
    seed = tmp_path / row / 'seed_0'
    _write(seed / 'pretrain', 0.0, 1.0)  # Is no row.
    _write(seed / strategies[row], 0.25, after)
  found = rows.read(workdir.path(str(tmp_path)), strategies)
  assert list(found) == ['sleep', 'opsd']
  head, _, first, second = [
    [cell.strip() for cell in line.split('|')]
    for line in rows.markdown(found).splitlines()
  ]
  column = head.index('ACC of texts')
  assert [first[column], second[column]] == ['0.750', '0.500']
  assert second[head.index('ACC of texts minus first row')] == '-0.250'


def test_a_run_that_is_under_way_is_left_out(tmp_path):
  log = tmp_path / 'sleep' / 'seed_0' / 'sleep'
  _write(log, 0.0, 1.0)
  assert len(rows.read(tmp_path, {'sleep': 'sleep'})['sleep']) == 1
  lines = (log / 'metrics.jsonl').read_text()
  file = log / 'metrics.jsonl'
  file.write_text(lines.replace('"second_scores": {}', '"gates": {}'))
  assert rows.read(tmp_path, {'sleep': 'sleep'}) == {}

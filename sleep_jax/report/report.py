"""The report: one self-contained page of all runs, and a table for a terminal.

It is redrawn after each cycle, so every part stands for itself and is left
out while there is nothing to show: a newborn alone makes a page.
"""

import json
import os
import re
from typing import Any

from sleep_jax.evaluate import cycles, retention
from sleep_jax.report import dreams, figures, html, night_tables, tables
from sleep_jax.storage import workdir

Run = dict[str, Any]
# What fits on a terminal: key in a summary, title.
COLUMNS = (
  ('prior_initial', 'knew'),
  ('la', 'learned'),
  ('prior', 'prior'),
  ('acc', 'ACC'),
  ('bwt', 'BWT'),
  ('harm_of_sleep', 'harm'),
  ('cost_to_new', 'to new'),
)
LEGEND = """\
n: seeds, ±: half the 95 % interval over them. knew: birth probes before day 1;
prior: in the end. learned: each experience right after it; ACC: all of them in
the end; BWT: that less learned. harm: what a cycle changes in what was known;
to new: what a night loses of its own day."""


def summaries(runs: list[Run]) -> dict[str, list[dict[str, Any]]]:
  """What `summary.json` says: the finished runs' numbers by strategy.

  'joint' is the better of its budgets by ACC; both stay under their names.
  """
  by_name: dict[str, list[dict[str, Any]]] = {}
  for run in runs:
    if run['status'] == 'finished':
      by_name.setdefault(run['strategy'], []).append(run['summary'])
  budgets = [name for name in by_name if name.startswith('joint_')]
  if budgets:
    mean = lambda name: cycles.mean_and_interval(r['acc'] for r in by_name[name])[0]
    by_name['joint'] = by_name[max(budgets, key=lambda n: mean(n) or 0.0)]
  return by_name


def write(
  runs: list[Run],
  path: str | os.PathLike[str],
  *,
  study: str,
  config: Any,
  about: dict[str, Any],
) -> None:
  """Writes the page in one move: a reader never meets half of it.

  Args:
    runs: one dict per strategy and seed: 'strategy', 'seed', 'evaluations',
      'nights', 'ledger', 'summary', 'samples', 'status' ('finished', or what
      to say instead), and 'dreams' where there are any.
    path: the file.
    study: the page's title.
    config: the resolved config, as text or as what JSON can show.
    about: where the numbers come from: seed, versions, revision, command.
  """
  groups = _by_strategy(runs)
  styles = {name: f's{i}' for i, name in enumerate(groups)}
  names = figures.teachers(night for run in runs for night in run['nights'])
  names += [s['teacher'] for run in runs for s in run['samples']]
  names = list(dict.fromkeys(names))
  marks = {name: f't{i}' for i, name in enumerate(names)}
  body = ''.join(
    (
      html.section(
        'table',
        'What it knew, learned, kept',
        'Accuracy on frozen probes, asked with an empty context: the mean '
        'over finished seeds ± half its 95 % t-interval. All but forgetting '
        'are better the higher.',
        tables.scores(groups, styles),
      ),
      html.section(
        'retention',
        'Retention',
        'Solid: in the morning, after sleep. Dashed and hollow: in the evening '
        'before it. Thin: single seeds. Dotted: the end of a strategy that '
        'learns all at once.',
        figures.curves(groups, styles),
      ),
      html.section(
        'matrices',
        'Every experience, after every experience',
        'Row i: after experience i, row 0 the newborn. Framed: the experience '
        'just lived. A strategy that forgets fades downward from the frame.',
        figures.matrices(groups, styles),
      ),
      html.section(
        'nights',
        'Inside each night',
        'Divergence of the sleeper from each teacher over the updates of the '
        'night, all nights on one scale. The hollow point stands before the '
        'first update: near 0 there, a teacher had nothing to transfer.',
        figures.nights(groups, styles, marks)
        + night_tables.nights(groups, names),
      ),
      html.section(
        'imitation',
        'What it earns by imitation',
        'Means over the endings that the student wrote in the first and in '
        'the last round of each night. Reward, its two parts and what the '
        'judge measured; lengths in tokens; entropy (its own) and likelihood '
        '(the teacher’s) in nats per token; repetition: share of neighbours '
        'that stood together before. Wanted: what the teacher wrote.',
        night_tables.imitation(groups),
      ),
      html.section(
        'dreams',
        'What it dreams',
        'Means over the rounds of each night of dreams, and those that were '
        'tried: the best six and the worst two. Gain: what learning from a '
        'dream alone does to the practice, in nats per answer token or as a '
        'share of right answers. All dreams stand in dreams.jsonl.',
        dreams.trends(groups, styles) + dreams.dreams(groups),
      ),
      html.section(
        'ledger',
        'Ledger: which night lives in which expert',
        'A bar begins with the night that filled the expert; it fades where '
        'a later night emptied it. A cross marks a discarded night.',
        figures.ledgers(groups, styles),
      ),
      html.section(
        'gates',
        'How far experts open',
        'In the end, on questions about birth and about each experience: the '
        'mean gate of each expert, and the root mean square of what it adds '
        'to the stream. An expert that stays closed on old content has small '
        'numbers left of its own day.',
        night_tables.gates(groups),
      ),
      html.section(
        'samples',
        'What it rehearses',
        'What teachers wrote in the night, after a prompt in grey.',
        night_tables.samples(groups, marks),
      ),
      html.section(
        'cost',
        'Cost',
        'Mean over seeds.',
        tables.costs(groups, styles),
      ),
      html.section(
        'about',
        'Where these numbers come from',
        '',
        html.pairs(about) + html.folded('Resolved config', _config(config)),
      ),
    )
  )
  colours = html.colours(groups, html.STRATEGIES)
  paint = {styles[name]: colour for name, colour in colours.items()}
  colours = html.colours(names, html.TEACHERS)
  paint |= {marks[name]: colour for name, colour in colours.items()}
  head = f'<h1>{html.text(study)}</h1>{_lede(groups)}'
  workdir.write_text(
    workdir.path(path), html.document(study, head + body, paint)
  )


def table(runs: list[Run]) -> str:
  """What each strategy knew, learned and kept, in at most 100 columns."""
  groups = _by_strategy(runs)
  titles = ' '.join(f'{title:>10}' for _, title in COLUMNS)
  lines = [f'{"strategy":11}  n {titles} {"minutes":>8}']
  for name, members in groups.items():
    cells = ' '.join(
      f'{_brief(*cycles.mean_and_interval(tables.values(members, key))):>10}'
      for key, _ in COLUMNS
    )
    seconds, _ = cycles.mean_and_interval(tables.values(members, 'seconds'))
    minutes = '-' if seconds is None else f'{seconds / 60:.1f}'
    label = f'{name[:10]}*' if tables.unfinished(members) else name[:11]
    num = len(tables.counted(members))
    lines.append(f'{label:11} {num:>2} {cells} {minutes:>8}')
  lines += ['', LEGEND]
  if any(tables.unfinished(members) for members in groups.values()):
    lines.append(
      '* some seeds are not finished: those that are, or all so far.'
    )
  return '\n'.join(lines)


def _brief(mean: float | None, half: float | None) -> str:
  """A number for the terminal; zeros before points make room for seeds."""
  if mean is None:
    return '-'
  if half is None:
    return f'{mean:.3f}'
  return re.sub(r'\b0\.', '.', f'{mean:.3f}±{half:.3f}')


def _by_strategy(runs: list[Run]) -> figures.Groups:
  """Runs by strategy, known ones in a fixed order, seeds ascending."""
  names = dict.fromkeys(run['strategy'] for run in runs)
  known = [name for name in html.STRATEGIES if name in names]
  groups: figures.Groups = {name: [] for name in [*known, *names]}
  for run in sorted(runs, key=lambda run: run['seed']):
    groups[run['strategy']].append(run)
  return groups


def _lede(groups: figures.Groups) -> str:
  """The result in a sentence, and how far the runs are."""

  def percent(name: str, key: str) -> str | None:
    mean, _ = cycles.mean_and_interval(tables.values(groups[name], key))
    return None if mean is None else f'{100 * mean:.0f} %'

  said: list[str] = []
  for name, members in groups.items():
    prior, acc = percent(name, 'prior'), percent(name, 'acc')
    if prior is None or acc is None:
      continue
    states = tables.states(members)
    label = f'{name} ({states})' if states else name
    if said:
      said.append(f'{label} {prior} and {acc}')
    else:
      said.append(
        f'{label} has {prior} of its birth probes right (newborn '
        f'{percent(name, "prior_initial")}) and {acc} of what it was taught '
        'since'
      )
  sentence = '; '.join(said)
  runs = [run for members in groups.values() for run in members]
  experiences = max(
    (retention.num_experiences(run['evaluations']) for run in runs), default=0
  )
  waiting = len(tables.unfinished(runs))
  counts = (
    (len(groups), 'strategy', 'strategies'),
    (len({run['seed'] for run in runs}), 'seed', 'seeds'),
    (experiences, 'experience', 'experiences'),
    (len(runs), 'run', 'runs'),
  )
  facts = ', '.join(f'{n} {one if n == 1 else many}' for n, one, many in counts)
  facts += f', {waiting} not finished' if waiting else ', all finished'
  lede = f'<p class="lede">{html.text(sentence)}.</p>' if sentence else ''
  return f'{lede}<p class="muted">{html.text(facts)}</p>'


def _config(config: Any) -> str:
  if not isinstance(config, str):
    config = json.dumps(config, indent=2, default=str)
  return f'<pre>{html.text(config)}</pre>'

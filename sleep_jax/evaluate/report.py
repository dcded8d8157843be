"""The report: one self-contained page of all runs, and a table for a terminal.

It is redrawn after each cycle, so every part stands for itself and is left
out while there is nothing to show: a newborn alone makes a page.
"""

import json
import os
import pathlib
import re
from typing import Any

import numpy as np

from sleep_jax import progress
from sleep_jax.evaluate import figures, page, plots, retention

Run = dict[str, Any]
# Group, [key in a summary, name, meaning].
SCORES = (
  (
    'knew',
    [('prior_newborn', 'newborn', 'birth probes right before day 1')],
  ),
  (
    'learned',
    [
      ('la', 'LA', 'each experience right after it was lived'),
      ('cost_to_new', 'cost to new', 'what a night loses of its own day'),
      ('fwt', 'FWT', 'what earlier experiences did for later ones'),
    ],
  ),
  (
    'kept',
    [
      ('prior', 'prior', 'birth probes right in the end'),
      ('acc', 'ACC', 'all experiences in the end'),
      ('bwt', 'BWT', 'their end less what they were right after learning'),
      ('forgetting', 'forgetting', 'the best they ever were less their end'),
      (
        'harm_of_sleep',
        'harm of cycle',
        'what a day and its night change in what was known before them',
      ),
      ('damage_awake', 'damage awake', 'what the day alone changes in it'),
    ],
  ),
)
COSTS = (
  ('tokens_read', 'tokens read', plots.quantity),
  ('tokens_generated', 'tokens generated', plots.quantity),
  ('steps', 'optimizer steps', plots.quantity),
  ('seconds', 'time', progress.duration),
  ('cpu_seconds', 'processor time', progress.duration),
  ('added_parameters', 'added parameters', plots.quantity),
  ('stored_bytes', 'stored bytes', plots.quantity),
)
# What fits on a terminal: key in a summary, title.
COLUMNS = (
  ('prior_newborn', 'knew'),
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
ORDER = ('sleep', 'hope', 'sft', 'er', 'joint')
UNKNOWN = '<span class="muted">&ndash;</span>'
SAMPLES = 6  # Shown per night; all of them stand in metrics.jsonl.


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
      to say instead).
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
      page.section(
        'table',
        'What it knew, learned, kept',
        'Accuracy on frozen probes, asked with an empty context in wordings '
        'held apart from rehearsal: the mean over seeds ± half its 95 % '
        't-interval. Differences are better the higher; forgetting the lower.',
        _scores(groups, styles),
      ),
      page.section(
        'retention',
        'Retention',
        'Solid: in the morning, after sleep. Dashed and hollow: in the evening '
        'before it. Thin: single seeds. Dotted: the end of a strategy that '
        'learns all at once.',
        figures.curves(groups, styles),
      ),
      page.section(
        'matrices',
        'Every experience, after every experience',
        'Row i: after experience i, row 0 the newborn. Framed: the experience '
        'just lived. A strategy that forgets fades downward from the frame.',
        figures.matrices(groups, styles),
      ),
      page.section(
        'nights',
        'Inside each night',
        'Divergence of the sleeper from each teacher over the updates of the '
        'night, all nights on one scale. The hollow point stands before the '
        'first update: near 0 there, a teacher had nothing to transfer.',
        figures.nights(groups, styles, marks) + _nights(groups, names),
      ),
      page.section(
        'ledger',
        'Ledger: which night lives in which expert',
        'A bar begins with the night that filled the expert; it fades where '
        'a later night emptied it. A cross marks a discarded night.',
        figures.ledgers(groups, styles),
      ),
      page.section(
        'samples',
        'What it rehearses',
        'What teachers wrote in the night, after a prompt in grey. No prompt '
        'holds an answer.',
        _samples(groups, marks),
      ),
      page.section(
        'cost',
        'Cost',
        'Mean over seeds. Evaluation is not counted.',
        _costs(groups, styles),
      ),
      page.section(
        'about',
        'Where these numbers come from',
        '',
        page.pairs(about) + page.folded('Resolved config', _config(config)),
      ),
    )
  )
  colours = page.colours(groups, page.STRATEGIES)
  paint = {styles[name]: colour for name, colour in colours.items()}
  colours = page.colours(names, page.TEACHERS)
  paint |= {marks[name]: colour for name, colour in colours.items()}
  head = f'<h1>{page.text(study)}</h1>{_lede(groups)}'
  path = pathlib.Path(path)
  new = path.with_name(path.name + '.new')
  new.write_text(page.document(study, head + body, paint), encoding='utf-8')
  new.replace(path)


def table(runs: list[Run]) -> str:
  """What each strategy knew, learned and kept, in at most 100 columns."""
  groups = _by_strategy(runs)
  titles = ' '.join(f'{title:>10}' for _, title in COLUMNS)
  lines = [f'{"strategy":10}  n {titles} {"minutes":>8}']
  for name, members in groups.items():
    cells = ' '.join(
      f'{_brief(*retention.spread(_values(members, key))):>10}'
      for key, _ in COLUMNS
    )
    seconds, _ = retention.spread(_values(members, 'seconds'))
    minutes = '-' if seconds is None else f'{seconds / 60:.1f}'
    label = f'{name[:9]}*' if _unfinished(members) else name[:10]
    lines.append(f'{label:10} {len(members):>2} {cells} {minutes:>8}')
  lines += ['', LEGEND]
  if any(_unfinished(members) for members in groups.values()):
    lines.append('* under way or stopped: experiences finished so far.')
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
  known = [name for name in ORDER if name in names]
  groups = {name: [] for name in [*known, *names]}
  for run in sorted(runs, key=lambda run: run['seed']):
    groups[run['strategy']].append(run)
  return groups


def _values(members: list[Run], key: str) -> list[float | None]:
  return [run['summary'].get(key) for run in members]


def _unfinished(members: list[Run]) -> list[Run]:
  return [run for run in members if run['status'] != 'finished']


def _lede(groups: figures.Groups) -> str:
  """The result in a sentence, and how far the runs are."""

  def percent(name: str, key: str) -> str | None:
    mean, _ = retention.spread(_values(groups[name], key))
    return None if mean is None else f'{100 * mean:.0f} %'

  said = []
  for name in groups:
    prior, acc = percent(name, 'prior'), percent(name, 'acc')
    if prior and acc and not said:
      newborn = percent(name, 'prior_newborn')
      said.append(
        f'{name} ends with {prior} of its birth probes right (newborn '
        f'{newborn}) and {acc} of what it was taught since'
      )
    elif prior and acc:
      said.append(f'{name} {prior} and {acc}')
  sentence = '; '.join(said)
  runs = [run for members in groups.values() for run in members]
  experiences = max(
    (retention.num_experiences(run['evaluations']) for run in runs), default=0
  )
  waiting = len(_unfinished(runs))
  counts = (
    (len(groups), 'strategy', 'strategies'),
    (len({run['seed'] for run in runs}), 'seed', 'seeds'),
    (experiences, 'experience', 'experiences'),
    (len(runs), 'run', 'runs'),
  )
  facts = ', '.join(f'{n} {one if n == 1 else many}' for n, one, many in counts)
  facts += f', {waiting} not finished' if waiting else ', all finished'
  lede = f'<p class="lede">{page.text(sentence)}.</p>' if sentence else ''
  return f'{lede}<p class="muted">{page.text(facts)}</p>'


def _name(members: list[Run], style: str, name: str) -> str:
  """A strategy's cell: colour, name, and what is not finished."""
  states = sorted({run['status'] for run in _unfinished(members)})
  note = f' <span class="status">{page.text(", ".join(states))}</span>'
  return page.chip(style, name) + (note if states else '')


def _number(value: float | None, half: float | None) -> str:
  if value is None:
    return UNKNOWN
  return plots.signed(value, 3) + (
    '' if half is None else f'<small>± {half:.3f}</small>'
  )


def _time(members: list[Run]) -> str:
  seconds, _ = retention.spread(_values(members, 'seconds'))
  return UNKNOWN if seconds is None else progress.duration(seconds)


def _scores(groups: figures.Groups, styles: figures.Styles) -> str:
  head = [('', ['strategy', 'seeds'])]
  head += [(group, [name for _, name, _ in items]) for group, items in SCORES]
  head += [('spent', ['time'])]
  keys = [key for _, items in SCORES for key, _, _ in items]
  rows = [
    [
      _name(members, styles[name], name),
      str(len(members)),
      *(_number(*retention.spread(_values(members, key))) for key in keys),
      _time(members),
    ]
    for name, members in groups.items()
  ]
  meanings = {
    name: meaning for _, items in SCORES for _, name, meaning in items
  }
  return (
    page.table(head, rows)
    + page.folded('What the columns mean', page.pairs(meanings))
    + page.folded(
      'In the wordings of the rehearsal stems', _stem_scores(groups, styles)
    )
  )


def _stem_scores(groups: figures.Groups, styles: figures.Styles) -> str:
  """Prior and ACC asked as the self-study stems ask, where that was done."""
  rows = []
  for name, members in groups.items():
    ends = [run['evaluations'][-1] for run in members if run['evaluations']]
    prior = [retention.score(end, 'birth', 'stem_scores') for end in ends]
    acc = [
      retention.acc(retention.r_matrix(run['evaluations'], 'stem_scores'))
      for run in members
    ]
    cells = [_number(*retention.spread(v)) for v in (prior, acc)]
    if not np.isnan(prior).all():
      rows.append([page.chip(styles[name], name), *cells])
  head = [('', ['strategy', 'prior', 'ACC'])]
  return page.table(head, rows) if rows else ''


def _nights(groups: figures.Groups, teachers: list[str]) -> str:
  """Every night in words and numbers, folded."""
  rows = []
  runs = [run for members in groups.values() for run in members]
  for run in runs:
    for night in run['nights']:
      last = night['divergence'][-1] if night['divergence'] else {}
      change = [
        f'{_short(night["divergence_at_0"].get(t))} → {_short(last.get(t))}'
        for t in teachers
      ]
      guard = night.get('guard') or {}
      rows.append(
        [
          page.text(f'{run["strategy"]}, seed {run["seed"]}'),
          page.text(night['night']),
          page.text(
            f'{night["sender"]} → {night["receiver"]}, expert {night["slot"]}'
          ),
          *map(page.text, change),
          page.text(progress.duration(night['seconds'])),
          page.text('kept' if night['accepted'] else 'discarded'),
          f'<td class="words">{page.text(night["reason"] or "")} '
          + page.text(', '.join(f'{k} {_short(v)}' for k, v in guard.items()))
          + '</td>',
        ]
      )
  names = [f'D({t}), start → end' for t in teachers]
  head = ['run', 'night', 'levels', *names, 'took', 'outcome', 'why, guard']
  return (
    page.folded('All nights', page.table([('', head)], rows)) if rows else ''
  )


def _short(value: Any) -> str:
  if isinstance(value, float):
    return plots.short(value, 3)
  return '?' if value is None else str(value)


def _samples(groups: figures.Groups, marks: figures.Styles) -> str:
  """A few rehearsals of each night of the first seed; the last is open."""
  parts = ''
  for name, members in groups.items():
    run = members[0]
    nights: dict[int, list[dict[str, Any]]] = {}
    for sample in run['samples']:
      nights.setdefault(sample['night'], []).append(sample)
    title = f'{name}, seed {run["seed"]}, night '
    shown = [
      f'<h3>{page.text(title)}{night}</h3>'
      + ''.join(_sample(sample, marks) for sample in nights[night][:SAMPLES])
      for night in sorted(nights)
    ]
    if shown:
      parts += shown[-1] + page.folded('Earlier nights', ''.join(shown[:-1]))
  return parts


def _sample(sample: dict[str, Any], marks: figures.Styles) -> str:
  prompt = sample['prompt']
  text = sample['text'].removeprefix(prompt)
  return (
    f'<div class="sample {marks[sample["teacher"]]}">'
    f'<b>{page.text(sample["teacher"])}</b>'
    f'<span class="prompt">{page.text(prompt or "(no prompt) ")}</span>'
    f'{page.text(text)}</div>'
  )


def _costs(groups: figures.Groups, styles: figures.Styles) -> str:
  means = {
    (name, key): retention.spread(_values(members, key))[0]
    for name, members in groups.items()
    for key, _, _ in COSTS
  }
  rows = []
  for name in groups:
    cells = [page.chip(styles[name], name)]
    for key, _, form in COSTS:
      most = max((means[n, key] or 0 for n in groups), default=0)
      value = means[name, key]
      wide = 100 * (value or 0) / (most or 1)
      meter = f'<div class="meter" style="width:{wide:.0f}%"></div>'
      shown = UNKNOWN if value is None else page.text(form(value))
      cells.append(f'<td class="cost {styles[name]}">{shown}{meter}</td>')
    rows.append(cells)
  return page.table([('', ['strategy', *(c[1] for c in COSTS)])], rows)


def _config(config: Any) -> str:
  if not isinstance(config, str):
    config = json.dumps(config, indent=2, default=str)
  return f'<pre>{page.text(config)}</pre>'

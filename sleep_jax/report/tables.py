"""Tables: what `report` says in numbers and words, as markup.

Runs of one strategy make one row, the mean over seeds. A seed that is not
finished does not compare with one that is: it counts only while none is.
"""

from typing import Any

from sleep_jax.evaluate import cycles, retention
from sleep_jax.report import figures, html, svg, text_format

# Group, [key in a summary, name, meaning].
SCORES = (
  (
    'knew',
    [('prior_initial', 'initial', 'birth probes right before day 1')],
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
  ('tokens_read', 'tokens read', svg.quantity),
  ('tokens_generated', 'tokens generated', svg.quantity),
  ('steps', 'optimizer steps', svg.quantity),
  ('seconds', 'time', text_format.duration),
  ('cpu_seconds', 'processor time', text_format.duration),
  ('added_parameters', 'added parameters', svg.quantity),
  ('stored_bytes', 'stored bytes', svg.quantity),
)
UNKNOWN = '<span class="muted">&ndash;</span>'


def values(members: list[figures.Run], key: str) -> list[float | None]:
  """One number of every run that counts."""
  return [run['summary'].get(key) for run in counted(members)]


def counted(members: list[figures.Run]) -> list[figures.Run]:
  """The finished runs, which alone compare; all while none is finished."""
  return [run for run in members if run['status'] == 'finished'] or members


def unfinished(members: list[figures.Run]) -> list[figures.Run]:
  """The runs that are under way or stopped."""
  return [run for run in members if run['status'] != 'finished']


def states(members: list[figures.Run]) -> str:
  """What is said of the runs that count, where they are not finished."""
  return ', '.join(sorted({r['status'] for r in unfinished(counted(members))}))


def _name(members: list[figures.Run], style: str, name: str) -> str:
  """A strategy's cell: colour, name, and what is not finished."""
  note = f'<small class="status">{html.text(states(members))}</small>'
  return html.chip(style, name) + (note if states(members) else '')


def _number(value: float | None, half: float | None) -> str:
  if value is None:
    return UNKNOWN
  return svg.signed(value, 3) + (
    '' if half is None else f'<small>± {half:.3f}</small>'
  )


def _seeds(members: list[figures.Run]) -> str:
  some, every = len(counted(members)), len(members)
  return str(every) if some == every else f'{some} of {every}'


def _time(members: list[figures.Run]) -> str:
  seconds, _ = cycles.mean_and_interval(values(members, 'seconds'))
  return UNKNOWN if seconds is None else text_format.duration(seconds)


def scores(groups: figures.Groups, styles: figures.Styles) -> str:
  """What each strategy knew, learned, kept and spent."""
  head = [('', ['strategy', 'seeds'])]
  head += [(group, [name for _, name, _ in items]) for group, items in SCORES]
  head += [('spent', ['time'])]
  keys = [key for _, items in SCORES for key, _, _ in items]
  rows = [
    [
      _name(members, styles[name], name),
      _seeds(members),
      *(_number(*cycles.mean_and_interval(values(members, key))) for key in keys),
      _time(members),
    ]
    for name, members in groups.items()
  ]
  meanings = {
    name: meaning for _, items in SCORES for _, name, meaning in items
  }
  return (
    html.table(head, rows)
    + html.folded('What the columns mean', html.pairs(meanings))
    + html.folded('Further numbers', _further(groups, styles))
  )


def _further(groups: figures.Groups, styles: figures.Styles) -> str:
  """Prior and ACC in the wordings of the stems, and the slope of the prior."""
  rows = []
  for name, members in groups.items():
    records = [run['evaluations'] for run in counted(members)]
    columns = (
      [_template_prior(record) for record in records],
      [
        retention.acc(retention.r_matrix(record, 'template_scores'))
        for record in records
      ],
      [cycles.prior_slope(record) for record in records],
    )
    cells = [_number(*cycles.mean_and_interval(column)) for column in columns]
    rows.append([html.chip(styles[name], name), *cells])
  head = [
    ('', ['strategy']),
    ('asked as rehearsal asks', ['prior', 'ACC']),
    ('slope', ['prior per cycle']),
  ]
  return html.table(head, rows)


def _template_prior(evaluations: list[dict[str, Any]]) -> float | None:
  if not evaluations:
    return None
  return cycles.get_score(evaluations[-1], 'pretrain', 'template_scores')


def costs(groups: figures.Groups, styles: figures.Styles) -> str:
  """What each strategy spent, with a meter against who spent most."""
  means = {
    (name, key): cycles.mean_and_interval(values(members, key))[0]
    for name, members in groups.items()
    for key, _, _ in COSTS
  }
  rows = []
  for name in groups:
    cells = [html.chip(styles[name], name)]
    for key, _, form in COSTS:
      most = max((means[n, key] or 0 for n in groups), default=0)
      value = means[name, key]
      wide = 100 * (value or 0) / (most or 1)
      meter = f'<div class="meter" style="width:{wide:.0f}%"></div>'
      shown = UNKNOWN if value is None else html.text(form(value))
      cells.append(f'<td class="cost {styles[name]}">{shown}{meter}</td>')
    rows.append(cells)
  return html.table([('', ['strategy', *(c[1] for c in COSTS)])], rows)

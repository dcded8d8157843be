"""Tables: what `report` says in numbers and words, as markup.

Runs of one strategy make one row, the mean over seeds. A seed that is not
finished does not compare with one that is: it counts only while none is.
"""

from typing import Any

from sleep_jax import progress
from sleep_jax.evaluate import figures, page, plots, retention

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
UNKNOWN = '<span class="muted">&ndash;</span>'
SAMPLES = 6  # Shown per night; all of them stand in metrics.jsonl.


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
  note = f'<small class="status">{page.text(states(members))}</small>'
  return page.chip(style, name) + (note if states(members) else '')


def _number(value: float | None, half: float | None) -> str:
  if value is None:
    return UNKNOWN
  return plots.signed(value, 3) + (
    '' if half is None else f'<small>± {half:.3f}</small>'
  )


def _seeds(members: list[figures.Run]) -> str:
  some, every = len(counted(members)), len(members)
  return str(every) if some == every else f'{some} of {every}'


def _time(members: list[figures.Run]) -> str:
  seconds, _ = retention.spread(values(members, 'seconds'))
  return UNKNOWN if seconds is None else progress.duration(seconds)


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
      *(_number(*retention.spread(values(members, key))) for key in keys),
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
    + page.folded('Further numbers', _further(groups, styles))
  )


def _further(groups: figures.Groups, styles: figures.Styles) -> str:
  """Prior and ACC in the wordings of the stems, and the slope of the prior."""
  rows = []
  for name, members in groups.items():
    records = [run['evaluations'] for run in counted(members)]
    columns = (
      [_stem_prior(record) for record in records],
      [
        retention.acc(retention.r_matrix(record, 'stem_scores'))
        for record in records
      ],
      [retention.prior_slope(record) for record in records],
    )
    cells = [_number(*retention.spread(column)) for column in columns]
    rows.append([page.chip(styles[name], name), *cells])
  head = [
    ('', ['strategy']),
    ('asked as rehearsal asks', ['prior', 'ACC']),
    ('slope', ['prior per cycle']),
  ]
  return page.table(head, rows)


def _stem_prior(evaluations: list[dict[str, Any]]) -> float | None:
  if not evaluations:
    return None
  return retention.score(evaluations[-1], 'birth', 'stem_scores')


def nights(groups: figures.Groups, teachers: list[str]) -> str:
  """Every night in words and numbers, folded."""
  rows = []
  runs = [run for members in groups.values() for run in members]
  for run in runs:
    for night in run['nights']:
      last = night['divergence'][-1] if night['divergence'] else {}
      change = [
        f'{short(night["divergence_at_0"].get(t))} → {short(last.get(t))}'
        for t in teachers
      ]
      guard = night.get('guard') or {}
      rows.append(
        [
          page.text(f'{run["strategy"]}, seed {run["seed"]}'),
          page.text(night['night']),
          page.text(_whither(night)),
          *map(page.text, change),
          page.text(progress.duration(night['seconds'])),
          page.text('kept' if night['accepted'] else 'discarded'),
          f'<td class="words">{page.text(night["reason"] or "")} '
          + page.text(', '.join(f'{k} {short(v)}' for k, v in guard.items()))
          + '</td>',
        ]
      )
  names = [f'D({t}), start → end' for t in teachers]
  head = ['run', 'night', 'levels', *names, 'took', 'outcome', 'why, guard']
  return (
    page.folded('All nights', page.table([('', head)], rows)) if rows else ''
  )


def _whither(night: dict[str, Any]) -> str:
  """From which level a night went into which expert."""
  if night.get('phase') == 'edit':
    return 'all weights'
  return f'{night["sender"]} → {night["receiver"]}, expert {night["slot"]}'


def imitation(groups: figures.Groups) -> str:
  """What students earned for ending texts as their teachers did, by night."""
  keys: dict[str, None] = {}
  rows = []
  runs = [run for members in groups.values() for run in members]
  earned = [
    (run, night, night['imitation'])
    for run in runs
    for night in run['nights']
    if night.get('imitation')
  ]
  for _, _, rounds in earned:
    keys |= dict.fromkeys(key for key in rounds[0] if key != 'update')
  for run, night, rounds in earned:
    first, last = rounds[0], rounds[-1]
    rows.append([
      page.text(f'{run["strategy"]}, seed {run["seed"]}'),
      page.text(night['night']),
      *(
        page.text(f'{short(first.get(key))} → {short(last.get(key))}')
        for key in keys
      ),
    ])  # fmt: skip
  names = [key.replace('_', ', ') for key in keys]
  return page.table([('', ['run', 'night', *names])], rows) if rows else ''


def gates(groups: figures.Groups) -> str:
  """How far each expert opens on the questions of each day, in the end."""
  parts = ''
  for members in groups.values():
    for run in members:
      found = run['evaluations'][-1].get('gates') if run['evaluations'] else {}
      for level, sets in (found or {}).items():
        names = [name for name in sets if name != 'slots']
        rows = [
          [
            page.text(f'{run["strategy"]}, seed {run["seed"]}'),
            page.text(f'{level}, expert {slot}'),
            *(
              page.text(
                f'{sets[n]["gate"][place]:.2f} · {sets[n]["adds"][place]:.2g}'
              )
              for n in names
            ),
          ]
          for place, slot in enumerate(sets['slots'])
        ]
        parts += page.table([('', ['run', 'level', *names])], rows)
  return parts


def short(value: Any) -> str:
  if isinstance(value, float):
    return plots.short(value, 3)
  return '?' if value is None else str(value)


def samples(groups: figures.Groups, marks: figures.Styles) -> str:
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


def costs(groups: figures.Groups, styles: figures.Styles) -> str:
  """What each strategy spent, with a meter against who spent most."""
  means = {
    (name, key): retention.spread(values(members, key))[0]
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

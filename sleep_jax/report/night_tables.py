"""TODO: report.night_tables (from evaluate.tables)."""

from typing import Any

from sleep_jax.report import figures, html, svg, text_format

SAMPLES = 6  # Shown per night; all of them stand in metrics.jsonl.


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
          html.text(f'{run["strategy"]}, seed {run["seed"]}'),
          html.text(night['night']),
          html.text(_receiver(night)),
          *map(html.text, change),
          html.text(text_format.duration(night['seconds'])),
          html.text('kept' if night['accepted'] else 'discarded'),
          f'<td class="words">{html.text(night["reason"] or "")} '
          + html.text(', '.join(f'{k} {short(v)}' for k, v in guard.items()))
          + '</td>',
        ]
      )
  names = [f'D({t}), start → end' for t in teachers]
  head = ['run', 'night', 'levels', *names, 'took', 'outcome', 'why, guard']
  return (
    html.folded('All nights', html.table([('', head)], rows)) if rows else ''
  )


def _receiver(night: dict[str, Any]) -> str:
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
      html.text(f'{run["strategy"]}, seed {run["seed"]}'),
      html.text(night['night']),
      *(
        html.text(f'{short(first.get(key))} → {short(last.get(key))}')
        for key in keys
      ),
    ])  # fmt: skip
  names = [key.replace('_', ', ') for key in keys]
  return html.table([('', ['run', 'night', *names])], rows) if rows else ''


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
            html.text(f'{run["strategy"]}, seed {run["seed"]}'),
            html.text(f'{level}, expert {slot}'),
            *(
              html.text(
                f'{sets[n]["gate"][place]:.2f} · {sets[n]["adds"][place]:.2g}'
              )
              for n in names
            ),
          ]
          for place, slot in enumerate(sets['slots'])
        ]
        parts += html.table([('', ['run', 'level', *names])], rows)
  return parts


def short(value: Any) -> str:
  if isinstance(value, float):
    return svg.short(value, 3)
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
      f'<h3>{html.text(title)}{night}</h3>'
      + ''.join(_sample(sample, marks) for sample in nights[night][:SAMPLES])
      for night in sorted(nights)
    ]
    if shown:
      parts += shown[-1] + html.folded('Earlier nights', ''.join(shown[:-1]))
  return parts


def _sample(sample: dict[str, Any], marks: figures.Styles) -> str:
  prompt = sample['prompt']
  text = sample['text'].removeprefix(prompt)
  return (
    f'<div class="sample {marks[sample["teacher"]]}">'
    f'<b>{html.text(sample["teacher"])}</b>'
    f'<span class="prompt">{html.text(prompt or "(no prompt) ")}</span>'
    f'{html.text(text)}</div>'
  )

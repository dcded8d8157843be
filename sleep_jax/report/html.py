"""The report's paper and ink: colours, style sheet, tables; no numbers.

Each strategy has one colour wherever it appears, light and dark. Everything
that comes from a run passes `text`, so no prompt can become markup.
"""

import html
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

# Name -> colour on light paper, colour on dark paper.
STRATEGIES = {
  'sleep': ('#4340c4', '#a9abff'),
  'hope': ('#0a7f7a', '#4fd0c6'),
  'sft': ('#c8471a', '#ff9b70'),
  'er': ('#876500', '#e6c04d'),
  'seal': ('#9c2f6f', '#f08fc4'),
  'joint_wake': ('#6b717d', '#a9afbb'),
  'joint_night': ('#3d434d', '#d3d8e0'),
}
TEACHERS = {
  'anchor': ('#2b6a99', '#7fc0ee'),
  'next': ('#c4356b', '#ff8db4'),
  'now': ('#76588f', '#c9a8e6'),
  'context': ('#4c7f2f', '#9ed47c'),
}
SPARE = (
  ('#ad2f86', '#ff8fd4'),
  ('#2f7d32', '#84d588'),
  ('#1f6fb2', '#7dbcf2'),
  ('#8a5a3c', '#d8a98b'),
  ('#55606e', '#bac3cf'),
)
_STYLE = """
:root{color-scheme:light dark;--paper:#f7f7f5;--card:#fff;--ink:#1b1e25;
--muted:#646b78;--faint:#e4e6ea;--heat:#1d4e89;--on-heat:#fff;--bad:#b3261e}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:36px 24px 80px}
h1{font-size:27px;line-height:1.2;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:18px;margin:0 0 2px}
h3{font-size:14px;margin:18px 0 6px}
p{margin:0 0 10px;max-width:76ch}
.lede{font-size:17px;margin:14px 0 4px}
.muted,.caption{color:var(--muted)}
.caption{font-size:13.5px;margin-bottom:14px}
section{background:var(--card);border:1px solid var(--faint);border-radius:8px;
padding:20px 22px;margin:0 0 18px;overflow-x:auto}
.row{display:flex;flex-wrap:wrap;gap:22px 20px;align-items:flex-start}
.row+.row{margin-top:22px}
figure{margin:0}
figcaption{font-weight:600;font-size:14px;margin-bottom:6px}
figcaption .muted{font-weight:400}
.chip{display:inline-block;width:10px;height:10px;border-radius:3px;
background:var(--c);margin-right:7px}
table{border-collapse:collapse;font-size:13.5px;
font-variant-numeric:tabular-nums}
th,td{padding:5px 10px;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}
th{font-weight:500;color:var(--muted);font-size:12.5px}
thead tr:last-child th{border-bottom:1px solid var(--muted)}
thead .group{text-align:left;font-weight:600;color:var(--ink);
padding-bottom:0}
td+td.first,th+th.first,th.group+th.group{border-left:1px solid var(--faint)}
tbody td{border-bottom:1px solid var(--faint)}
tbody td:first-child{font-weight:600}
td.words{text-align:left;white-space:normal}
td small{display:block;line-height:1.2;color:var(--muted);font-size:11.5px}
td .meter{height:4px;border-radius:2px;background:var(--c);margin:3px 0 0 auto}
td.cost{min-width:112px}
td small.status{font-weight:400;color:var(--bad);margin-left:17px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 18px;margin:8px 0;
font-size:13.5px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
details{margin-top:12px}summary{cursor:pointer;color:var(--muted);
font-size:13.5px}
pre{font-size:12.5px;line-height:1.45;white-space:pre-wrap;
overflow-wrap:anywhere}
.sample{border-left:3px solid var(--c);padding:1px 0 1px 11px;margin:9px 0;
font-size:13.5px;white-space:pre-wrap;overflow-wrap:anywhere;max-width:96ch}
.sample b{font-weight:600;font-size:12px;color:var(--c);margin-right:8px}
.sample .prompt{color:var(--muted)}
.keys{font-weight:400;margin-left:18px}.key{margin:0 8px;white-space:nowrap}
svg{display:block;font-family:inherit;overflow:visible}
svg text{fill:var(--ink)}
.title{font-size:13.5px;font-weight:600}
.tick,.night{font-size:11px}svg .tick{fill:var(--muted)}
.night{font-weight:600}
svg .name{font-size:12.5px;font-weight:600;fill:var(--c);paint-order:stroke;
stroke:var(--card);stroke-width:3px}
svg .soft{font-weight:400}
svg .bad{font-size:11px;fill:var(--bad)}
line,polyline{fill:none;vector-effect:non-scaling-stroke}
.grid{stroke:var(--faint)}.zero{stroke:var(--muted);opacity:.7}
.seed{stroke:var(--c);opacity:.28}
.stem{stroke:var(--c);opacity:.35}
.morning{stroke:var(--c);stroke-width:2.2}
.evening{stroke:var(--c);stroke-width:1.3;stroke-dasharray:4 3}
.bound{stroke:var(--c);stroke-width:1.6;stroke-dasharray:1 4;
stroke-linecap:round}
.teacher{stroke:var(--c);stroke-width:1.5}
.solid{fill:var(--c)}
.hollow{fill:var(--card);stroke:var(--c);stroke-width:1.4}
.heat{fill:var(--heat)}
svg .cell.high{fill:var(--on-heat)}
.cell{font-variant-numeric:tabular-nums}
.frame{fill:none;stroke:var(--ink);stroke-width:1.2}
.bar{fill:var(--c)}.gone{opacity:.35}
.inside{font-size:10.5px}svg .on.bar{fill:var(--card)}
"""
_DARK = """--paper:#121419;--card:#1a1d23;--ink:#e7e9ee;--muted:#9ca4b1;
--faint:#2e333c;--heat:#8cc4ff;--on-heat:#10141b;--bad:#ff8a80"""


def document(title: str, body: str, styles: dict[str, tuple[str, str]]) -> str:
  """A whole page; `styles` maps a class to its light and dark colour."""
  light = ''.join(f'.{k}{{--c:{c[0]}}}' for k, c in styles.items())
  dark = ''.join(f'.{k}{{--c:{c[1]}}}' for k, c in styles.items())
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f'<title>{text(title)}</title><style>{_STYLE}{light}'
    f'@media(prefers-color-scheme:dark){{:root{{{_DARK}}}{dark}}}'
    f'</style></head><body><main>\n{body}\n</main></body></html>\n'
  )


def colours(
  names: Iterable[str], known: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
  """Name -> colours: its own if it has some, else spare ones in order."""
  spare = itertools.cycle(SPARE)
  return {name: known.get(name) or next(spare) for name in names}


def text(value: Any) -> str:
  """Anything as text that is no markup."""
  return html.escape(str(value))


def section(key: str, title: str, caption: str, body: str) -> str:
  """A card with a heading; '' where there is nothing in it."""
  if not body:
    return ''
  return (
    f'<section id="{key}"><h2>{text(title)}</h2>'
    f'<p class="caption">{text(caption)}</p>{body}</section>\n'
  )


def figure(drawing: str, caption: str = '') -> str:
  """A drawing with a caption above it; the caption is markup."""
  if not drawing:
    return ''
  above = f'<figcaption>{caption}</figcaption>' if caption else ''
  return f'<figure>{above}{drawing}</figure>'


def row(figures: Sequence[str]) -> str:
  """Figures side by side."""
  shown = ''.join(figures)
  return f'<div class="row">{shown}</div>' if shown else ''


def chip(style: str, name: str, note: str = '') -> str:
  """A name with its colour before it."""
  after = f' <span class="muted">{text(note)}</span>' if note else ''
  return f'<span class="{style}"><i class="chip"></i></span>{text(name)}{after}'


def folded(title: str, body: str) -> str:
  """A part that opens on demand; '' where there is nothing in it."""
  if not body:
    return ''
  return f'<details><summary>{text(title)}</summary>{body}</details>'


def table(
  head: Sequence[tuple[str, Sequence[str]]], rows: Sequence[Sequence[str]]
) -> str:
  """A table of markup cells.

  Args:
    head: groups of columns, (name, column names); a group without a name has
      no line above it.
    rows: cells, or whole `<td>` elements.
  """
  firsts, place = set(), 0
  groups = names = ''
  for group, columns in head:
    groups += f'<th class="group" colspan="{len(columns)}">{text(group)}</th>'
    firsts.add(place)
    for name in columns:
      mark = ' class="first"' if place in firsts and group else ''
      names += f'<th{mark}>{text(name)}</th>'
      place += 1
  above = f'<tr>{groups}</tr>' if any(group for group, _ in head) else ''
  cells = ''
  for one in rows:
    cells += '<tr>'
    for i, cell in enumerate(one):
      mark = ' class="first"' if i in firsts and above else ''
      cells += cell if cell.startswith('<td') else f'<td{mark}>{cell}</td>'
    cells += '</tr>'
  return (
    f'<table><thead>{above}<tr>{names}</tr></thead>'
    f'<tbody>{cells}</tbody></table>'
  )


def pairs(items: dict[str, Any]) -> str:
  """Names and values, nested names joined by a space."""
  flat: dict[str, Any] = {}
  for name, value in items.items():
    if isinstance(value, dict):
      flat.update({f'{name} {k}': v for k, v in value.items()})
    else:
      flat[name] = value
  lines = (f'<dt>{text(k)}</dt><dd>{text(v)}</dd>' for k, v in flat.items())
  return f'<dl>{"".join(lines)}</dl>' if flat else ''

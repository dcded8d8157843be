"""Writes the report of a study: one self-contained page, and a printed table.

The page is written again after each cycle, so a section is left out while
there is nothing to show. It can be drawn for an initial model alone.
"""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from sleep_jax.evaluate import cycles, retention
from sleep_jax.report import (
  ability,
  day_names,
  day_tables,
  dreams,
  figures,
  html,
  many_nights,
  night_tables,
  tables,
  terminal,
)
from sleep_jax.storage import workdir

Run = dict[str, Any]
_SAMPLES = 6  # Shown per night; metrics.jsonl has all of them.


def summaries(runs: list[Run]) -> dict[str, list[dict[str, Any]]]:
  """Returns the summaries of the finished runs, for `summary.json`.

  'joint' is the better of the `joint_` strategies by final accuracy; each of
  them is also listed under its own name.
  """
  by_name: dict[str, list[dict[str, Any]]] = {}
  for run in runs:
    if run['status'] == 'finished':
      by_name.setdefault(run['strategy'], []).append(run['summary'])
  budgets = [name for name in by_name if name.startswith('joint_')]
  if budgets:
    mean = lambda name: cycles.mean_and_interval(
      r['acc'] for r in by_name[name]
    )[0]
    by_name['joint'] = by_name[max(budgets, key=lambda n: mean(n) or 0.0)]
  return by_name


def write(
  runs: list[Run],
  path: str | os.PathLike[str],
  *,
  study: str,
  config: Any,
  about: dict[str, Any],
  days: Sequence[Mapping[str, Any]] = (),
) -> None:
  """Writes the page atomically, so a reader never sees a part of it.

  Args:
    runs: one dict per strategy and seed: 'strategy', 'seed', 'evaluations',
      'nights', 'ledger' (the expert history), 'summary', 'samples', 'status'
      ('finished' or how far the run is), 'days' (names of the experiences in
      order, if known), and 'dreams' where there are any.
    path: the file.
    study: the title of the page.
    config: the resolved config, as text or as a value for JSON.
    about: provenance: seed, versions, revision, command.
    days: how much of each day is read, see `runs.coverage.rows`.
  """
  groups = _by_strategy(runs)
  styles = {name: f's{i}' for i, name in enumerate(groups)}
  teachers = figures.teachers(night for run in runs for night in run['nights'])
  teachers += [s['teacher'] for run in runs for s in run['samples']]
  teachers = list(dict.fromkeys(teachers))
  teacher_styles = {name: f't{i}' for i, name in enumerate(teachers)}
  colours = html.colours(groups, html.STRATEGIES)
  colours = {styles[name]: pair for name, pair in colours.items()}
  for name, pair in html.colours(teachers, html.TEACHERS).items():
    colours[teacher_styles[name]] = pair
  if not isinstance(config, str):
    config = json.dumps(config, indent=2, default=str)
  page = html.render(
    study=study,
    groups=groups,
    colours=colours,
    lede=_result(groups),
    counts=_counts(groups),
    scores=tables.scores(groups, styles),
    meanings=tables.meanings(groups),
    further=tables.further(groups, styles),
    ability=ability.table(groups, styles),
    mornings=ability.mornings(groups),
    curves=figures.curves(groups, styles),
    matrices=figures.matrices(groups, styles),
    nights=figures.nights(groups, styles, teacher_styles),
    all_nights=night_tables.nights(groups, teachers),
    imitation=night_tables.imitation(groups),
    dream_trends=dreams.trends(groups, styles),
    select_dreams=dreams.select,
    many_nights=many_nights.curves(groups, styles),
    experts=figures.expert_histories(groups, styles),
    gates=night_tables.gates(groups),
    teacher_styles=teacher_styles,
    night_name=day_names.night,
    samples_per_night=_SAMPLES,
    days=day_tables.days(days),
    costs=tables.costs(groups, styles),
    about=_flatten(about),
    config=config,
  )
  workdir.write_text(workdir.path(path), page)


def table(runs: list[Run]) -> str:
  """Returns the results of each strategy as a table for the terminal."""
  return terminal.table(_by_strategy(runs))


def _by_strategy(runs: list[Run]) -> figures.Groups:
  """Returns runs by strategy, known ones in a fixed order, seeds ascending."""
  names = dict.fromkeys(run['strategy'] for run in runs)
  known = [name for name in html.STRATEGIES if name in names]
  groups: figures.Groups = {name: [] for name in [*known, *names]}
  for run in sorted(runs, key=lambda run: run['seed']):
    groups[run['strategy']].append(run)
  return groups


def _result(groups: figures.Groups) -> str:
  """Returns the main result as a sentence, or '' without results."""

  def percent(name: str, key: str) -> str | None:
    mean, _ = cycles.mean_and_interval(tables.values(groups[name], key))
    return None if mean is None else f'{100 * mean:.0f} %'

  parts: list[str] = []
  for name, runs in groups.items():
    prior, final = percent(name, 'prior'), percent(name, 'acc')
    if prior is None or final is None:
      continue
    status = tables.statuses(runs)
    label = f'{name} ({status})' if status else name
    if parts:
      parts.append(f'{label}: {prior} and {final}')
    else:
      parts.append(
        f'{label} answers {prior} of the questions about its pretraining '
        f'correctly (initial model: {percent(name, "prior_initial")}) and '
        f'{final} of the questions about all experiences'
      )
  return f'{"; ".join(parts)}.' if parts else ''


def _counts(groups: figures.Groups) -> str:
  """Returns the numbers of strategies, seeds, experiences and runs."""
  runs = [run for members in groups.values() for run in members]
  experiences = max(
    (retention.num_experiences(run['evaluations']) for run in runs), default=0
  )
  counts = (
    (len(groups), 'strategy', 'strategies'),
    (len({run['seed'] for run in runs}), 'seed', 'seeds'),
    (experiences, 'experience', 'experiences'),
    (len(runs), 'run', 'runs'),
  )
  text = ', '.join(f'{n} {one if n == 1 else many}' for n, one, many in counts)
  waiting = len(tables.unfinished(runs))
  return text + (f', {waiting} not finished' if waiting else ', all finished')


def _flatten(items: dict[str, Any]) -> dict[str, Any]:
  """Returns one flat dict; nested names are joined by a space."""
  flat: dict[str, Any] = {}
  for name, value in items.items():
    if isinstance(value, dict):
      flat.update({f'{name} {key}': inner for key, inner in value.items()})
    else:
      flat[name] = value
  return flat

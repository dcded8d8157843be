"""Converts a dataset to a stream: token sources, probes, templates and tasks.

Every kind of array has one shape over the whole stream, so the programs that
read them are compiled once.
"""

import dataclasses
from collections.abc import Sequence

from sleep_jax import errors, types
from sleep_jax.data import (
  batches,
  long_rows,
  probe_arrays,
  task_arrays,
  template_arrays,
  token_cache,
)
from sleep_jax.datasets import dataset as dataset_lib


@dataclasses.dataclass(frozen=True)
class Stream:
  """Everything that one run trains and is evaluated on.

  Attributes:
    dataset: the text it was made from.
    tokenizer: tokenizer of the run.
    pretrain: pretraining rows, or None if the run starts from a checkpoint.
    held_out: rows like those of pretraining that are never trained on, or None.
    experiences: one source per experience, in the order of training.
    probes: scored probes with the keys 'pretrain', '1', '2', ...; a key without
      probes is absent.
    template_probes: the same facts in the wordings of the self-study templates,
      likewise.
    open_probes: probes of the experiences, each preceded by its document,
      likewise.
    guard: probes by which the guard accepts or discards a night, or None.
    templates: self-study templates; zero rows if there are none.
    dream_templates: templates of dream prompts; zero rows if there are none.
    tasks: what the nights of an experience dream about, by the experience's
      key; a key without a task is absent.
    chats_use_template: whether conversations are written by a chat template;
      None if there are none.
    held_out_skipped: held-out rows that are too long, where all are and are
      left out; `held_out` is then None.
  """

  dataset: dataset_lib.Dataset
  tokenizer: types.Tokenizer
  pretrain: batches.Source | None
  held_out: batches.Source | None
  experiences: tuple[batches.Source, ...]
  probes: dict[str, types.Probes]
  template_probes: dict[str, types.Probes]
  open_probes: dict[str, types.Probes]
  guard: types.Probes | None
  templates: types.PromptTemplates
  dream_templates: types.PromptTemplates
  tasks: dict[str, types.Task]
  chats_use_template: bool | None = None
  held_out_skipped: long_rows.Summary = long_rows.Summary()


def build(
  dataset: dataset_lib.Dataset,
  tokenizer: types.Tokenizer,
  *,
  context: int,
  max_prompt: int,
  batch_size: int,
  seed: int,
  cache_dir: str | None = None,
  pack: bool = False,
  loss_on: str = 'all',
  prefix: int = 8,
  overlap: int = -1,
  too_long: str = 'error',
  day_batch_size: int = 0,
  load_writer: types.LoadWriter = lambda: None,
) -> Stream:
  """Tokenizes a dataset.

  `token_cache.make_source` describes the other arguments.

  Args:
    day_batch_size: rows in a batch of an experience, which may have few rows;
      0 uses `batch_size`.

  Raises:
    DataError: there are no experiences, or a task practises on a scored probe.
    TooLongError: rows do not fit; lists those of all sources.
  """
  if not dataset.experiences:
    raise errors.DataError(
      f'{dataset.name}: there are no experiences: add one or more to train on.'
    )
  task_arrays.check_tasks(dataset)

  rows_too_long: list[errors.TooLongError] = []

  def make_source(
    name: str, rows: Sequence[dataset_lib.Row], batch_size: int = batch_size
  ) -> batches.Source:
    try:
      return token_cache.make_source(
        name,
        rows,
        tokenizer,
        context=context,
        max_prompt=max_prompt,
        batch_size=batch_size,
        seed=seed,
        cache_dir=cache_dir,
        pack=pack,
        loss_on=loss_on,
        prefix=prefix,
        overlap=overlap,
        too_long=too_long,
        load_writer=load_writer,
      )
    except errors.TooLongError as error:
      if too_long == 'skip':
        raise  # Nothing would be left.
      rows_too_long.append(error)
      return None  # type: ignore[return-value]  # Raised below, for all.

  pretrain = (
    make_source('pretrain', dataset.pretrain) if dataset.pretrain else None
  )
  experiences = tuple(
    make_source(name, rows, day_batch_size or batch_size)
    for name, rows in dataset.experiences
  )
  held_out, held_out_skipped = None, long_rows.Summary()
  try:
    if dataset.held_out:
      held_out = make_source('held_out', dataset.held_out)
  except errors.TooLongError as error:
    held_out_skipped = error.summary
  has_chats = any(
    source is not None and source.num_chats
    for source in (pretrain, held_out, *experiences)
  )
  if rows_too_long:
    raise long_rows.error(
      long_rows.merge(error.summary for error in rows_too_long)
    )
  probe_groups = [
    *dataset.probes.values(),
    *dataset.template_probes.values(),
    *dataset.open_probes.values(),
    dataset.guard,
    *(task.practice for task in dataset.tasks.values()),
  ]
  tables = probe_arrays.make_candidates(dataset, tokenizer, probe_groups)

  def make_probes(
    group: list[dataset_lib.Probe],
    max_prompt: int = max_prompt,
    keep_end: bool = False,
  ) -> types.Probes:
    return probe_arrays.make_probes(
      group, dataset, tokenizer, tables, context=context,
      max_prompt=max_prompt, keep_end=keep_end,
    )  # fmt: skip

  return Stream(
    dataset=dataset,
    tokenizer=tokenizer,
    pretrain=pretrain,
    held_out=held_out,
    held_out_skipped=held_out_skipped,
    experiences=experiences,
    probes={key: make_probes(group) for key, group in dataset.probes.items()},
    template_probes={
      key: make_probes(group) for key, group in dataset.template_probes.items()
    },
    open_probes={
      key: make_probes(group, context, dataset.open_tail)
      for key, group in dataset.open_probes.items()
    },
    guard=make_probes(dataset.guard) if dataset.guard else None,
    templates=template_arrays.make_templates(
      dataset.templates, dataset, tokenizer, max_prompt, prefix
    ),
    dream_templates=template_arrays.make_templates(
      dataset.dream_templates, dataset, tokenizer, max_prompt, prefix
    ),
    tasks=task_arrays.make_tasks(
      dataset,
      make_probes,
      tokenizer,
      context=context,
      max_prompt=max_prompt,
      loss_on=loss_on,
      prefix=prefix,
      overlap=overlap,
    ),
    chats_use_template=(load_writer() is not None) if has_chats else None,
  )


def notes(stream: Stream) -> list[str]:
  """Returns what the user should know about the rows before they are learned.

  That rows or a score are left out, and how conversations are written.
  """
  sources = [stream.pretrain, stream.held_out, *stream.experiences]
  skipped = [(source.name, source.skipped) for source in sources if source]
  found = []
  for name, summary in [*skipped, ('held_out', stream.held_out_skipped)]:
    if num := summary.num_rows:
      what = (
        'row is too long and is' if num == 1 else 'rows are too long and are'
      )
      found.append(
        f"{name}: {num:,} {what} left out (data.too_long='skip'), such as "
        f'{summary.lines[0]}'
      )
  score = stream.dataset.text_score
  if score is not None and not score.is_available:
    found.append(
      f'{score.name}: this score is left out, because {score.package} is not '
      f"installed: pip install '{score.package}'."
    )
  if stream.chats_use_template is not None:
    how = (
      'the chat template of the model'
      if stream.chats_use_template
      else "the plain format ('user: ...'); the model has no chat template"
    )
    found.append(f'Conversations are written in {how}.')
  return found

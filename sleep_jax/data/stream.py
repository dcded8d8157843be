"""A world in tokens: birth, experiences, probes and stems, ready to be lived.

Everything has fixed shapes over the whole stream, so the programs that read
them are compiled once.
"""

import dataclasses

from sleep_jax import types
from sleep_jax.data import (
  batches,
  probe_arrays,
  task_arrays,
  template_arrays,
  token_cache,
)
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset as dataset_lib


@dataclasses.dataclass(frozen=True)
class Stream:
  """What one life reads and is asked.

  Attributes:
    world: the text it was made from.
    tokenizer: that of the run.
    birth: rows known from birth; None: the world starts from a checkpoint.
    held_out: rows like those of birth, never trained on; None: none.
    experiences: in the order of living.
    probes, stem_probes: keys 'birth', '1', '2', ...; absent where empty.
    open_probes: the probes of days behind their documents; absent where empty.
    guard: probes that may veto a night; None: none.
    stems: self-study templates; zero rows: none.
    dream_stems: what a dream is asked, likewise.
    tasks: what there is to dream about, by experience; absent where nothing is.
  """

  dataset: dataset_lib.Dataset
  tokenizer: tokenizer_lib.Tokenizer
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


def build(
  dataset: dataset_lib.Dataset,
  tokenizer: tokenizer_lib.Tokenizer,
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
  day_batch_size: int = 0,
) -> Stream:
  """Tokenises a world; `sources.make` explains the settings.

  Args:
    day_batch_size: rows of a batch of an experience, which may have few; 0: as
      many as of birth.
  """
  if not dataset.experiences:
    raise ValueError(
      f'{dataset.name}: there are no experiences to live through.'
    )
  task_arrays.check_tasks(dataset)

  def source(
    name: str, rows: list[dataset_lib.Row], batch_size: int = batch_size
  ) -> batches.Source:
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
    )

  asked = [
    *dataset.probes.values(),
    *dataset.template_probes.values(),
    *dataset.open_probes.values(),
    dataset.guard,
    *(task.practice for task in dataset.tasks.values()),
  ]
  tables = probe_arrays.candidates(dataset, tokenizer, asked)

  def probes(
    group: list[dataset_lib.Probe], longest: int = max_prompt
  ) -> types.Probes:
    return probe_arrays.probes(
      group, dataset, tokenizer, tables, context=context, max_prompt=longest
    )

  return Stream(
    dataset=dataset,
    tokenizer=tokenizer,
    pretrain=source('pretrain', dataset.pretrain) if dataset.pretrain else None,
    held_out=source('held_out', dataset.held_out) if dataset.held_out else None,
    experiences=tuple(
      source(name, rows, day_batch_size or batch_size)
      for name, rows in dataset.experiences
    ),
    probes={key: probes(group) for key, group in dataset.probes.items()},
    template_probes={
      key: probes(group) for key, group in dataset.template_probes.items()
    },
    open_probes={
      key: probes(group, context) for key, group in dataset.open_probes.items()
    },
    guard=probes(dataset.guard) if dataset.guard else None,
    templates=template_arrays.templates(
      dataset.templates, dataset, tokenizer, max_prompt, prefix
    ),
    dream_templates=template_arrays.templates(
      dataset.dream_templates, dataset, tokenizer, max_prompt, prefix
    ),
    tasks=task_arrays.tasks(
      dataset, probes, tokenizer, context=context, max_prompt=max_prompt,
      loss_on=loss_on, prefix=prefix, overlap=overlap,
    ),
  )  # fmt: skip

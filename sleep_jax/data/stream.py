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
from sleep_jax.datasets import dataset


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

  world: dataset.Dataset
  tokenizer: tokenizer_lib.Tokenizer
  birth: batches.Source | None
  held_out: batches.Source | None
  experiences: tuple[batches.Source, ...]
  probes: dict[str, types.Probes]
  stem_probes: dict[str, types.Probes]
  open_probes: dict[str, types.Probes]
  guard: types.Probes | None
  stems: types.Stems
  dream_stems: types.Stems
  tasks: dict[str, types.Task]


def build(
  world: dataset.Dataset,
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
  if not world.experiences:
    raise ValueError(f'{world.name}: there are no experiences to live through.')
  task_arrays.check_tasks(world)

  def source(
    name: str, rows: list[dataset.Row], batch_size: int = batch_size
  ) -> batches.Source:
    return token_cache.make(
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
    *world.probes.values(),
    *world.stem_probes.values(),
    *world.open_probes.values(),
    world.guard,
    *(task.practice for task in world.tasks.values()),
  ]
  tables = probe_arrays.candidates(world, tokenizer, asked)

  def probes(
    group: list[dataset.Probe], longest: int = max_prompt
  ) -> types.Probes:
    return probe_arrays.probes(
      group, world, tokenizer, tables, context=context, max_prompt=longest
    )

  return Stream(
    world=world,
    tokenizer=tokenizer,
    birth=source('birth', world.birth) if world.birth else None,
    held_out=source('held_out', world.held_out) if world.held_out else None,
    experiences=tuple(
      source(name, rows, day_batch_size or batch_size)
      for name, rows in world.experiences
    ),
    probes={key: probes(group) for key, group in world.probes.items()},
    stem_probes={
      key: probes(group) for key, group in world.stem_probes.items()
    },
    open_probes={
      key: probes(group, context) for key, group in world.open_probes.items()
    },
    guard=probes(world.guard) if world.guard else None,
    stems=template_arrays.templates(
      world.stems, world, tokenizer, max_prompt, prefix
    ),
    dream_stems=template_arrays.templates(
      world.dreams, world, tokenizer, max_prompt, prefix
    ),
    tasks=task_arrays.tasks(
      world, probes, tokenizer, context=context, max_prompt=max_prompt,
      loss_on=loss_on, prefix=prefix, overlap=overlap,
    ),
  )  # fmt: skip

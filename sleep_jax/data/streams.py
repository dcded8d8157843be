"""A world in tokens: birth, experiences, probes and stems, ready to be lived.

Everything has fixed shapes over the whole stream, so the programs that read
them are compiled once.
"""

import dataclasses

import jax
import numpy as np

from sleep_jax import types
from sleep_jax.data import sequences, sources, worlds
from sleep_jax.data import tokenizer as tokenizer_lib


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

  world: worlds.World
  tokenizer: tokenizer_lib.Tokenizer
  birth: sources.Source | None
  held_out: sources.Source | None
  experiences: tuple[sources.Source, ...]
  probes: dict[str, types.Probes]
  stem_probes: dict[str, types.Probes]
  open_probes: dict[str, types.Probes]
  guard: types.Probes | None
  stems: types.Stems
  dream_stems: types.Stems
  tasks: dict[str, types.Task]


def build(
  world: worlds.World,
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
  _check_tasks(world)

  def source(
    name: str, rows: list[worlds.Row], batch_size: int = batch_size
  ) -> sources.Source:
    return sources.make(
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
  tables = _candidates(world, tokenizer, asked)

  def probes(
    group: list[worlds.Probe], longest: int = max_prompt
  ) -> types.Probes:
    return _probes(
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
    stems=_stems(world.stems, world, tokenizer, max_prompt, prefix),
    dream_stems=_stems(world.dreams, world, tokenizer, max_prompt, prefix),
    tasks=_tasks(
      world, probes, tokenizer, context=context, max_prompt=max_prompt,
      loss_on=loss_on, prefix=prefix, overlap=overlap,
    ),
  )  # fmt: skip


def _candidates(
  world: worlds.World,
  tokenizer: tokenizer_lib.Tokenizer,
  asked: list[list[worlds.Probe]],
) -> dict[str, np.ndarray]:
  """The answer sets that all probes share, and room for any answer."""
  sets = {
    key: [(_answer(text, tokenizer), since) for text, since in candidates]
    for key, candidates in world.candidates.items()
  }
  answers = [
    _answer(probe.answer, tokenizer) for group in asked for probe in group
  ]
  answers += [answer for group in sets.values() for answer, _ in group]
  width = max(map(len, answers), default=1)
  num_sets = max(1, len(sets))
  most = max(map(len, sets.values()), default=1)
  tables = {
    'candidates_SCA': np.full((num_sets, most, width), tokenizer.eos, np.int32),
    'candidate_length_SC': np.zeros((num_sets, most), np.int32),
    'candidate_since_SC': np.zeros((num_sets, most), np.int32),
  }
  for row, group in enumerate(sets.values()):
    for column, (answer, since) in enumerate(group):
      tables['candidates_SCA'][row, column, : len(answer)] = answer
      tables['candidate_length_SC'][row, column] = len(answer)
      tables['candidate_since_SC'][row, column] = since
  return tables


def _answer(text: str, tokenizer: tokenizer_lib.Tokenizer) -> list[int]:
  return [*tokenizer.encode(text), tokenizer.eos]


def _probes(
  group: list[worlds.Probe],
  world: worlds.World,
  tokenizer: tokenizer_lib.Tokenizer,
  tables: dict[str, np.ndarray],
  *,
  context: int,
  max_prompt: int,
) -> types.Probes:
  """Probes [B] with their answers; set and gold are -1 without candidates."""
  prompts = np.full((len(group), max_prompt), tokenizer.eos, np.int32)
  prompt_length = np.zeros(len(group), np.int32)
  width = tables['candidates_SCA'].shape[-1]
  answers = np.full((len(group), width), tokenizer.eos, np.int32)
  answer_length = np.zeros(len(group), np.int32)
  places = {
    key: (row, {text: column for column, (text, _) in enumerate(candidates)})
    for row, (key, candidates) in enumerate(world.candidates.items())
  }
  chosen = np.full((2, len(group)), -1, np.int32)
  for row, probe in enumerate(group):
    prompt = [tokenizer.bos, *tokenizer.encode(probe.prompt)]
    answer = _answer(probe.answer, tokenizer)
    if len(prompt) > max_prompt:
      raise ValueError(
        f'{probe.where}: the question has {len(prompt)} tokens with BOS, but '
        f'max_prompt is {max_prompt}: shorten it or raise max_prompt.'
      )
    if len(prompt) + len(answer) > context:
      raise ValueError(
        f'{probe.where}: question and answer have '
        f'{len(prompt) + len(answer)} tokens, but the context is {context}: '
        'shorten them or raise the context.'
      )
    prompts[row, : len(prompt)] = prompt
    prompt_length[row] = len(prompt)
    answers[row, : len(answer)] = answer
    answer_length[row] = len(answer)
    if probe.candidates is not None:
      place, columns = places[probe.candidates]
      chosen[:, row] = place, columns[probe.answer]
  return types.Probes(
    prompts=types.Prompts(
      tokens_BP=prompts,
      length_B=prompt_length,
      subject_B2=np.zeros((len(group), 2), np.int32),
    ),
    answer_BA=answers,
    answer_length_B=answer_length,
    set_B=chosen[0],
    gold_B=chosen[1],
    **tables,
  )


def _check_tasks(world: worlds.World) -> None:
  """Dreams are not tried on what is asked in the end.

  Raises:
    ValueError: names the question.
  """
  asked = {
    probe.prompt: probe
    for groups in (world.probes, world.stem_probes, {'guard': world.guard})
    for group in groups.values()
    for probe in group
  }
  for key, task in world.tasks.items():
    if not task.practice or not task.documents:
      raise ValueError(
        f'{world.name}: the task of experience {key} has '
        f'{len(task.documents)} documents and {len(task.practice)} practice '
        'questions: expected one or more of each.'
      )
    for practice in task.practice:
      if practice.prompt in asked:
        raise ValueError(
          f'{practice.where}: dreams of experience {key} would be tried on '
          f'{practice.prompt!r}, which {asked[practice.prompt].where} asks as '
          'a test: take it out of one of them.'
        )


def _tasks(world, probes, tokenizer, **settings) -> dict[str, types.Task]:
  """All of one shape: where there are fewer documents, some come twice."""
  made = {
    key: _documents(task.documents, tokenizer, **settings)
    for key, task in world.tasks.items()
  }
  most = max((len(found.length_B) for found in made.values()), default=0)
  rows = max((len(task.lessons) for task in world.tasks.values()), default=0)
  return {
    key: types.Task(
      jax.tree.map(lambda x: np.resize(x, (most, *x.shape[1:])), made[key]),
      probes(task.practice),
      _choices(task, tokenizer, rows=rows, width=settings['context']),
    )
    for key, task in world.tasks.items()
  }


def _choices(
  task: worlds.Task,
  tokenizer: tokenizer_lib.Tokenizer,
  *,
  rows: int,
  width: int,
) -> types.Choices | None:
  """What a dream may choose, its lessons padded to so many `rows`."""
  if not task.choices:
    return None
  texts = [_answer(choice.text, tokenizer) for choice in task.choices]
  text_CG = np.full((len(texts), max(map(len, texts))), tokenizer.eos, np.int32)
  weight_CR = np.zeros((len(texts), rows), np.float32)
  for place, (text, choice) in enumerate(zip(texts, task.choices, strict=True)):
    text_CG[place, : len(text)] = text
    weight_CR[place, list(choice.lessons)] = 1
  tokens_RT = np.full((rows, width), tokenizer.eos, np.int32)
  prompt_length_R, length_R = np.ones((2, rows), np.int32)
  for place, row in enumerate(task.lessons):
    begun = tokenizer.encode(row.text[: row.response_start])
    tokens = [tokenizer.bos, *begun]
    tokens += _answer(row.text[row.response_start :], tokenizer)
    if len(tokens) > width:
      raise ValueError(
        f'{row.where}: a lesson has {len(tokens)} tokens, but data.context is '
        f'{width}: raise it, or take shorter tasks.'
      )
    tokens_RT[place, : len(tokens)] = tokens
    prompt_length_R[place], length_R[place] = 1 + len(begun), len(tokens)
  return types.Choices(
    text_CG=text_CG,
    length_C=np.array([len(text) for text in texts], np.int32),
    lessons=types.Rollout(tokens_RT, prompt_length_R, length_R),
    weight_CR=weight_CR,
    rate_C=np.array([choice.rate for choice in task.choices], np.float32),
    share_C=np.array([choice.share for choice in task.choices], np.float32),
  )


def _documents(
  rows: list[worlds.Row], tokenizer: tokenizer_lib.Tokenizer, **settings
) -> types.Prompts:
  """What each document begins with, and the document without its EOS."""
  made = [sequences.tokenise(row, tokenizer, **settings) for row in rows]
  whole = [sequence for windows in made for sequence in windows]

  def room(texts: list[list[int]], width: int) -> np.ndarray:
    tokens = np.full((len(texts), width), tokenizer.eos, np.int32)
    for place, text in enumerate(texts):
      tokens[place, : len(text)] = text
    return tokens

  size = lambda texts: np.array([len(text) for text in texts], np.int32)
  begun = [sequence.tokens[: sequence.prompt_length] for sequence in whole]
  read = [sequence.tokens[:-1] for sequence in whole]
  return types.Prompts(
    tokens_BP=room(begun, settings['max_prompt']),
    length_B=size(begun),
    subject_B2=np.array([sequence.subject for sequence in whole], np.int32),
    context=types.Texts(room(read, settings['context']), size(read)),
  )


def _stems(
  templates: list[str],
  world: worlds.World,
  tokenizer: tokenizer_lib.Tokenizer,
  max_prompt: int,
  prefix: int,
) -> types.Stems:
  """Templates cut at their slot, as they are tokenised around a name."""
  subjects = {
    row.text[slice(*row.subject)]
    for rows in (world.birth, *(rows for _, rows in world.experiences))
    for row in rows
    if templates and row.subject
  }
  sizes = [len(tokenizer.encode(name)) for name in subjects]
  # A longer one does not fit into what is stored of a text, so is not asked.
  longest = max((size for size in sizes if size <= prefix), default=0)
  pairs = []
  for stem in templates:
    if stem.count('{}') != 1:
      raise ValueError(
        f'Stem {stem!r} has {stem.count("{}")} slots: write exactly one {{}}.'
      )
    slot = stem.index('{}')
    ids, spans = tokenizer.encode_offsets(stem.replace('{}', 'X'))
    if any(start <= slot and end > slot + 1 for start, end in spans):
      raise ValueError(
        f'Stem {stem!r}: the slot is part of a word: put spaces around it.'
      )
    cut = list(zip(ids, spans, strict=True))
    before = [token for token, (_, end) in cut if end <= slot]
    after = [token for token, (start, _) in cut if start > slot]
    length = 1 + len(before) + longest + len(after)
    if length > max_prompt:
      raise ValueError(
        f'Stem {stem!r} has {length} tokens with BOS and the longest subject, '
        f'but max_prompt is {max_prompt}: shorten it or raise max_prompt.'
      )
    pairs.append((before, after))
  arrays = {}
  for name, side in (('before', 0), ('after', 1)):
    # Of one width, whatever the vocabulary: a night compiles once for all.
    tokens = np.full((len(pairs), max_prompt), tokenizer.eos, np.int32)
    for row, pair in enumerate(pairs):
      tokens[row, : len(pair[side])] = pair[side]
    arrays[f'{name}_SP'] = tokens
    arrays[f'{name}_length_S'] = np.array(
      [len(pair[side]) for pair in pairs], np.int32
    )
  return types.Stems(**arrays)

"""Tests of the ARC dataset: text of grids, choices, lessons, practice pairs."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import base
from sleep_jax import types
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import arc
from sleep_jax.dream import rounds, settings
from sleep_jax.dream import texts as texts_lib
from sleep_jax.learner import checks
from sleep_jax.sleep import settings_checks
from tests import testing

CONTEXT = 160


def _task(number, pairs=3, **changes):
  rng = np.random.default_rng(number)
  grid = lambda: rng.integers(0, 10, (2, 3)).tolist()
  all_pairs = [
    {'input': g, 'output': g[::-1]} for g in (grid() for _ in range(9))
  ]
  row = {
    'id': f'task{number}',
    'train': all_pairs[:pairs],
    'test': all_pairs[pairs:][:2],
  }
  return row | changes


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  rows = [_task(number) for number in range(6)] + [_task(9, pairs=1)]
  return _write(tmp_path_factory.mktemp('arc') / 'tasks.jsonl', rows)


@functools.cache
def _dataset(file, **changes):
  return arc.make(path=file, pretrain=file, longest=CONTEXT, **changes)


def _stream(dataset):
  tokenizer = tokenizer_lib.make('bytes', ['text'], 300)
  return stream_lib.build(
    dataset,
    tokenizer,
    context=CONTEXT,
    max_prompt=CONTEXT,
    batch_size=2,
    seed=0,
    prefix=12,
  )


def test_an_experience_is_a_task_and_its_test_pairs_are_probes(file):
  dataset = _dataset(file, num_days=6)
  assert len({name for name, _ in dataset.experiences}) == 6
  for day, ((row,), probes) in enumerate(
    zip(
      (r for _, r in dataset.experiences), dataset.probes.values(), strict=True
    ),
    1,
  ):
    number = int(row.text.split('\n')[0].removeprefix('Task task'))
    task = _task(number)
    assert row.text[slice(*row.subject)] == task['id'], day
    assert row.text.count('in\n') == 2  # The third pair is practice.
    for probe, pair in zip(probes, task['test'], strict=True):
      assert probe.prompt.count('out\n') == 4
      assert probe.prompt.endswith('out\n')
      answer = [list(map(int, line)) for line in probe.answer.split('\n')]
      assert answer == pair['output']


def test_the_practice_pair_is_neither_shown_nor_a_test_pair(file):
  dataset = _dataset(file, num_days=6)
  for key, task in dataset.tasks.items():
    (practice,) = task.practice
    (document,) = task.documents
    assert practice.prompt.startswith(document.text)
    question = practice.prompt[len(document.text) :]
    assert question not in document.text
    assert all(question not in lesson.text for lesson in task.lessons)
    for probe in dataset.probes[key]:
      assert probe.prompt != practice.prompt
      assert probe.prompt.split('in\n')[-1] not in practice.prompt


def test_each_lesson_is_a_transformed_pair_after_the_other_shown_pairs(file):
  task = _dataset(file, num_days=6).tasks['1']
  assert len(task.lessons) == 2 * 2 * (
    1 + 3 + 3 + 3
  )  # Pairs, targets, transforms.
  for lesson in task.lessons:
    targets = lesson.text[lesson.response_start :]
    answer = lesson.text.split('out\n')[-1]
    assert targets in (answer, lesson.text)
    given, expected = (
      np.array([list(map(int, line)) for line in part.strip().split('\n')])
      for part in lesson.text.split('in\n')[-1].split('out\n')
    )
    # The task's rule is to flip a grid; a turned pair is flipped sideways.
    flipped = [np.flipud(given), np.fliplr(given)]
    assert any(np.array_equal(expected, grid) for grid in flipped)
  choices = {choice.text: choice for choice in task.choices}
  assert len(choices) == 64
  plain = choices[' plain, answers, slowly, long']
  assert (plain.rate, plain.share) == (1.0, 1.0) and len(plain.lessons) == 2
  most = choices[' turn flip colours, all, fast, shortly']
  assert (most.rate, most.share) == (3.0, 0.5) and len(most.lessons) == 20


def test_pretraining_text_has_other_tasks_and_their_choices(tmp_path, file):
  pretrain = _write(
    tmp_path / 'pretrain.jsonl', [_task(number) for number in range(3, 30)]
  )
  dataset = arc.make(path=file, pretrain=pretrain, longest=CONTEXT, num_days=1)
  texts = [row.text for row in dataset.pretrain + dataset.held_out]
  names = {text.split('\n')[0].split(':')[0] for text in texts}
  assert names == {f'Task task{n}' for n in range(6, 30)} - {'Task task9'} | {
    'Task task9'
  }
  choices = {choice.text for choice in dataset.tasks['1'].choices}
  rows = [row for row in dataset.pretrain if row.target_start]
  assert rows and all(row.text[row.target_start :] in choices for row in rows)


@pytest.mark.parametrize(
  'row, message',
  [
    (_task(1, train=[]), "'train' is not a list"),
    (
      _task(1, test=[{'input': [[1]]}]),
      r"test\[0\] has no valid grid 'output'",
    ),
    (_task(1, test=[{'input': [[1, 2], [3]], 'output': [[1]]}]), 'one length'),
    (_task(1, test=[{'input': [[10]], 'output': [[1]]}]), 'digits 0 to 9'),
    (_task(1) | {'id': ''}, "'id'"),
  ],
)
def test_a_task_that_cannot_be_read_names_its_line(tmp_path, row, message):
  path = _write(tmp_path / 'bad.jsonl', [_task(0), row])
  with pytest.raises(ValueError, match=rf'bad.jsonl:2.*{message}'):
    arc.make(path=path, num_days=1)


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(num_days=7), '7 days need 7 tasks, but .* has 6'),
    (dict(longest=60), 'has 0 of at most 60 characters'),
    (dict(num_days=4, stream_seed=1), 'after those of the stream'),
    (dict(num_days=0), 'num_days is 0'),
  ],
)
def test_too_few_tasks_are_counted_in_the_error(file, changes, message):
  with pytest.raises(ValueError, match=message):
    arc.make(path=file, **dict(longest=CONTEXT) | changes)


def test_choices_and_lessons_are_tokenized_as_in_the_dataset(file):
  dataset = _dataset(file, num_days=3)
  stream = _stream(dataset)
  tokenizer = stream.tokenizer
  for key, task in stream.tasks.items():
    expected, arrays = dataset.tasks[key], task.choices
    for index, choice in enumerate(expected.choices):
      text = arrays.text_CG[index, : arrays.length_C[index]].tolist()
      assert text == [*tokenizer.encode(choice.text), tokenizer.eos]
      assert set(np.flatnonzero(arrays.weight_CR[index])) == set(choice.lessons)
    for index, row in enumerate(expected.lessons):
      size = arrays.lessons.length_B[index]
      tokens = arrays.lessons.tokens_BT[index, :size].tolist()
      assert tokens == [
        tokenizer.bos,
        *tokenizer.encode(row.text),
        tokenizer.eos,
      ]
      prompt = tokenizer.encode(row.text[: row.response_start])
      assert arrays.lessons.prompt_length_B[index] == 1 + len(prompt)


def _match(texts, prompt=2):
  """Returns which choice each text is, [5 6 EOS] or [5 EOS], or None."""
  choices = types.Choices(
    text_CG=jnp.array([[5, 6, testing.EOS], [5, testing.EOS, 0]]),
    length_C=jnp.array([3, 2]), lessons=None, weight_CR=None, rate_C=None,
    share_C=None,
  )  # fmt: skip
  sequences = testing.prompts([[1, 9, *text] for text in texts], width=8)
  rollout = types.Rollout(
    sequences.tokens_BP, jnp.full((len(texts),), prompt), sequences.length_B
  )
  index, valid = texts_lib.match_choices(rollout, choices)
  return [int(i) if v else None for i, v in zip(index, valid, strict=True)]


def test_a_dream_is_a_choice_only_if_all_tokens_match():
  eos = testing.EOS
  texts = [
    [5, 6, eos],
    [5, eos],
    [5, 6],
    [6, 5, eos],
    [5, 6, eos, eos],
    [],
    [5, 5, eos],
  ]
  assert _match(texts) == [0, 1, None, None, None, None, None]


def test_a_dream_trains_on_the_lessons_of_its_choice(file):
  """Two candidates are the first choice, two match no choice."""
  dataset = _dataset(file, num_days=1)
  stream = _stream(dataset)
  task = jax.tree.map(jnp.asarray, stream.tasks['1'])
  c = _config()
  model = testing.tiny()
  dream_settings = settings.make(**c.dream.to_dict())
  dream_rounds = rounds.DreamRounds(
    model, stream.tokenizer.bos, stream.tokenizer.eos,
    settings_checks.make_settings(**c.consolidate.to_dict()), dream_settings,
  )  # fmt: skip
  choices = task.choices
  size = int(choices.length_C[0])
  tokens = np.zeros((4, CONTEXT), np.int32)
  tokens[:2, 1 : 1 + size] = choices.text_CG[0, :size]
  texts = types.Rollout(
    jnp.asarray(tokens), jnp.ones((4,), jnp.int32), jnp.full((4,), 1 + size)
  )
  lessons, valid_B = dream_rounds._make_lessons(texts, choices)
  assert valid_B.tolist() == [True, True, False, False]
  np.testing.assert_array_equal(lessons.weight_MK[0], choices.weight_CR[0])
  assert not np.asarray(lessons.weight_MK[2:]).any() and lessons.shared
  without_context = dream_rounds._with_empty_context(lessons.rows)
  assert without_context.context.length_B.tolist() == [1] * len(
    choices.weight_CR[0]
  )


def _config():
  c = base.get_config()
  c.dream.update(texts=1, candidates=4, top=2, random=0)
  c.consolidate.update(max_length=CONTEXT, max_new=CONTEXT - 1)
  return c


@pytest.mark.parametrize(
  'section, field, value',
  [
    ('dream', 'texts', 2),
    ('consolidate', 'max_length', 80),
    ('consolidate', 'max_new', 20),
  ],
)
def test_night_settings_that_choices_do_not_fit_are_refused(
  file, section, field, value
):
  task = _stream(_dataset(file, num_days=1)).tasks['1']
  c = _config()
  assert checks.check_task(task, c) is task
  c[section][field] = value
  with pytest.raises(ValueError, match=f'{section}.{field} is {value}'):
    checks.check_task(task, c)

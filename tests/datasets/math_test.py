"""Tests of the math dataset: generated problems, GSM8K and AIME-like files."""

import json
import re

import numpy as np
import pytest

from sleep_jax.datasets import math, word_problems
from sleep_jax.evaluate import text_scores


def test_every_generated_solution_is_right_and_ends_in_its_answer():
  rng = np.random.default_rng(0)
  for kind in (*word_problems.KNOWN, *word_problems.NEW):
    for _ in range(50):
      story, solution, answer = word_problems.draw(rng, kind)
      steps = re.findall(r'(\d+) ([-+*]) (\d+) = (\d+)\.', solution)
      assert len(steps) == solution.count('=')
      for left, op, right, result in steps:
        assert word_problems.compute(int(left), op, int(right)) == int(result)
        assert int(result) >= 0
      assert steps[-1][-1] == answer
      assert {steps[0][0], steps[0][2]} <= {*re.findall(r'\d+', story)}


def test_pretraining_has_the_arithmetic_of_all_problems():
  sums = set(word_problems.sums())
  rng = np.random.default_rng(1)
  for kind in (*word_problems.KNOWN, *word_problems.NEW):
    for _ in range(50):
      _, solution, _ = word_problems.draw(rng, kind)
      assert {f'{step}.' for step in solution[:-1].split('. ')} <= sums


def test_days_have_problems_of_a_new_kind_and_ask_others():
  dataset = math.make(num_pretrain=60, problems_per_day=40, num_probes=10)
  solved = {row.text[: row.response_start] for row in dataset.pretrain}
  for day, (_, rows) in enumerate(dataset.experiences, 1):
    learned = {row.text[: row.response_start] for row in rows}
    asked = {probe.prompt for probe in dataset.probes[str(day)]}
    assert len(learned) == 40 and len(asked) == 10
    assert not asked & learned and not (asked | learned) & solved
  for group in dataset.probes.values():
    for probe in group:
      assert text_scores.is_boxed_match(probe.answer, probe.reference)
  readings = [row for row in dataset.pretrain if row.target_start]
  assert len(readings) == 60
  for row in readings:
    target = row.text[row.target_start :]
    assert row.text.count(target) == 2 and target.startswith(' ')
    # The anchor cannot solve those of new kinds, so none is rehearsed.
    assert row.answer_start == 0


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


@pytest.fixture
def folder(tmp_path):
  _write(
    tmp_path / 'train.jsonl',
    [
      {
        'question': f'What is {n} + 1?',
        'answer': f'It is {n}+1 = <<{n}+1={n + 1}>>{n + 1}.\n#### {n + 1}',
      }
      for n in range(8)
    ],
  )
  _write(
    tmp_path / 'test.jsonl',
    [{'question': f'{n}?', 'answer': 'So.', 'final': f'{n}'} for n in range(6)],
  )
  return tmp_path


def test_the_final_answer_of_gsm8k_follows_four_number_signs(folder):
  dataset = math.make(
    path=str(folder), num_days=2, problems_per_day=4, num_probes=3
  )
  texts = [row.text for _, rows in dataset.experiences for row in rows]
  assert len(set(texts)) == 8
  assert 'Problem: What is 3 + 1?\nSolution: It is 3+1 = 4. \\boxed{4}' in texts
  asked = [probe for day in '12' for probe in dataset.probes[day]]
  assert {probe.reference for probe in asked} == {*'012345'}
  assert all('\\boxed{' + p.reference + '}' in p.answer for p in asked)
  assert not dataset.pretrain and dataset.score == 'forced'
  tuning = math.make(
    path=str(folder), num_days=1, problems_per_day=4, num_probes=3,
    stream_seed=0,
  )  # fmt: skip
  learned = {row.text[: row.response_start] for row in tuning.experiences[0][1]}
  assert not learned & {probe.prompt for probe in tuning.probes['1']}


def test_problems_with_an_answer_alone_may_be_asked_instead(folder):
  aime = folder / 'aime.jsonl'
  _write(aime, [{'problem': 'Find n.', 'answer': 33}])
  make = lambda: math.make(
    path=str(folder), test=str(aime), num_days=1, problems_per_day=2,
    num_probes=1,
  )  # fmt: skip
  (probe,) = make().probes['1']
  assert probe.prompt == 'Problem: Find n.\nSolution:'
  assert (probe.answer, probe.reference) == (' \\boxed{33}', '33')
  _write(aime, [{'problem': 'Find n.', 'answer': None}])
  with pytest.raises(ValueError, match=r"aime.jsonl:1: field 'answer' is None"):
    make()


def test_what_cannot_be_read_is_named(folder):
  with pytest.raises(ValueError, match='need 20 problems, but there are 8'):
    math.make(path=str(folder), num_days=2, problems_per_day=10)
  with pytest.raises(FileNotFoundError, match='no .*train.jsonl.*GSM8K.*MIT'):
    math.make(path=str(folder / 'none'))
  _write(folder / 'test.jsonl', [{'question': 'Why?', 'answer': 'So.'}])
  with pytest.raises(ValueError, match=r'test.jsonl:1: .*"####"'):
    math.make(path=str(folder), num_days=1, problems_per_day=1, num_probes=1)
  with pytest.raises(ValueError, match='solves only generated problems'):
    math.make(test='aime.jsonl')
  with pytest.raises(ValueError, match='num_days is 5, but there are 4 kinds'):
    math.make(num_days=5)
  with pytest.raises(ValueError, match='samples is 0: set it to 1 or more'):
    math.make(samples=0)
  with pytest.raises(ValueError, match='more than 2000 together'):
    math.make(problems_per_day=2000)

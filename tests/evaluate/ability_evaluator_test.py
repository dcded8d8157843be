"""Every measurement of a run is compared with the same initial model."""

import dataclasses
import json

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.evaluate import (
  ability_evaluator,
  ability_summary,
  asking,
  own_texts,
)  # fmt: skip
from tests import tiny_study
from tests.evaluate import ability_model

TOKENIZER, FORM = ability_model.TOKENIZER, ability_model.FORM


@pytest.fixture(scope='module')
def given(tmp_path_factory):
  folder = tmp_path_factory.mktemp('sets')
  settings = ability_evaluator.Settings(
    text=ability_model.text_file(folder), text_tokens=40, full_text_tokens=90,
    reading=ability_model.reading_file(folder), reading_questions=3,
    full_reading_questions=6, prompts=3, max_new=4,
  )  # fmt: skip
  return ability_evaluator.load(settings, TOKENIZER, FORM)


def _evaluator(given, folder):
  return ability_evaluator.AbilityEvaluator(
    ability_model.model(), ability_model.weights(), TOKENIZER, given, folder
  )


@pytest.fixture(scope='module')
def started(given, tmp_path_factory):
  """An evaluator with the folder that it keeps, and its first record."""
  folder = tmp_path_factory.mktemp('ability')
  evaluator = _evaluator(given, folder)
  return evaluator, folder, evaluator.initial()


def _changes(record):
  return (
    record['text']['change'], record['reading']['change'],
    record['reading']['low'], record['reading']['high'],
  )  # fmt: skip


def test_the_first_model_has_changed_in_nothing(started):
  evaluator, _, initial = started
  again = evaluator.evaluate(ability_model.weights(), full=True)
  for record in (initial, again):
    for part in (record, record['full']):
      assert _changes(part) == (0, 0, 0, 0)
      assert part['everyday']['kl'] == 0
  assert initial.pop('cpu_seconds') > 0 and initial.pop('seconds') > 0
  assert tiny_study.without_times(again) == initial


def test_the_full_sets_are_larger_and_begin_with_those_of_a_morning(started):
  evaluator, _, initial = started
  other = ability_model.weights(1.2)
  morning = evaluator.evaluate(other, full=False)
  end = evaluator.evaluate(other, full=True)
  assert morning['full'] is None and end['full'] is not None
  for name in ('text', 'everyday', 'reading'):
    assert morning[name] == end[name]
  assert morning['text']['tokens'] == 40 and end['full']['text']['tokens'] == 90
  assert morning['reading']['questions'] == 3
  full = end['full']['reading']
  assert full['questions'] == 6 and full['right'][:3] == end['reading']['right']
  assert morning['everyday']['kl'] > 0 and morning['text']['change'] != 0


def test_a_restored_evaluator_measures_as_the_one_that_was_not_interrupted(
  started, given, monkeypatch
):
  evaluator, folder, _ = started
  expected = evaluator.evaluate(ability_model.weights(1.1), full=True)

  def fail(*args, **options):
    raise AssertionError('the initial model answers once')

  restored = _evaluator(given, folder)
  first = ability_model.weights()
  sample = asking.generate

  def generate(model, weights, *args, **options):
    return fail() if weights is first else sample(
      model, weights, *args, **options
    )  # fmt: skip

  monkeypatch.setattr(asking, 'generate', generate)
  found = restored.evaluate(ability_model.weights(1.1), full=True)
  assert tiny_study.without_times(found) == tiny_study.without_times(expected)


def test_what_the_first_model_answered_can_be_read(started):
  _, folder, _ = started
  saved = json.loads((folder / 'first.json').read_text())
  assert len(saved['texts']) == 3 and len(saved['reading']) == 6
  assert [TOKENIZER.decode(a) for a in saved['answers']] == saved['texts']
  assert len(saved['text_nats']) == 90
  states_MD = np.load(folder / 'first_states.npy')
  assert states_MD.shape == (sum(map(len, saved['answers'])), 16)


def test_other_sets_are_refused(started, given):
  _, folder, _ = started
  changed = dataclasses.replace(given, requests=['Another one.'])
  with pytest.raises(errors.WorkdirError, match='first.json is of other texts'):
    _evaluator(changed, folder).initial()


@pytest.mark.parametrize('name', ['first.json', 'first_states.npy'])
def test_a_damaged_file_is_named(started, given, tmp_path, name):
  _, folder, _ = started
  for file in folder.iterdir():
    (tmp_path / file.name).write_bytes(file.read_bytes())
  (tmp_path / name).write_bytes(b'{')
  with pytest.raises(errors.WorkdirError, match='is damaged .* delete both'):
    _evaluator(given, tmp_path).initial()


def test_a_part_that_is_off_is_not_measured(tmp_path, given):
  settings = ability_evaluator.Settings(prompts=2, max_new=3)
  assert settings.on and not ability_evaluator.Settings().on
  alone = ability_evaluator.load(settings, TOKENIZER, FORM)
  found = _evaluator(alone, tmp_path).initial()
  assert set(found) == {'everyday', 'full', 'seconds', 'cpu_seconds'}


class TestSummary:
  def test_a_finished_run_is_summed_up_on_the_full_sets(self, started):
    evaluator, _, initial = started
    other = ability_model.weights(1.2)
    morning = evaluator.evaluate(other, full=False)
    end = evaluator.evaluate(other, full=True)
    rows = [{'ability': initial}, {}, {'ability': morning}]
    early = ability_summary.summarize(rows)
    late = ability_summary.summarize([*rows, {}, {'ability': end}])
    assert early['text_tokens'] == 40 and late['text_tokens'] == 90
    assert (early['reading_questions'], late['reading_questions']) == (3, 6)
    for found in (early, late):
      assert found['perplexity_change'] == pytest.approx(
        found['perplexity'] / found['perplexity_initial'] - 1, rel=1e-4
      )
      assert found['reading_low'] <= found['reading_change']
      assert found['reading_change'] <= found['reading_high']
      assert found['ability_cpu_seconds'] == morning['cpu_seconds']

  def test_a_run_without_it_has_no_such_numbers(self):
    assert ability_summary.summarize([{}, {'scores': {}}]) == {}


class TestOwnTexts:
  def _score(self, folder, weights):
    return own_texts.OwnTexts(
      ability_model.model(), ability_model.weights(), TOKENIZER, FORM, folder
    ).score(weights)

  def test_the_first_model_predicts_its_own_texts_best(self, tmp_path):
    first = self._score(tmp_path, ability_model.weights())
    worse = self._score(tmp_path, ability_model.weights(1.5))
    assert -6 < worse < first < 0  # log 258 is 5.55.

  def test_resumed_it_has_the_same_texts(self, tmp_path, monkeypatch):
    first = self._score(tmp_path, ability_model.weights())
    monkeypatch.setattr(asking, 'generate', None)
    assert self._score(tmp_path, ability_model.weights()) == first

  def test_a_damaged_file_is_named(self, tmp_path):
    (tmp_path / 'own_texts.json').write_text('{}')
    with pytest.raises(errors.WorkdirError, match='own_texts.json is damaged'):
      self._score(tmp_path, ability_model.weights())

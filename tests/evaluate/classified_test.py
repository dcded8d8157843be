"""A classifier on frozen states: what it learns, and where it applies."""

import json

import numpy as np
import pytest

from configs import intents
from sleep_jax import errors
from sleep_jax.evaluate import classified
from sleep_jax.runs import study
from tests import tiny_study

one_device = tiny_study.one_device
pytestmark = pytest.mark.usefixtures('one_device')
NAMES = pytest.mark.parametrize('name', ['klda', 'inca'])
WORDS = 'red', 'six', 'cat', 'oak', 'fog', 'jam', 'hut', 'ivy'


def _write(folder):
  """Writes texts of eight labels, each with a word of its own."""
  folder.mkdir()
  for name, count in (('train', 8), ('val', 6), ('test', 4)):
    rows = [
      {'text': f'{word} {word} {word} {n % 4}', 'label': f'is_{word}'}
      for n in range(count)
      for word in WORDS
    ]
    lines = ''.join(json.dumps(row) + '\n' for row in rows)
    (folder / f'{name}.jsonl').write_text(lines)


def _config(tmp_path, **changes):
  c = tiny_study.shrink(intents.get_config())
  c.strategies = ('klda',)
  c.data.path = str(tmp_path / 'texts')
  c.data.settings = dict(
    pretrain_classes=2, num_days=3, classes_per_day=2, texts_per_class=4
  )
  c.data.update(context=64, max_prompt=48)
  c.klda.features = 64
  c.update(changes)
  return c


@NAMES
def test_every_day_is_learned_and_an_interrupted_run_ends_alike(name, tmp_path):
  _write(tmp_path / 'texts')
  config = _config(tmp_path, strategies=(name,))
  config.inca.top_k = 1  # The model, which learned nothing, chooses at random.
  (whole,) = study.Study(config, str(tmp_path / 'whole')).run()
  # Texts of a label are alike, so a classifier knows them; a model that learned
  # nothing answers at random, and does not know labels that it never read.
  scores = whole['evaluations'][-1]['scores']
  assert [*scores] == ['pretrain', '1', '2', '3']
  # Generated answers would be those of the base model.
  assert whole['evaluations'][-1]['second_scores'] == {}
  assert np.mean([*scores.values()]) > 0.8
  home = tmp_path / 'parts'
  seen = []

  def stop(*args, **kwargs):
    seen.append(args)
    if len(seen) == 3:
      raise KeyboardInterrupt
    return original(*args, **kwargs)

  original = classified.ClassifyingEvaluator.evaluate
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(classified.ClassifyingEvaluator, 'evaluate', stop)
    with pytest.raises(KeyboardInterrupt):
      study.Study(config, str(home)).run()
  (parts,) = study.Study(config, str(home)).run()
  assert [e['scores'] for e in parts['evaluations']] == [
    e['scores'] for e in whole['evaluations']
  ]


@NAMES
def test_where_answers_are_no_labels_it_is_refused_before_the_run(
  name, tmp_path
):
  c = tiny_study.config()
  c.strategies = (name,)
  with pytest.raises(errors.ConfigError, match=f"Leave '{name}' out"):
    study.Study(c, str(tmp_path / 'run')).check()


def test_first_rows_that_are_all_equal_are_refused(tmp_path):
  _write(tmp_path / 'texts')
  rows = [{'text': 'red', 'label': f'is_{word}'} for word in WORDS]
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  (tmp_path / 'texts' / 'train.jsonl').write_text(lines)
  with pytest.raises(errors.DataError, match='width of the kernel'):
    study.Study(_config(tmp_path), str(tmp_path / 'run')).run()

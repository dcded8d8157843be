"""When a run needs the arrays of the initial model, and when it does not."""

import json

import jax
import pytest

from configs import jsonl
from sleep_jax.runs import hf_start, study
from sleep_jax.storage import checkpoint_reading
from tests import hf_files, testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

DAYS = [['Ada sings in Rome.', 'Bo paints.'], ['Cy sails to Lima.', 'Di runs.']]


@pytest.fixture
def loaded(tmp_path, monkeypatch):
  """Writes a base model; returns a list of the initial models of all runs."""
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, sum(DAYS, []))
  hf_files.save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  found, load = [], hf_start.load_initial_model

  def note(*args, **options):
    found.append(load(*args, **options))
    return found[-1]

  monkeypatch.setattr(hf_start, 'load_initial_model', note)
  return found


def _config(folder, *strategies, **evaluate):
  c = tiny_study.shrink(jsonl.get_config())
  c.strategies = strategies
  c.data.update(context=24, max_prompt=12)
  c.pretrain.base_model = str(folder / 'base_model')
  c.evaluate.update({'held_out_batches': 0} | evaluate)
  return c


def _run(folder, name, config, num_days=2):
  """Runs a study of the first days."""
  paths = [folder / f'day{number}.jsonl' for number in range(num_days)]
  for path, texts in zip(paths, DAYS, strict=False):
    path.write_text(''.join(json.dumps({'text': t}) + '\n' for t in texts))
  study.Study(config, str(folder / name), days=list(map(str, paths))).run()


def _weights(folder, name, strategy='hope'):
  path = folder / name / 'seed_0' / strategy / 'checkpoints'
  return checkpoint_reading.latest_weights(str(path))[0]


def _is_deleted(model):
  return {x.is_deleted() for x in jax.tree.leaves(model.weights.params)}


def test_the_only_run_takes_the_arrays_and_ends_with_the_same_bits(
  loaded, tmp_path
):
  _run(tmp_path, 'alone', _config(tmp_path, 'hope'))
  _run(tmp_path, 'two', _config(tmp_path, 'hope', 'sft'))
  alone, shared = loaded
  assert _is_deleted(alone) == {True} and _is_deleted(shared) == {False}
  assert testing.same(_weights(tmp_path, 'alone'), _weights(tmp_path, 'two'))


def test_a_run_that_continues_does_not_read_the_initial_model(loaded, tmp_path):
  config = _config(tmp_path, 'hope')
  _run(tmp_path, 'parts', config, num_days=1)
  _run(tmp_path, 'parts', config)
  assert len(loaded) == 1
  _run(tmp_path, 'whole', config)
  assert testing.same(_weights(tmp_path, 'parts'), _weights(tmp_path, 'whole'))


def test_it_is_kept_where_something_is_compared_with_it(loaded, tmp_path):
  config = _config(tmp_path, 'hope')
  config.ability.prompts = 1
  config.ability.max_new = 2
  _run(tmp_path, 'run', config)
  _run(tmp_path, 'run', config)
  assert [_is_deleted(model) for model in loaded] == [{False}, {False}]

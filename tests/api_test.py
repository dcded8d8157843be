"""A learner in Python: what it is taught stays; its source is not changed."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

import sleep_jax
from sleep_jax import api, errors
from sleep_jax.interop import text_stream
from sleep_jax.runs import session, study
from tests import hf_files, testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

FIRST = ['Ann Bo is a cook.', 'Ann Bo has a cat.']
SECOND = [{'prompt': 'Ann Bo', 'response': 'is in Oslo.'}]


def _files(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }


@pytest.fixture
def source(tmp_path_factory, one_device):
  """Returns the work directory of a finished run."""
  return tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'sleep')


@pytest.fixture
def learner(source):
  return sleep_jax.load(str(source), verbose=False)


def _logits(learner):
  """Returns the model's next-token logits after a few tokens."""
  loaded = learner.loaded
  logits, _ = loaded.model.prefill(
    loaded.weights, jnp.arange(6)[None], jnp.array([6]), cache_size=6
  )
  return np.asarray(logits)


def test_days_taught_one_by_one_are_days_of_an_unbroken_run(
  source, learner, tmp_path
):
  """Stopping before each night and loading again in between changes no bit."""
  before = _files(source)
  learner.wake(FIRST)
  awake = _logits(learner)
  (night,) = learner.sleep()
  assert night['accepted'] and night['night'] == 3
  learner.save(str(tmp_path / 'saved'))
  again = sleep_jax.load(str(tmp_path / 'saved'), verbose=False)
  np.testing.assert_array_equal(_logits(again), _logits(learner))
  again.wake(SECOND)
  again.sleep()
  assert [row['night'] for row in again.loaded.expert_history][-2:] == [3, 4]
  assert not np.array_equal(awake, _logits(again))

  whole = session.Session(str(source), str(tmp_path / 'whole'), verbose=False)
  whole.add_day(FIRST)
  second = tmp_path / 'saved' / session.DAYS / 'day_0002.jsonl'
  whole.day_files.add('day_0002', second.read_text().splitlines())
  whole.run()
  assert testing.same(whole.loaded.weights, again.loaded.weights)
  assert _files(source) == before


def test_an_interrupted_night_is_continued(learner, monkeypatch):
  def interrupt(self, **how):
    raise KeyboardInterrupt

  learner.wake(FIRST)
  with monkeypatch.context() as patch:
    patch.setattr(study.Study, 'run', interrupt)
    with pytest.raises(KeyboardInterrupt):
      learner.sleep()
  with pytest.raises(ValueError, match=r'day_0001.jsonl .* sleep\(\) first'):
    learner.wake(SECOND)
  assert len(learner.sleep()) == 1
  with pytest.raises(ValueError, match=r'Call wake\(rows\) first'):
    learner.sleep()


def test_a_deleted_day_is_not_overwritten_and_stays_learned(learner):
  """The owner may delete the text of a day; what was learned of it stays."""
  learner.wake(FIRST)
  learner.sleep()
  (first,) = learner.session.days
  first.unlink()
  learner.wake(SECOND)
  assert [path.name for path in learner.session.days] == ['day_0002.jsonl']
  assert [night['night'] for night in learner.sleep()] == [4]
  assert not learner.session.needs_night()
  assert len(learner.session.run()) == 4


def test_nothing_is_consolidated_before_anything_was_learned(learner):
  with pytest.raises(ValueError, match='Nothing was learned since'):
    learner.sleep()
  with pytest.raises(ValueError, match='Nothing has been learned yet'):
    learner.save('anywhere')


def test_a_day_that_does_not_fit_is_refused_whole(learner):
  with pytest.raises(ValueError, match='day_0001.jsonl:2: .*context is 14'):
    learner.wake(['Ann Bo.', 'x ' * 40])
  assert not learner.session.days
  learner.wake(FIRST)
  assert [path.name for path in learner.session.days] == ['day_0001.jsonl']


def test_a_forgotten_night_leaves_the_model_as_before_it(learner):
  before = _logits(learner)
  learner.wake(FIRST)
  learner.sleep()
  assert not np.allclose(_logits(learner), before, atol=1e-6)
  assert learner.forget(3)
  np.testing.assert_allclose(_logits(learner), before, atol=1e-5)
  with pytest.raises(ValueError, match='No expert holds night 3'):
    learner.forget(3)


def test_a_finished_run_forgets_without_being_taught(source, learner):
  before = _files(source)
  assert learner.forget(2)
  assert [r['event'] for r in learner.loaded.expert_history][-1] == 'forgotten'
  assert _files(source) == before


def test_generating_one_text_or_several_or_a_stream_is_the_same(learner):
  prompts = ['Who', 'Where is', 'A']
  texts = learner.generate(prompts, max_new=5)
  assert texts == [learner.generate(p, max_new=5) for p in prompts]
  pieces = zip(*learner.stream(prompts, max_new=5), strict=True)
  assert texts == [''.join(row) for row in pieces]
  with pytest.raises(ValueError, match='temperature is nan: expected 0'):
    learner.generate('Who', temperature=float('nan'))
  drawn = dict(max_new=5, temperature=1.0, seed=3)
  assert learner.generate('Who', **drawn) == learner.generate('Who', **drawn)


def test_accuracy_counts_what_generation_says(learner):
  """A greedy answer is right if its text is equal and it ends there."""
  prompts = ['Who', 'Where is', 'A', 'Ann Bo', 'The']
  texts = learner.generate(prompts, max_new=30)
  longer = learner.generate(prompts, max_new=60)
  ended = [a == b for a, b in zip(texts, longer, strict=True)]
  rows = [dict(prompt=p, answer=a) for p, a in zip(prompts, texts, strict=True)]
  found = learner.evaluate(rows)
  assert found['num_probes'] == len(rows) and found['log_likelihood'] < 0
  assert found['accuracy'] == pytest.approx(sum(ended) / len(rows))
  wrong = [dict(row, answer=' Atlantis') for row in rows]
  assert learner.evaluate(wrong)['accuracy'] == 0
  assert learner.evaluate(wrong)['log_likelihood'] < found['log_likelihood']
  with pytest.raises(ValueError, match=r"rows\[0\] has no text 'answer'"):
    learner.evaluate([{'prompt': 'x'}])
  with pytest.raises(ValueError, match='no probes'):
    learner.evaluate([])


def test_a_saved_learner_keeps_the_seed_of_its_run(source, tmp_path):
  config = json.loads((source / 'config.json').read_text())
  run = tmp_path / 'saved' / session.RUN
  run.mkdir(parents=True)
  (run / 'config.json').write_text(json.dumps(config | {'seeds': [3]}))
  again = session.Session(str(tmp_path / 'saved'), verbose=False)
  assert again.seed_folder == run / 'seed_3'


def test_a_copy_of_a_saved_learner_is_continued(source, tmp_path):
  config = (source / 'config.json').read_text()
  saved, own = tmp_path / 'saved', tmp_path / 'own'
  (saved / session.RUN).mkdir(parents=True)
  (saved / session.RUN / 'config.json').write_text(config)
  for days in ([], ['day_0001']):
    opened = session.Session(str(saved), str(own), verbose=False)
    assert [path.stem for path in opened.days] == days
    if not days:
      opened.day_files.add('day_0001', [json.dumps({'text': 'Zoe sings.'})])
  (tmp_path / 'other').mkdir()
  (tmp_path / 'other' / 'notes').touch()
  with pytest.raises(FileExistsError, match='other is not empty'):
    session.Session(str(saved), str(tmp_path / 'other'), verbose=False)
  with pytest.raises(FileExistsError, match='saved is not empty'):
    opened.save(str(saved))


def test_another_strategy_can_be_read_and_not_taught(
  tmp_path_factory, one_device
):
  folder = tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'hope')
  hope = sleep_jax.load(str(folder), strategy='hope', verbose=False)
  assert hope.generate('Who', max_new=2) is not None
  with pytest.raises(
    ValueError, match="strategy 'hope', which can be read but"
  ):
    hope.wake(FIRST)


def test_a_run_whose_strategy_trains_no_weights_is_not_loaded(source):
  with pytest.raises(ValueError, match="strategy 'rag' trains no weights"):
    sleep_jax.load(str(source), strategy='rag', verbose=False)


@pytest.fixture
def base_model(tmp_path):
  """Returns the folder of a tiny pretrained model without a chat template."""
  folder = tmp_path / 'base_model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['a cat sat', 'a dog ran'])
  hf_files.save(folder, 'llama', vocab_size=300, eos_token_id=end)
  return folder


def test_an_exported_model_generates_the_same_text(
  base_model, tmp_path, monkeypatch
):
  learner = sleep_jax.load(str(base_model), verbose=False)
  learner.export(str(tmp_path / 'dense'))
  dense = sleep_jax.load(str(tmp_path / 'dense'), verbose=False)
  prompts = ['a cat', 'a dog']
  assert dense.generate(prompts, max_new=4) == learner.generate(
    prompts, max_new=4
  )
  file = str(tmp_path / 'dense.gguf')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  learner.export(file, 'gguf-f16')
  assert sleep_jax.load(file, verbose=False).generate(
    prompts, max_new=4
  ) == learner.generate(prompts, max_new=4)
  with pytest.raises(ValueError, match=r"'gguf': expected one of \('hf', 'ggu"):
    learner.export(str(tmp_path / 'x'), 'gguf')
  with pytest.raises(FileNotFoundError, match='no chat template'):
    learner.answer('hello')


def test_a_prompt_gets_no_bos_that_its_tokenizer_does_not_put(
  base_model, monkeypatch
):
  learner = sleep_jax.load(str(base_model), verbose=False)
  rows = []
  monkeypatch.setattr(
    text_stream, 'stream', lambda *parts, **_: rows.extend(parts[3]) or [['x']]
  )
  assert learner.generate('a cat') == 'x'
  assert rows == [learner.loaded.tokenizer.encode('a cat')]


def test_a_model_with_attached_experts_is_not_taught(base_model, tmp_path):
  learner = sleep_jax.load(
    str(base_model), experts=str(tmp_path / 'none'), verbose=False
  )
  for teach in (lambda: learner.wake(FIRST), learner.sleep):
    with pytest.raises(ValueError, match='Experts were attached from a file'):
      teach()
  with pytest.raises(FileNotFoundError, match='none does not exist'):
    learner.generate('a cat')


def test_a_run_that_was_pretrained_here_answers_no_messages(learner):
  with pytest.raises(ValueError, match=r'use generate\(prompt\) instead'):
    learner.answer('hello')


def test_a_work_directory_of_version_0_1_is_refused(source, tmp_path):
  config = json.loads((source / 'config.json').read_text())
  config['birth'] = config.pop('pretrain')
  (tmp_path / 'config.json').write_text(json.dumps(config))
  with pytest.raises(ValueError, match='written by version 0.1'):
    api.load(str(tmp_path)).generate('Who')
  with pytest.raises(ValueError, match='written by version 0.1'):
    study.Study(tiny_study.config(), str(tmp_path))


def test_a_run_that_does_not_exist_cannot_be_taught(source, tmp_path):
  learner = sleep_jax.load(
    str(source), str(tmp_path / 'own'), seed=7, verbose=False
  )
  with pytest.raises(errors.MissingFileError, match='seed_7/sleep has no'):
    learner.wake(['Zoe is a cook.'])

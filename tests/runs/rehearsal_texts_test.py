"""A pretrained model writes texts before its first day, to be rehearsed."""

import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from configs import jsonl
from sleep_jax import errors, types
from sleep_jax.config import checks
from sleep_jax.evaluate import asking
from sleep_jax.replay import buffer
from sleep_jax.runs import rehearsal_texts, study
from sleep_jax.runtime import sharding
from sleep_jax.storage import checkpoint_reading
from tests import hf_files, tiny_study
from tests.evaluate import ability_model

one_device = tiny_study.one_device
WIDTH, NUM = 64, 12
TOKENIZER = ability_model.TOKENIZER
FORMS = {
  'plain': ability_model.FORM,
  'chat': asking.make_form(TOKENIZER, ability_model.Template()),
}


def _write(form, **changes):
  settings = dict(num=NUM, width=WIDTH, seed=0) | changes
  return rehearsal_texts.write(
    ability_model.model(), ability_model.weights(), TOKENIZER, form, **settings
  )


@pytest.mark.parametrize('name', FORMS)
def test_half_begin_anywhere_and_a_quarter_are_conversations(name):
  form = FORMS[name]
  texts = _write(form)
  opening = form.ask('')[: 4 if name == 'plain' else 6]
  asked = [text for text in texts if text.tokens[: len(opening)] == opening]
  free = [text for text in texts if text not in asked]
  # A request of blanks alone is left out.
  assert NUM // 8 <= len(asked) <= NUM // 2 and len(free) == NUM // 2
  assert all(len(text.tokens) <= WIDTH for text in texts)
  for tokens, start in asked:
    assert start >= len(opening)
    rest = tokens[start:]
    # The form goes on where the request ends, and an answer follows.
    ending = form.ask('x')[form.ask('x').index(120) + 1 :]
    places = [
      n for n in range(len(rest)) if rest[n : n + len(ending)] == ending
    ]
    assert places and len(rest) > places[0] + len(ending)
  for tokens, start in free:
    assert tokens[0] == TOKENIZER.bos and start == 1
    assert not set(tokens[1:-1]) & set(form.ends)
  assert len({text.tokens[1] for text in free}) > 1


def test_the_number_of_finished_texts_is_told():
  told = []
  texts = _write(FORMS['plain'], advance=told.append)
  assert len(told) == 2 and sum(told) == len(texts)


def test_a_quarter_ask_about_a_passage_that_the_model_wrote(monkeypatch):
  """A stand-in writes the same line always."""
  line = TOKENIZER.encode('Who is it? I')

  def generate(model, weights, prompts, *, max_new, **options):
    del model, weights, options
    return [line[:max_new] for _ in prompts]

  monkeypatch.setattr(rehearsal_texts.asking, 'generate', generate)
  form, width = FORMS['chat'], 128
  texts = [TOKENIZER.decode(text.tokens) for text in _write(form, width=width)]
  asked = [text for text in texts if text.count('Who is it?') == 3]
  assert len(asked) == NUM // 4
  # The passage is as the model wrote it, and the question ends with its mark.
  assert all(text.count('Who is it? I') == 2 for text in asked)
  assert len(set(asked)) > 1
  # Without room for a passage there are only the other kinds.
  short = [TOKENIZER.decode(text.tokens) for text in _write(form, width=44)]
  assert len(short) == NUM - NUM // 4
  assert not [text for text in short if text.count('Who is it?') == 3]


def test_some_ask_about_people_whom_the_model_invents(monkeypatch):
  """A stand-in writes sentences, ends of questions and answers."""
  lines = itertools.cycle([
    ' Bo Lind sings.\n', ' Mara Lund keeps bees.\n', ' It rains.\n',
    ' Mia Holm owns a boat.\n', ' Bo Lind paints.\n', ' Leo Orr was an',
  ])  # fmt: skip

  def reply(text):
    if text.startswith('Sentences about'):
      return next(lines)
    return ' own?\n' if text.startswith('Text: ') else ' A man.'

  def generate(model, weights, prompts, *, max_new, **options):
    del model, weights, options
    return [
      TOKENIZER.encode(reply(TOKENIZER.decode(prompt)))[:max_new]
      for prompt in prompts
    ]

  monkeypatch.setattr(rehearsal_texts.asking, 'generate', generate)
  settings = dict(num=16, width=128)
  people = 6
  texts = _write(FORMS['chat'], people=people, **settings)
  others = _write(FORMS['chat'], **settings | {'num': 16 - people})
  # Names of the examples, and those that come again, are left out.
  asked = [TOKENIZER.decode(text.tokens) for text in texts]
  about = [text for text in asked if 'Bo Lind' in text or 'Mia Holm' in text]
  assert len(about) == 2 and len(texts) == len(others) + 2
  assert 'What does Bo Lind own?' in about[0]
  assert 'Where does Mia Holm own?' in about[1]
  assert all(text.endswith(' A man.') for text in about)
  assert not any('Mara Lund' in text or 'Leo Orr' in text for text in asked)


def test_another_seed_writes_others_and_the_same_seed_the_same():
  form = FORMS['chat']
  assert _write(form) == _write(form)
  assert _write(form, seed=1) != _write(form)


def test_too_little_room_names_what_is_needed():
  with pytest.raises(errors.ConfigError, match='own_texts needs a max_length'):
    _write(FORMS['plain'], width=24)


def test_states_predict_the_tokens_that_the_model_wrote():
  texts = _write(FORMS['chat'])
  model, weights = ability_model.model(), ability_model.weights()
  group = buffer.allocate_own_texts(16, width=WIDTH, state_size=16)
  past = buffer.allocate({buffer.PAST: 4}, width=8)
  filled = rehearsal_texts.insert(
    past | {buffer.OWN_TEXTS: group}, texts, model, weights, sharding.make()
  )
  assert filled[buffer.PAST] is past[buffer.PAST]
  found = filled[buffer.OWN_TEXTS]
  assert found.states_CGD.shape == group.states_CGD.shape
  for n in (0, len(texts) - 1, 15):
    tokens, start = texts[n % len(texts)]
    row = np.asarray(found.tokens_CP[n])[: int(found.length_C[n])]
    assert row.tolist() == tokens
    inputs = types.model_inputs(jnp.asarray([tokens]), jnp.array([len(tokens)]))
    expected_TD = model.states(weights, *inputs)[0]
    num = len(tokens) - start
    np.testing.assert_allclose(
      found.states_CGD[n, :num], expected_TD[start - 1 : start - 1 + num],
      atol=1e-5,
    )  # fmt: skip


def _config(home, base_model):
  c = tiny_study.shrink(jsonl.get_config())
  c.data.path = str(home / 'days')
  c.data.update(context=24, max_prompt=12)
  c.pretrain.base_model = str(base_model)
  c.replay.update(pretrain=0, own_texts=8)
  c.consolidate.update(max_length=48, on_policy=0.0)
  first = dict(teacher='first', prompts='own_texts', max_new=40)
  c.consolidate.teachers = (
    *c.consolidate.teachers,
    dict(sequences=2, draws=4) | first,
  )
  c.wake.kl_penalty.update(weight=0.5, sequences=2, draws=4, **first)
  return c


@pytest.fixture
def base_model(tmp_path):
  folder = tmp_path / 'model'
  folder.mkdir()
  end = hf_files.save_tokenizer(folder, ['Ada sings.', 'Bo paints.'])
  hf_files.save(folder, 'qwen3', vocab_size=300, eos_token_id=end)
  (tmp_path / 'days').mkdir()
  return folder


@pytest.mark.usefixtures('one_device')
def test_a_run_keeps_them_over_days_and_resumes_with_the_same(
  tmp_path, base_model
):
  days = tmp_path / 'days'

  def run(folder):
    c = _config(tmp_path, base_model)
    (found,) = study.Study(c, str(tmp_path / folder)).run()
    saved = tmp_path / folder / 'seed_0' / 'sleep' / 'checkpoints'
    groups = checkpoint_reading.latest_replay(str(saved))
    group = groups[buffer.OWN_TEXTS]
    return found, {name: group[name] for name in ('length_C', 'states_CGD')}

  def add_day(number, text):
    (days / f'day{number}.jsonl').write_text(json.dumps({'text': text}) + '\n')

  add_day(1, 'Ada sings in Rome.')
  _, first = run('parts')
  add_day(2, 'Cy sails to Lima.')
  found, second = run('parts')
  whole, third = run('whole')
  assert first['length_C'].all() and first['states_CGD'].any()
  for other in (second, third):
    for name, leaf in first.items():
      np.testing.assert_array_equal(leaf, other[name])
  without_times = tiny_study.without_times
  assert without_times(found['nights']) == without_times(whole['nights'])
  divergence = whole['nights'][-1]['divergence'][-1]
  assert np.isfinite(divergence['first_own_texts'])


@pytest.mark.usefixtures('one_device')
def test_strategies_that_never_sleep_do_without_them(
  tmp_path, base_model, monkeypatch
):
  text = '{"text": "Ada sings in Rome."}\n'
  (tmp_path / 'days' / 'day1.jsonl').write_text(text)
  written = []
  write = rehearsal_texts.write

  def counted(*args, **settings):
    assert settings['people'] == 2
    written.append(write(*args, **settings))
    return written[-1]

  monkeypatch.setattr(rehearsal_texts, 'write', counted)
  found = {}
  for strategies, times in ((('sft',), 0), (('sleep', 'sft'), 1)):
    c = _config(tmp_path, base_model)
    c.strategies, c.tune.learning_rates = strategies, (1e-3,)
    c.replay.about_people = 2
    study.Study(c, str(tmp_path / strategies[0])).run()
    assert len(written) == times
    home = tmp_path / strategies[0] / 'seed_0' / 'sft'
    found[strategies] = (home / 'metrics.jsonl').read_text().splitlines()
  alone, beside = (
    [json.loads(line).get('loss') for line in lines] for lines in found.values()
  )
  assert alone == beside and any(alone)


def test_more_texts_about_people_than_texts_are_refused(tmp_path):
  c = _config(tmp_path, '')
  c.replay.about_people = 9
  with pytest.raises(
    errors.ConfigError, match='about_people is 9, but only 8 own'
  ):
    checks.check(c.to_dict())


def test_a_run_without_a_base_model_is_told_before_it_starts(tmp_path):
  (tmp_path / 'days').mkdir()
  (tmp_path / 'days' / 'a.jsonl').write_text('{"text": "Ada sings."}\n')
  c = _config(tmp_path, '')
  with pytest.raises(errors.ConfigError, match='own_texts is 8, but there is'):
    study.Study(c, str(tmp_path / 'run')).run()

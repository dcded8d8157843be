"""Tests of dreaming nights: rewarded dreams train only the newest expert."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sleep_jax.dream import dream_records, seeding
from sleep_jax.model import config
from sleep_jax.runs import context
from sleep_jax.schedule import events
from tests import testing, tiny_study

SLOT = 1


def _config(**dream):
  c = testing.config()
  c.consolidate.update(max_length=10, prompt_width=6, max_new=4)
  c.expert_optimizer = dict(learning_rate=1e-2)
  adapter = dict(
    rank=2,
    alpha=4.0,
    targets=('query', 'down'),
    steps=2,
    batch=4,
    learning_rate=2e-2,
  )
  c.dream.update(
    on=True,
    novelty=True,
    candidates=12,
    texts=4,
    top=4,
    random=4,
    old=8,
    sequences=8,
    num_updates=4,
    updates_per_round=2,
    learning_rate=1e-2,
    trial=adapter,
    writer=adapter,
  )
  c.dream.update(dream)
  return c


@functools.cache
def _start(mesh=(1, 1, 1), sequence=1):
  """Returns programs, and a state with two active experts, the second newer."""
  data, fsdp, tensor = mesh
  place = testing.placement(
    data=data, fsdp=fsdp, sequence=sequence, tensor=tensor
  )
  programs, state = testing.make_run(_config(), place)
  return programs, state.replace(
    weights=testing.activate(state.weights, 2, 0, SLOT)
  )


@jax.jit
def _copy(state):
  return jax.tree.map(jnp.copy, state)


@functools.cache
def _dreams(*mesh):
  """Returns the state after dreaming, and the dream records."""
  programs, state = _start(*mesh)
  with jax.set_mesh(programs.placement.mesh):
    asleep, records = programs.dream(_copy(state), 1, SLOT, testing.task())
  return jax.device_get(asleep), jax.device_get(records)


@functools.cache
def _seeded():
  """Marks some dreams as rewarded and runs all seeding rounds.

  Returns:
    The state before waking, and the writer's divergence per update.
  """
  programs, _ = _start()
  asleep, _ = _dreams()
  weight_B = np.zeros_like(asleep.night.dreams.weight_B)
  weight_B[2:6] = 1
  dreams = asleep.night.dreams
  length_B = np.where(weight_B > 0, dreams.texts.prompt_length_B, 0)
  dreams = dreams.replace(
    weight_B=weight_B, asked=dreams.asked.replace(length_B=length_B)
  )
  asleep = asleep.replace(night=asleep.night.replace(dreams=dreams))
  asleep = programs.placement.put(_copy(asleep))
  losses = []
  for _ in range(2):
    asleep, metrics = programs.seed(asleep, 1, phase='dream')
    losses += np.asarray(metrics['writer_dreams']).tolist()
  return jax.device_get(asleep), losses


def test_writing_and_trying_dreams_changes_no_weight():
  _, state = _start()
  asleep, records = _dreams()
  assert testing.same(asleep.replace(night=None), jax.device_get(state))
  assert asleep.night.fresh.keys() == {'2'}
  for name, leaf in asleep.night.fresh['2'].items():
    bank = state.weights.params[f'blocks/levels/2/experts/{name}']
    np.testing.assert_array_equal(leaf, bank[:, SLOT])
  assert records['document'].shape == (2, 12)


def test_only_dreams_with_a_gain_are_rewarded_and_have_weight():
  asleep, records = _dreams()
  tried, rewarded = records['tried'], records['rewarded']
  assert tried.any() and (tried.sum(1) <= 8).all()
  np.testing.assert_array_equal(rewarded, tried & (records['gain'] > 0))
  assert rewarded.any() and not rewarded[tried].all()
  whole = records['texts']['whole']
  num_texts = sum(int(whole[r, d].sum()) for r, d in np.argwhere(rewarded))
  assert float(asleep.night.dreams.weight_B.sum()) == num_texts
  # Rows with weight are the usable texts of rewarded dreams, token by token.
  texts = asleep.night.dreams.texts
  kept = {
    tuple(row[:size])
    for row, size, weight in zip(
      texts.tokens_BT.tolist(),
      texts.length_B,
      asleep.night.dreams.weight_B,
      strict=True,
    )
    if weight
  }
  expected = {
    tuple(
      records['texts']['tokens'][r, d, k][: records['texts']['length'][r, d, k]]
    )
    for r, d in np.argwhere(rewarded)
    for k in range(4)
    if whole[r, d, k]
  }
  assert kept == expected
  assert all(text[-1] == testing.EOS for text in kept)


def test_novelty_opens_an_active_expert_and_is_off_by_default():
  _, records = _dreams()
  slots = testing.SLOTS
  experts = set(records['texts']['expert'].ravel().tolist())
  assert experts == {
    slots + 0,
    slots + SLOT,
  }  # Slots of levels 1 and 2, flattened.
  programs, state = _start()
  rounds, templates = (
    programs._dreamings[1].dream_rounds,
    programs._dream_templates,
  )
  plain = dataclasses.replace(
    rounds, dreams=dataclasses.replace(rounds.dreams, novelty=False)
  )
  with_, without = (
    jax.jit(r._write)(
      state.weights, jax.random.key(0), templates, testing.task()
    )
    for r in (rounds, plain)
  )
  assert set(without[3].tolist()) == {-1}
  tokens = [np.asarray(texts.tokens_BT) for texts, *_ in (with_, without)]
  assert not np.array_equal(*tokens)


def test_the_same_state_gives_the_same_dreams():
  programs, state = _start()
  with jax.set_mesh(programs.placement.mesh):
    again, records = programs.dream(_copy(state), 1, SLOT, testing.task())
  asleep, first = _dreams()
  assert testing.same(jax.device_get(again), asleep)
  assert testing.same(jax.device_get(records), first)


def test_a_rejected_night_of_dreams_changes_nothing():
  programs, state = _start()
  asleep, records = _dreams()
  nothing = {**records, 'rewarded': np.zeros_like(records['rewarded'])}
  assert dream_records.discard_reason(nothing) == 'no dream was rewarded'
  morning = programs.wake_from_dream(_copy(asleep), 1, accept=False)
  assert testing.same(jax.device_get(morning), jax.device_get(state))


def test_an_accepted_night_changes_only_the_newest_expert():
  programs, state = _start()
  seeded, losses = _seeded()
  assert losses[-1] < losses[0]
  morning = jax.device_get(
    programs.wake_from_dream(_copy(seeded), 1, accept=True)
  )
  assert morning.night is None
  np.testing.assert_array_equal(
    morning.weights.active_NE, state.weights.active_NE
  )
  before, after = (s.weights.params for s in (state, morning))
  changed = testing.changed(before, after)
  bank = 'blocks/levels/2/experts/'
  assert changed and all(path.startswith(bank) for path in changed)
  for path in changed:
    others = [e for e in range(testing.SLOTS) if e != SLOT]
    np.testing.assert_array_equal(
      after[path][:, others], np.asarray(before[path])[:, others]
    )
  reset = morning.replace(weights=state.weights, replay=state.replay)
  assert testing.same(reset, jax.device_get(state))


def test_prompts_of_rewarded_dreams_are_stored_once():
  programs, state = _start()
  seeded, _ = _seeded()
  morning = jax.device_get(
    programs.wake_from_dream(_copy(seeded), 1, accept=True)
  )
  dreams, past = seeded.night.dreams, morning.replay['past']
  expected = {
    tuple(tokens[:size])
    for tokens, size, weight in zip(
      dreams.asked.tokens_BP.tolist(),
      dreams.asked.length_B,
      dreams.weight_B,
      strict=True,
    )
    if weight
  }
  before = int(state.replay['past'].count)
  stored = [
    (tuple(past.tokens_CP[at, : past.length_C[at]].tolist()), past.step_C[at])
    for at in range(before, int(past.count))
  ]
  assert sorted(tokens for tokens, _ in stored) == sorted(expected)
  assert {step for _, step in stored} == {int(state.step)}
  for tokens, (start, stop) in zip(
    past.tokens_CP[before : int(past.count)],
    past.subject_C2[before : int(past.count)],
    strict=True,
  ):
    subject = tokens[start:stop].tolist()
    assert subject in [p.tolist() for p in _subjects()]
  others = {name: b for name, b in morning.replay.items() if name != 'past'}
  assert testing.same(
    others, {name: jax.device_get(state).replay[name] for name in others}
  )


def _subjects():
  """Returns the subjects of the task's documents."""
  prompts = testing.task().prompts
  return [
    np.asarray(tokens[start:stop])
    for tokens, (start, stop) in zip(
      prompts.tokens_BP, np.asarray(prompts.subject_B2), strict=True
    )
  ]


def test_the_teachers_are_the_unchanged_model_and_the_writer():
  """Before the first update the student equals the model."""
  programs, state = _start()
  night = programs._dreamings[1]
  asleep = _copy(_dreams()[0])
  student = night.student(asleep)
  assert float(student.active_NE[1, SLOT]) == 0
  batch = testing.batch()
  rows = batch.tokens_BT, batch.segments_BT, batch.positions_BT
  forward = testing.forward(programs.model)
  plain = forward(state.weights, *rows)
  np.testing.assert_allclose(forward(student, *rows), plain, atol=1e-5)
  assert night.teacher(asleep, 'morning') is asleep.weights
  writer = night.teacher(asleep, seeding.WRITER)
  assert np.abs(forward(writer, *rows) - plain).max() > 1e-3


def test_dreams_on_many_devices_equal_those_on_one():
  single, records = _dreams()
  sharded, other = _dreams((2, 2, 1), 2)  # By rows, by weights, by positions.
  np.testing.assert_array_equal(
    records['texts']['tokens'], other['texts']['tokens']
  )
  np.testing.assert_allclose(records['gain'], other['gain'], atol=1e-4)
  assert testing.same(single.night.dreams.texts, sharded.night.dreams.texts)


def test_a_number_of_trials_that_the_devices_do_not_divide_is_refused():
  place = testing.placement(data=8, fsdp=1, tensor=1)
  c = _config(top=3, random=2)
  c.replay.update(pretrain=16, past=16, day=16)
  programs, state = testing.make_run(c, place)
  with pytest.raises(ValueError, match='8 devices does not divide .* 5 in'):
    programs.dream(_copy(state), 1, SLOT, testing.task())


@pytest.mark.parametrize('order', ['after', 'before'])
def test_dreams_follow_or_precede_the_nights_of_a_day(order):
  c = testing.config((1, 2), (2, 'experience'))
  levels = tuple(config.Level(**level) for level in c.to_dict()['levels'])
  plan = events.make_events(levels, num_experiences=2, steps=4, dreams=order)
  kinds = [(e.kind, e.sender) for e in plan if e.kind in ('sleep', 'dream')]
  nights, dream = [('sleep', 1), ('sleep', 2)], ('dream', 2)
  day = [*nights, dream] if order == 'after' else [dream, *nights]
  assert kinds == [('sleep', 1), *day] * 2
  never = events.make_events(levels, num_experiences=2, steps=4)
  assert all(e.kind != 'dream' for e in never)


@functools.cache
def _tiny_study():
  c = tiny_study.config(prompts=('old',))
  c.data.settings.update(readings=8, practice=1)
  c.data.context = 34
  c.pretrain.steps = 120  # A less trained model does not end its texts.
  c.pretrain.optimizer.update(warmup=10, decay_steps=120)
  c.dream.on = True
  return tiny_study.TinyStudy(c)


@pytest.fixture(scope='module')
def unbroken(tmp_path_factory):
  """An uninterrupted run with dreams.

  Returns:
    Final state, record, text of dreams.jsonl, number of possible stops.
  """
  folder = tmp_path_factory.mktemp('dreams')
  study = _tiny_study().make_initial_model(folder / 'pretrain')
  calls = itertools.count()
  state, record = study.run(
    'sleep', folder / 'unbroken', stop=lambda: next(calls) < 0
  )
  text = (folder / 'unbroken' / 'dreams.jsonl').read_text()
  return state, record, text, next(calls)


def test_a_run_with_dreams_writes_one_row_per_dream(unbroken):
  _, record, text, _ = unbroken
  nights = [n for n in record['nights'] if n['phase'] == 'dream']
  assert [n['night'] for n in nights] == [2, 4]
  rows = [json.loads(line) for line in text.splitlines()]
  assert rows == json.loads(json.dumps(record['dreams']))
  assert len(rows) == 2 * 2 * 8  # Days x rounds x candidates.
  documents = [
    row.text
    for task in _tiny_study().stream.dataset.tasks.values()
    for row in task.documents
  ]
  assert {row['about'] for row in rows} == set(documents)
  for row in rows:
    assert (row['kept'] == 'rewarded') == ((row['gain'] or 0) > 0)
    never = row['kept'] in ('not tried', 'no whole text')
    assert (row['gain'] is None) == never
  for night in nights:
    rewarded = sum(night['dreams']['rewarded'])
    assert night['accepted'] == (rewarded > 0) == (not night['reason'])
    own = [r for r in rows if r['night'] == night['night']]
    assert sum(r['kept'] == 'rewarded' for r in own) == rewarded
  assert any(n['accepted'] for n in nights)
  history = [(e['night'], e['slot'], e['event']) for e in record['ledger']]
  for night in nights:
    entry = (night['night'], night['slot'], 'dreamt')
    assert (entry in history) == night['accepted']


def test_a_run_interrupted_while_dreaming_ends_like_an_unbroken_one(
  unbroken, tmp_path
):
  state, record, text, num_stops = unbroken
  # Wake steps of two days, seeding rounds, ends of nights, ends of cycles.
  rounds = sum(len(n['divergence']) for n in record['nights'])
  assert num_stops == 2 * 4 + rounds + len(record['nights']) + 2
  for stop in (8, 1):  # Within the seeding of dreams, then again.
    calls = itertools.count(1)
    with pytest.raises(context.Interrupted):
      _tiny_study().run(
        'sleep', tmp_path, stop=lambda i=calls, s=stop: next(i) == s
      )
  other_state, other_record = _tiny_study().run('sleep', tmp_path)
  assert testing.same(state, other_state)
  assert tiny_study.without_times(record) == tiny_study.without_times(
    other_record
  )
  assert text == (tmp_path / 'dreams.jsonl').read_text()


def test_dreams_before_the_first_night_are_discarded(tmp_path):
  study = _tiny_study().make_initial_model(tmp_path / 'pretrain')
  _, record = study.run('sleep', tmp_path / 'run', dreams='before')
  first = record['nights'][0]
  assert first['phase'] == 'dream' and not first['accepted']
  assert 'no newest expert' in first['reason']
  assert record['nights'][2]['slot'] == record['nights'][1]['slot']


@pytest.mark.parametrize(
  'change, message',
  [
    (dict(dataset=True), 'practice'),
    (dict(into='base'), "consolidate.into is 'base'"),
    (dict(teachers=True), "prompts 'old'"),
  ],
)
def test_a_config_that_cannot_dream_is_refused(change, message):
  c = _config()
  if 'dataset' in change:
    plain = tiny_study.config()
    plain.dream.on = True
    with pytest.raises(ValueError, match=message):
      tiny_study.TinyStudy(plain).programs('sleep')
    return
  if 'into' in change:
    c.consolidate.into = 'base'
  else:
    c.consolidate.teachers = c.consolidate.teachers[1:]
  with pytest.raises(ValueError, match=message):
    testing.make_run(c, testing.placement(data=1, fsdp=1, tensor=1))


def _records(**changes):
  """Returns dream records of one round of two dreams."""
  row = dict(tried=True, rewarded=True, gain=0.5, nothing=-1.0) | changes
  return {
    'tried': np.array([[row['tried'], False]]),
    'rewarded': np.array([[row['rewarded'], False]]),
    'gain': np.array([[row['gain'], 0.0]]),
    'nothing': np.array([row['nothing']]),
  }


@pytest.mark.parametrize(
  'changes, message',
  [
    (dict(), ''),
    (dict(nothing=float('nan')), 'NaN'),
    (dict(tried=False, rewarded=False), 'no dream has a usable text'),
    (dict(gain=0.0, rewarded=False), 'constant'),
    (dict(gain=-0.1, rewarded=False), 'no dream was rewarded'),
  ],
)
def test_a_discarded_night_has_a_reason(changes, message):
  reason = dream_records.discard_reason(_records(**changes))
  assert message in reason and bool(message) == bool(reason)

"""Dreaming: what helped goes into the newest expert, and nothing else moves."""

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
from sleep_jax.runs import loop
from sleep_jax.schedule import events
from tests import testing, town

SLOT = 1


def _config(**dream):
  c = testing.config()
  c.consolidate.update(max_length=10, prompt_width=6, max_new=4)
  c.expert_optimizer = dict(learning_rate=1e-2)
  adapter = dict(
    rank=2, alpha=4.0, targets=('query', 'down'), steps=2, batch=4,
    learning_rate=2e-2,
  )  # fmt: skip
  c.dream.update(
    on=True, novelty=True, candidates=12, texts=4, top=4, random=4, old=8,
    sequences=8,
    num_updates=4, updates_per_round=2, learning_rate=1e-2, trial=adapter,
    writer=adapter,
  )  # fmt: skip
  c.dream.update(dream)
  return c


@functools.cache
def _life(mesh=(1, 1, 1), sequence=1):
  """Programs, and a state with two experts on, the second the newest."""
  data, fsdp, tensor = mesh
  place = testing.placement(
    data=data, fsdp=fsdp, sequence=sequence, tensor=tensor
  )
  programs, state = testing.life(_config(), place)
  return programs, state.replace(
    weights=testing.activate(state.weights, 2, 0, SLOT)
  )


@jax.jit
def _copy(state):
  return jax.tree.map(jnp.copy, state)


@functools.cache
def _dreamt(*mesh):
  programs, state = _life(*mesh)
  with jax.set_mesh(programs.placement.mesh):
    asleep, found = programs.dream(_copy(state), 1, SLOT, testing.task())
  return jax.device_get(asleep), jax.device_get(found)


@functools.cache
def _seeded():
  """Some dreams rewarded by hand, and the night seeded to its end."""
  programs, _ = _life()
  asleep, _ = _dreamt()
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


def test_dreaming_itself_moves_no_weight():
  _, state = _life()
  asleep, found = _dreamt()
  assert testing.same(asleep.replace(night=None), jax.device_get(state))
  assert asleep.night.fresh.keys() == {'2'}
  for name, leaf in asleep.night.fresh['2'].items():
    bank = state.weights.params[f'blocks/levels/2/experts/{name}']
    np.testing.assert_array_equal(leaf, bank[:, SLOT])
  assert found['document'].shape == (2, 12)


def test_only_dreams_that_gained_are_rewarded_and_only_those_weigh():
  asleep, found = _dreamt()
  tried, rewarded = found['tried'], found['rewarded']
  assert tried.any() and (tried.sum(1) <= 8).all()
  np.testing.assert_array_equal(rewarded, tried & (found['gain'] > 0))
  assert rewarded.any() and not rewarded[tried].all()
  whole = found['texts']['whole']
  weighs = sum(int(whole[r, d].sum()) for r, d in np.argwhere(rewarded))
  assert float(asleep.night.dreams.weight_B.sum()) == weighs
  # Each weighs as it was dreamt: the same tokens, whole, with its document.
  texts = asleep.night.dreams.texts
  kept = {
    tuple(row[:size])
    for row, size, weight in zip(
      texts.tokens_BT.tolist(), texts.length_B,
      asleep.night.dreams.weight_B, strict=True,
    )
    if weight
  }  # fmt: skip
  said = {
    tuple(
      found['texts']['tokens'][r, d, k][: found['texts']['length'][r, d, k]]
    )
    for r, d in np.argwhere(rewarded)
    for k in range(4)
    if whole[r, d, k]
  }
  assert kept == said and all(text[-1] == testing.EOS for text in kept)


def test_an_open_expert_is_one_that_is_on_and_none_without_novelty():
  _, found = _dreamt()
  slots = testing.SLOTS
  experts = set(found['texts']['expert'].ravel().tolist())
  assert experts == {slots + 0, slots + SLOT}  # Of levels 1 and 2, in a row.
  programs, state = _life()
  open_, (templates, _) = programs._dreamings[1].curriculum, programs._dreamt
  plain = dataclasses.replace(
    open_, dreams=dataclasses.replace(open_.dreams, novelty=False)
  )
  with_, without = (
    jax.jit(n._write)(
      state.weights, jax.random.key(0), templates, testing.task()
    )
    for n in (open_, plain)
  )
  assert set(without[3].tolist()) == {-1}
  said = [np.asarray(texts.tokens_BT) for texts, *_ in (with_, without)]
  assert not np.array_equal(*said)


def test_the_same_night_dreams_the_same():
  programs, state = _life()
  with jax.set_mesh(programs.placement.mesh):
    again, found = programs.dream(_copy(state), 1, SLOT, testing.task())
  asleep, first = _dreamt()
  assert testing.same(jax.device_get(again), asleep)
  assert testing.same(jax.device_get(found), first)


def test_dreams_that_are_not_accepted_change_nothing():
  programs, state = _life()
  asleep, found = _dreamt()
  nothing = {**found, 'rewarded': np.zeros_like(found['rewarded'])}
  assert dream_records.discard_reason(nothing) == 'no dream was rewarded'
  morning = programs.wake_from_dream(_copy(asleep), 1, accept=False)
  assert testing.same(jax.device_get(morning), jax.device_get(state))


def test_the_gain_goes_into_the_newest_expert_and_nowhere_else():
  programs, state = _life()
  seeded, losses = _seeded()
  assert losses[-1] < losses[0]
  morning = jax.device_get(programs.wake_from_dream(_copy(seeded), 1, accept=True))
  assert morning.night is None
  np.testing.assert_array_equal(
    morning.weights.active_NE, state.weights.active_NE
  )
  before, after = (s.weights.params for s in (state, morning))
  moved = testing.changed(before, after)
  bank = 'blocks/levels/2/experts/'
  assert moved and all(path.startswith(bank) for path in moved)
  for path in moved:
    others = [e for e in range(testing.SLOTS) if e != SLOT]
    np.testing.assert_array_equal(
      after[path][:, others], np.asarray(before[path])[:, others]
    )
  still = morning.replace(weights=state.weights, replay=state.replay)
  assert testing.same(still, jax.device_get(state))


def test_what_rewarded_dreams_were_asked_is_remembered_once():
  programs, state = _life()
  seeded, _ = _seeded()
  morning = jax.device_get(programs.wake_from_dream(_copy(seeded), 1, accept=True))
  dreams, past = seeded.night.dreams, morning.replay['past']
  expected = {
    tuple(tokens[:size])
    for tokens, size, weight in zip(
      dreams.asked.tokens_BP.tolist(), dreams.asked.length_B, dreams.weight_B,
      strict=True,
    )
    if weight
  }  # fmt: skip
  before = int(state.replay['past'].count)
  found = [
    (tuple(past.tokens_CP[at, : past.length_C[at]].tolist()), past.step_C[at])
    for at in range(before, int(past.count))
  ]
  assert sorted(tokens for tokens, _ in found) == sorted(expected)
  assert {step for _, step in found} == {int(state.step)}
  for tokens, (start, stop) in zip(
    past.tokens_CP[before : int(past.count)],
    past.subject_C2[before : int(past.count)], strict=True,
  ):  # fmt: skip
    subject = tokens[start:stop].tolist()
    assert subject in [p.tolist() for p in _subjects()]
  others = {name: b for name, b in morning.replay.items() if name != 'past'}
  assert testing.same(
    others, {name: jax.device_get(state).replay[name] for name in others}
  )


def _subjects():
  """Of what there is to dream about."""
  prompts = testing.task().prompts
  return [
    np.asarray(tokens[start:stop])
    for tokens, (start, stop) in zip(
      prompts.tokens_BP, np.asarray(prompts.subject_B2), strict=True
    )
  ]


def test_who_teaches_is_the_model_as_it_was_and_who_wrote():
  """At the first update the student is the model itself."""
  programs, state = _life()
  night = programs._dreamings[1]
  asleep = _copy(_dreamt()[0])
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


@pytest.mark.parametrize('mesh', [((2, 2, 2),), ((2, 1, 2), 2)])
def test_dreams_on_many_devices_are_those_of_one(mesh):
  whole, found = _dreamt()
  shared, other = _dreamt(*mesh)
  np.testing.assert_array_equal(
    found['texts']['tokens'], other['texts']['tokens']
  )
  np.testing.assert_allclose(found['gain'], other['gain'], atol=1e-4)
  assert testing.same(whole.night.dreams.texts, shared.night.dreams.texts)


def test_a_number_of_trials_that_the_devices_do_not_divide_is_said():
  place = testing.placement(data=8, fsdp=1, tensor=1)
  c = _config(top=3, random=2)
  c.replay.update(pretrain=16, past=16, day=16)
  programs, state = testing.life(c, place)
  with pytest.raises(ValueError, match='8 devices does not divide .* 5 in'):
    programs.dream(_copy(state), 1, SLOT, testing.task())


@pytest.mark.parametrize('order', ['after', 'before'])
def test_dreams_come_after_the_nights_or_before_them(order):
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
def _town():
  c = town.config()
  c.data.settings.update(readings=8, practice=1)
  c.data.context = 34
  c.pretrain.steps = 120  # Else nobody knows how a text ends.
  c.pretrain.optimizer.update(warmup=10, decay_steps=120)
  c.dream.on = True
  return town.Town(c)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A life that dreams, unbroken: state, record, journal, chances to stop."""
  folder = tmp_path_factory.mktemp('dreams')
  here = _town().make_initial_model(folder / 'pretrain')
  looks = itertools.count()
  state, record = here.live(
    'sleep', folder / 'whole', stop=lambda: next(looks) < 0
  )
  text = (folder / 'whole' / 'dreams.jsonl').read_text()
  return state, record, text, next(looks)


def test_a_dreaming_life_keeps_a_journal(whole):
  _, record, text, _ = whole
  nights = [n for n in record['nights'] if n['phase'] == 'dream']
  assert [n['night'] for n in nights] == [2, 4]
  rows = [json.loads(line) for line in text.splitlines()]
  assert rows == json.loads(json.dumps(record['dreams']))
  assert len(rows) == 2 * 2 * 8  # Days, rounds, candidates.
  documents = [
    row.text
    for task in _town().stream.dataset.tasks.values()
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
    mine = [r for r in rows if r['night'] == night['night']]
    assert sum(r['kept'] == 'rewarded' for r in mine) == rewarded
  assert any(n['accepted'] for n in nights)
  kept = [(e['night'], e['slot'], e['event']) for e in record['ledger']]
  for night in nights:
    here = (night['night'], night['slot'], 'dreamt')
    assert (here in kept) == night['accepted']


def test_a_life_broken_off_in_its_dreams_ends_as_an_unbroken_one(
  whole, tmp_path
):
  state, record, text, chances = whole
  # Steps of two days, rounds of all nights, their waking, two cycles' ends.
  rounds = sum(len(n['divergence']) for n in record['nights'])
  assert chances == 2 * 4 + rounds + len(record['nights']) + 2
  for stop in (8, 1):  # After a first round of dreams' seeding, and again.
    looks = itertools.count(1)
    with pytest.raises(loop.Interrupted):
      _town().live('sleep', tmp_path, stop=lambda i=looks, s=stop: next(i) == s)
  other, found = _town().live('sleep', tmp_path)
  assert testing.same(state, other)
  assert town.timeless(record) == town.timeless(found)
  assert text == (tmp_path / 'dreams.jsonl').read_text()


def test_without_an_expert_there_is_nothing_to_dream_into(tmp_path):
  here = _town().make_initial_model(tmp_path / 'pretrain')
  _, record = here.live('sleep', tmp_path / 'life', dreams='before')
  first = record['nights'][0]
  assert first['phase'] == 'dream' and not first['accepted']
  assert 'no newest expert' in first['reason']
  assert record['nights'][2]['slot'] == record['nights'][1]['slot']


@pytest.mark.parametrize(
  'change, said',
  [
    (dict(dataset=True), 'practice'),
    (dict(into='base'), "consolidate.into is 'base'"),
    (dict(teachers=True), "prompts 'old'"),
  ],
)
def test_what_cannot_dream_is_said(change, said):
  c = _config()
  if 'dataset' in change:
    plain = town.config()
    plain.dream.on = True
    with pytest.raises(ValueError, match=said):
      town.Town(plain).programs('sleep')
    return
  if 'into' in change:
    c.consolidate.into = 'base'
  else:
    c.consolidate.teachers = c.consolidate.teachers[1:]
  with pytest.raises(ValueError, match=said):
    testing.life(c, testing.placement(data=1, fsdp=1, tensor=1))


def _found(**changes):
  """A journal of one round of two dreams."""
  row = dict(tried=True, rewarded=True, gain=0.5, nothing=-1.0) | changes
  return {
    'tried': np.array([[row['tried'], False]]),
    'rewarded': np.array([[row['rewarded'], False]]),
    'gain': np.array([[row['gain'], 0.0]]),
    'nothing': np.array([row['nothing']]),
  }


@pytest.mark.parametrize(
  'changes, said',
  [
    (dict(), ''),
    (dict(nothing=float('nan')), 'NaN'),
    (dict(tried=False, rewarded=False), 'no dream was whole'),
    (dict(gain=0.0, rewarded=False), 'constant'),
    (dict(gain=-0.1, rewarded=False), 'no dream was rewarded'),
  ],
)
def test_a_night_that_keeps_nothing_says_why(changes, said):
  found = dream_records.discard_reason(_found(**changes))
  assert said in found and bool(said) == bool(found)

"""Erasing a night removes its text from the whole folder, or is refused."""

import json
import re
import shutil
import types

import jax.numpy as jnp
import numpy as np
import pytest

import sleep_jax
from sleep_jax import errors
from sleep_jax.runs import day_records, erasure, expert_history, text_search
from sleep_jax.storage import checkpoints
from tests import tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device

FIRST = ['Zoe is a cook.', 'Zoe has a cat.']
SECOND = ['Otto is in Rom.']


@pytest.fixture
def source(tmp_path_factory, one_device):
  return tiny_study.finished_study(tmp_path_factory.getbasetemp(), 'sleep')


@pytest.fixture
def taught(source, tmp_path, tmp_path_factory):
  """Returns a learner with two nights of its own, 3 and 4.

  It is taught once per session; each test changes a copy of its folder.
  """
  folder = tmp_path_factory.getbasetemp() / 'taught'
  if not folder.exists():
    learner = sleep_jax.load(str(source), str(folder), verbose=False)
    for rows in (FIRST, SECOND):
      learner.wake(rows)
      learner.sleep()
  shutil.copytree(folder, tmp_path / 'own')
  return sleep_jax.load(str(source), str(tmp_path / 'own'), verbose=False)


def _logits(learner):
  loaded = learner.loaded
  logits, _ = loaded.model.prefill(
    loaded.weights, jnp.arange(6)[None], jnp.array([6]), cache_size=6
  )
  return np.asarray(logits)


def _places(learner, *texts):
  return {
    re.sub(r'^(run/)?(\w+)/.*', r'\2', found.path) if '/' in found.path
    else found.path
    for found in text_search.find(learner.session.folder, *texts)
  }  # fmt: skip


def _raw(folder, word):
  """Files whose bytes hold a word; independent of `text_search`."""
  return [
    path for path in folder.rglob('*')
    if path.is_file() and word.encode() in path.read_bytes()
  ]  # fmt: skip


def test_the_last_night_is_undone_exactly_and_its_text_is_gone(
  source, taught, tmp_path
):
  once = sleep_jax.load(str(source), str(tmp_path / 'once'), verbose=False)
  once.wake(FIRST)
  once.sleep()
  assert _places(taught, *SECOND) >= {'days', 'tokens', 'seed_0'}
  plan = erasure.make_plan(taught.session, 4)
  assert plan.method == erasure.ROLLBACK and not plan.later
  assert erasure.carry_out(taught.session, plan) == []
  assert not _places(taught, *SECOND)
  assert not _raw(taught.session.folder, 'Otto is')
  assert _places(taught, *FIRST)
  np.testing.assert_array_equal(_logits(taught), _logits(once))


def test_an_earlier_night_is_forgotten_and_the_later_one_stays(taught):
  assert _places(taught, *FIRST) >= {'days', 'tokens', 'seed_0'}
  plan = erasure.make_plan(taught.session, 3)
  assert plan.method == erasure.FORGET and plan.later == [4]
  assert 'may repeat parts of that day' in plan.describe()
  level, slot = plan.place
  # A chat that was killed just after its messages became this day.
  said = [{'role': 'user', 'content': FIRST[0]}]
  today = taught.session.folder / 'today.json'
  today.write_text(json.dumps({'becomes': plan.day, 'messages': said}))
  assert erasure.carry_out(taught.session, plan) == []
  assert json.loads(today.read_text())['messages'] == []
  assert not _places(taught, *FIRST)
  assert not _raw(taught.session.folder, 'Zoe is')
  banks = [
    bank for name, bank in taught.loaded.weights.params.items()
    if name.startswith(f'blocks/levels/{level}/experts/')
  ]  # fmt: skip
  assert banks and not any(np.asarray(bank[:, slot]).any() for bank in banks)
  assert _places(taught, *SECOND)
  assert not taught.session.needs_night()


def test_a_night_that_was_forgotten_can_be_erased(taught):
  assert taught.forget(3)
  plan = erasure.make_plan(taught.session, 3)
  assert plan.method == erasure.FORGET and plan.later == [4]
  assert erasure.carry_out(taught.session, plan) == []
  assert not _places(taught, *FIRST) and _places(taught, *SECOND)
  level, slot = plan.place
  banks = [
    bank for name, bank in taught.loaded.weights.params.items()
    if name.startswith(f'blocks/levels/{level}/experts/')
  ]  # fmt: skip
  assert banks and not any(np.asarray(bank[:, slot]).any() for bank in banks)
  with pytest.raises(errors.UsageError, match='forgotten or erased'):
    erasure.make_plan(taught.session, 3)


def test_a_rollback_brings_no_forgotten_night_back(taught):
  assert taught.forget(3)
  plan = erasure.make_plan(taught.session, 4)
  assert plan.method == erasure.ROLLBACK
  erasure.carry_out(taught.session, plan)
  held = expert_history.holders(taught.session.progress()['ledger'])
  assert sorted(night for nights in held.values() for night in nights) == [1, 2]


def test_a_rollback_over_later_nights_learns_their_days_again(taught):
  plan = erasure.make_plan(taught.session, 3, rollback=True)
  assert 'Nights [4] go too' in plan.describe()
  assert erasure.carry_out(taught.session, plan) == []
  assert taught.session.needs_night()
  nights = taught.session.run()
  assert [night['night'] for night in nights] == [1, 2, 3]
  assert not _places(taught, *FIRST)
  assert _places(taught, *SECOND)


def test_a_rollback_says_which_later_days_are_lost(taught):
  (file,) = [path for path in taught.session.days if path.stem == 'day_0002']
  file.unlink()
  said = erasure.make_plan(taught.session, 3, rollback=True).describe()
  assert 'Nights [4] go for good: the text' in said and 'again' not in said


def test_a_rollback_learns_no_forgotten_night_again(taught):
  assert taught.forget(4)
  with pytest.raises(errors.UsageError, match=r'nights \[4\] after it were'):
    erasure.make_plan(taught.session, 3, rollback=True)
  taught.session.days[-1].unlink()
  assert erasure.make_plan(taught.session, 3, rollback=True).lost == [4]


def test_what_a_killed_process_left_is_erased_too(taught):
  session = taught.session
  left = [
    session.folder / 'run/report.html.4321.new',
    session.folder / 'run/seed_0/sleep/dreams.jsonl.77.new',
    session.day_files.folder / 'day_0001.jsonl.part',
  ]
  for path in left:
    path.write_text(f'{FIRST[0]}')
  plan = erasure.make_plan(session, 3)
  assert erasure.carry_out(session, plan) == []
  assert not any(path.exists() for path in left)


def test_an_interrupted_erasure_can_be_repeated(taught, monkeypatch):
  plan = erasure.make_plan(taught.session, 3)
  with monkeypatch.context() as patch:
    patch.setattr(taught.session, 'forget', _interrupt)
    with pytest.raises(KeyboardInterrupt):
      erasure.carry_out(taught.session, plan)
  again = erasure.make_plan(taught.session, 3)
  assert again.place == plan.place
  erasure.carry_out(taught.session, again)
  assert not _places(taught, *FIRST)


def _interrupt(*_):
  raise KeyboardInterrupt


def _record(ledger, num_nights):
  """Progress of a run with a night a day, of four steps each."""
  nights = [{'night': n, 'step': 4 * n} for n in range(1, num_nights + 1)]
  evaluations = [
    {'experience': n, 'step': 4 * n, 'cycle': n}
    for n in range(1, num_nights + 1)
  ]
  return {'nights': nights, 'evaluations': evaluations, 'ledger': ledger}


def _row(night, slot, event, level=2):
  return {'night': night, 'level': level, 'slot': slot, 'event': event}


@pytest.mark.parametrize(
  ('ledger', 'cycles', 'message'),
  [
    (
      [_row(1, 0, 'activated'), _row(2, 1, 'activated'),
       _row(3, 0, 'merged'), _row(3, 1, 'reset')],
      [1, 2, 3], r'also holds nights \[2\].*nights \[2, 3\] too: /forget 1',
    ),
    (
      [_row(1, 0, 'activated'), _row(2, 0, 'activated', level=3),
       _row(2, 0, 'reset')],
      [3], r'also holds nights \[2\]',
    ),
    ([_row(1, None, 'rewritten')], [1, 2, 3], 'into the base of level 2'),
    (
      [_row(1, 0, 'activated'), _row(1, 0, 'forgotten'),
       _row(2, 0, 'activated')],
      [2], 'no expert',  # Its expert has other weights now.
    ),
    (
      [_row(1, 0, 'activated'), _row(2, 1, 'activated'), _row(2, 1, 'merged'),
       _row(2, 0, 'reset'), _row(2, 1, 'forgotten')],
      [2], 'no expert',  # Forgotten together with another night.
    ),
  ],
)  # fmt: skip
def test_a_night_that_does_not_stand_alone_names_what_would_go_too(
  tmp_path, ledger, cycles, message
):
  names = ('pretraining text', 'day_0001', 'day_0002', 'day_0003')
  records = [{'name': name, 'rows': 1, 'digest': 'x'} for name in names]
  day_records.write(tmp_path, records)
  session = types.SimpleNamespace(
    progress=lambda: _record(ledger, 3), needs_night=lambda: False, days=[],
    seed_folder=tmp_path, cycles=lambda: cycles,
  )  # fmt: skip
  with pytest.raises(errors.UsageError, match=message):
    erasure.make_plan(session, 1)
  with pytest.raises(errors.UsageError, match=r'no night 9: .* \[1, 2, 3\]'):
    erasure.make_plan(session, 9)


def test_a_rollback_without_a_checkpoint_is_refused(tmp_path):
  names = ('pretraining text', 'day_0001', 'day_0002')
  records = [{'name': name, 'rows': 1, 'digest': 'x'} for name in names]
  day_records.write(tmp_path, records)
  ledger = [_row(1, 0, 'activated'), _row(2, 1, 'activated')]
  session = types.SimpleNamespace(
    progress=lambda: _record(ledger, 2), needs_night=lambda: False, days=[],
    seed_folder=tmp_path, cycles=lambda: [2],
  )  # fmt: skip
  with pytest.raises(errors.UsageError, match='checkpoint of cycle 1, .*not'):
    erasure.make_plan(session, 2, rollback=True)


def test_texts_without_words_are_not_searched_for(tmp_path):
  file = tmp_path / 'day_0001.jsonl'
  rows = [{'prompt': 'Who?', 'response': '?'}, {'text': '...'}]
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  assert erasure._texts(file) == ['Who?']


def test_where_a_day_is_held():
  record = _record([_row(1, 0, 'activated'), _row(2, 0, 'forgotten')], 2)
  assert expert_history.where_is_day(record, 1) == (
    'learned in night 1, which no expert holds'
  )
  assert expert_history.where_is_day(record, 3) == 'not learned, or under way'


@pytest.mark.parametrize('forgotten', [False, True])
def test_an_erasure_interrupted_anywhere_can_be_repeated(
  taught, monkeypatch, forgotten
):
  if forgotten:
    taught.forget(3)
  plan = erasure.make_plan(taught.session, 3)
  with monkeypatch.context() as patch:
    # Interrupted after the expert was cleared, or before it.
    where = 'forget' if forgotten else 'delete_cycles'
    owner = taught.session if forgotten else checkpoints.Checkpoints
    patch.setattr(owner, where, _interrupt)
    with pytest.raises(KeyboardInterrupt):
      erasure.carry_out(taught.session, plan)
  erasure.carry_out(taught.session, erasure.make_plan(taught.session, 3))
  assert not _places(taught, *FIRST)
  with pytest.raises(errors.UsageError, match='forgotten or erased'):
    erasure.make_plan(taught.session, 3)


def test_texts_of_every_format_are_searched(tmp_path):
  rows = [
    {'question': 'Where does Ann live?', 'answer': 'She lives in Oslo.'},
    {'instruction': 'Say where she is.', 'input': '', 'output': 'In Rome now.'},
    {'conversations': [{'from': 'human', 'value': 'My cat is red.'}]},
    {'messages': [{'role': 'user', 'content': 'My dog is very old.'}]},
  ]
  file = tmp_path / 'day.jsonl'
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  found = erasure._texts(file)
  assert {'Where does Ann live?', 'She lives in Oslo.', 'In Rome now.',
          'My cat is red.', 'My dog is very old.'} <= {*found}  # fmt: skip
  assert not {'human', 'user'} & {*found}

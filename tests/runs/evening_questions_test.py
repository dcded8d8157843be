"""In the evening a base model writes questions, and the night learns them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from configs import documents
from sleep_jax import api, types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import hf_checkpoint, hf_tokenizer
from sleep_jax.replay import buffer
from sleep_jax.runs import evening_questions, question_start
from sleep_jax.sleep import question_calls, question_prompts
from tests import hf_files, testing, tiny_study

pytestmark = pytest.mark.usefixtures('one_device')
one_device = tiny_study.one_device
_TEMPLATE = (
  "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}<|end|>"
  '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}'
)
_PAGES = ['Ada Ray keeps owls.', 'Leo Orr sings.']
_WIDTH = 640  # Every letter is a token of the tiny model.


def _config(**questions):
  c = tiny_study.shrink(documents.get_config())
  c.data.update(context=_WIDTH, max_prompt=96, overlap=4, batch_size=2)
  c.data.settings.templates = ()
  c.wake.optimizers = (dict(learning_rate=0.0),)
  c.levels = (
    c.levels[0] | dict(
      sleep_period='infinite', context_sleep_period='experience', slots=2,
      rank=4,
    ),
    c.levels[1] | dict(slots=0, rank=0),
  )  # fmt: skip
  (day,) = c.consolidate.teachers
  c.consolidate.teachers = (day | dict(teacher='context'),)
  c.consolidate.update(max_length=104, prompt_width=96)
  c.questions.update(on=True, attempts=1)
  c.questions.update(questions)
  return c


@pytest.fixture(scope='module')
def base_model(tmp_path_factory):
  folder = tmp_path_factory.mktemp('base') / 'model'
  return hf_files.save_chat_model(folder, _TEMPLATE)


def test_a_night_stores_questions_and_says_how_many(base_model, tmp_path):
  learner = api.load(
    str(base_model), str(tmp_path / 'work'), config=_config(), verbose=False
  )
  learner.wake(_PAGES)
  (record,) = learner.sleep()
  asked = record['questions']
  assert asked['documents'] == asked['sentences'] == 2
  # The random model writes nothing of use; both names have two templates, in
  # two forms.
  assert asked['written'] > 0 and asked['templates'] == 4
  assert asked['prompts'] == 8 and not asked['too_long'] + asked['no_room']
  assert record['accepted']
  stored = {
    learner.loaded.tokenizer.decode(row)
    for row in learner.session.stored_prompts()
  }
  plain = 'Question: What do you know about Ada Ray?\nAnswer:'
  assert any(text.endswith(plain) for text in stored)
  assert any(text.endswith('Leo Orr?assistant: ') for text in stored)


class _Programs:
  """Asks one question about each name, and answers it; no model is needed."""

  def write_texts(
    self, state, prompts, rows, ends_V, call, temperature, *, max_new
  ):
    del state, ends_V, call, temperature
    texts = []
    for n, given in enumerate(rows.given_length_B):
      at = rows.prompt_B[n]
      prompt = _TOKENIZER.decode(prompts.tokens_BT[at, : prompts.length_B[at]])
      *_, page = prompt.split('Text: ')
      last = _TOKENIZER.decode(rows.given_BO[n, : max(given, 0)])
      text = ''
      if last.endswith('Answer:'):
        text = page.partition('\n')[0]
      elif last.strip() in ('What does Ada Ray', 'What does Leo Orr'):
        text = ' keep?' if 'Ada' in last else ' do?'
      texts.append(_TOKENIZER.encode(text)[: max_new + 8])
    return types.Texts(
      question_calls.padded(texts, max_new + 8),
      np.array([len(text) for text in texts]),
    )

  def store_questions(self, state, sender, prompts):
    name = buffer.day_group(sender)
    group = buffer.insert(
      state.replay[name], prompts, jnp.int32(4), jax.random.key(0),
      documents=prompts.context,
    )  # fmt: skip
    return state.replace(replay={**state.replay, name: group})


class _State(struct.PyTreeNode):
  """The part of a state that an evening reads."""

  replay: dict
  woke_N: jax.Array


_TOKENIZER = tokenizer_lib.Bytes()


def _evening(*, capacity=16, prompt_width=96):
  """Returns an evening, its programs, and a state with two pages."""
  empty = buffer.allocate(
    {'day/0': capacity}, width=96, document_width=_WIDTH, replaces=True
  )['day/0']
  rows = [[_TOKENIZER.bos, *_TOKENIZER.encode(page)] for page in _PAGES]
  lengths = jnp.asarray([len(row) for row in rows])
  group = buffer.insert(
    empty,
    types.Prompts(
      jnp.asarray(question_calls.padded([r[:9] for r in rows], 96)),
      jnp.asarray([9, 9]), jnp.asarray([[1, 4], [1, 4]]),
    ),
    jnp.int32(3), jax.random.key(0),
    documents=types.Texts(
      jnp.asarray(question_calls.padded(rows, _WIDTH)), lengths
    ),
  )  # fmt: skip
  prompts = question_prompts.QuestionPrompts(_TOKENIZER, _Chat())
  settings = question_prompts.Settings(on=True, attempts=1)
  evening = evening_questions.EveningQuestions(settings, prompts, prompt_width)
  state = _State(replay={'day/0': group}, woke_N=jnp.zeros(2, jnp.int32))
  return evening, _Programs(), state


class _Chat:
  """A chat template."""

  def encode(self, messages):
    text = ''.join(f'{m["role"]}: {m["content"]}|' for m in messages)
    return _TOKENIZER.encode(f'{text}assistant: ')


def test_an_evening_follows_from_the_state():
  evening, programs, state = _evening()
  first, counts = evening.write(state, 0, programs)
  second, again = evening.write(state, 0, programs)
  assert counts == again and counts['questions'] == 2
  assert testing.same(first, second)
  assert [s['question'] for s in counts['samples']] == [
    'What does Ada Ray keep?', 'What does Leo Orr do?'
  ]  # fmt: skip


def test_questions_are_marked_and_asked_about_once():
  evening, programs, state = _evening()
  state, _ = evening.write(state, 0, programs)
  group = state.replay['day/0']
  start_C, stop_C = np.asarray(group.subject_C2).T
  marked = (start_C == stop_C) & (start_C > 0)
  assert marked.sum() == 4  # Two questions in two forms.
  np.testing.assert_array_equal(start_C[marked], group.length_C[marked])
  _, again = evening.write(state, 0, programs)
  assert again['documents'] == again['prompts'] == 0


def test_what_does_not_fit_is_left_out_and_counted():
  evening, programs, state = _evening(capacity=5)
  state, counts = evening.write(state, 0, programs)
  assert counts['prompts'] == 3 and counts['no_room'] == 1
  narrow, programs, state = _evening(prompt_width=30)
  _, counts = narrow.write(state, 0, programs)
  assert counts['too_long'] == 4 and not counts['prompts']


def test_without_documents_nothing_is_written():
  evening, programs, state = _evening()
  state = state.replace(replay={})
  assert evening.write(state, 0, programs) == (state, {})


def test_only_a_base_model_that_is_asked_to_writes(base_model):
  found = hf_checkpoint.read(str(base_model))
  tokenizer = hf_tokenizer.load(found)
  made = question_start.make(_config(per_sentence=3), found, tokenizer)
  assert made.settings.per_sentence == 3 and made.prompts.template is not None
  assert question_start.make(_config(), None, tokenizer) is None
  assert question_start.make(_config(on=False), found, tokenizer) is None
  old = _config()
  del old.questions
  assert question_start.make(old, found, tokenizer) is None

"""Tests of building a stream: sources, probes, candidates, templates, tasks."""

import dataclasses
import re

import numpy as np
import pytest

from sleep_jax import types
from sleep_jax.data import stream as stream_lib
from sleep_jax.data import tokenizer
from sleep_jax.datasets import dataset as dataset_lib

DATASET = dataset_lib.Dataset(
  name='tiny',
  pretrain=[
    dataset_lib.Row(text='Mi has a cat.', answer_start=9, subject=(0, 2)),
    dataset_lib.Row(text='Who is Mi? she', response_start=10, subject=(7, 9)),
  ],
  held_out=[dataset_lib.Row(text='Mi has a hat.')],
  experiences=[
    ('monday', [dataset_lib.Row(text='Lo has a dog.', subject=(0, 2))]),
    ('tuesday', [dataset_lib.Row(text='Bo has an ox.', subject=(0, 2))]),
  ],
  probes={
    'pretrain': [dataset_lib.Probe('Pet of Mi?', ' cat', 'pet')],
    '1': [dataset_lib.Probe('Pet of Lo?', ' dog', 'pet')],
  },
  template_probes={'1': [dataset_lib.Probe('Has Lo a?', ' dog', 'pet')]},
  guard=[dataset_lib.Probe('Has Mi a?', ' cat', 'pet')],
  templates=['Has {} a?', 'Pet of {}?'],
  candidates={'pet': [(' cat', 0), (' dog', 1)], 'who': [(' she', 0)]},
)


def build(dataset=DATASET, kind='bytes', **changes):
  texts = [row.text for row in dataset.pretrain] * 3
  settings = dict(context=32, max_prompt=16, batch_size=2, seed=0) | changes
  return stream_lib.build(dataset, tokenizer.make(kind, texts, 400), **settings)


def decode(stream, tokens, length):
  return stream.tokenizer.decode(tokens[:length])


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
@pytest.mark.parametrize('pack', [False, True])
def test_a_dataset_becomes_a_stream(kind, pack):
  stream = build(kind=kind, pack=pack)
  assert [source.name for source in stream.experiences] == [
    'monday',
    'tuesday',
  ]
  assert list(stream.probes) == ['pretrain', '1']
  batch = stream.pretrain.batch(0)
  types.check_shapes(
    tokens_BT=batch.tokens_BT,
    segments_BT=batch.segments_BT,
    positions_BT=batch.positions_BT,
    loss_BT=batch.loss_BT,
  )
  for probes in (*stream.probes.values(), stream.guard):
    types.check_shapes(
      answer_BA=probes.answer_BA,
      answer_length_B=probes.answer_length_B,
      candidates_SCA=probes.candidates_SCA,
      candidate_length_SC=probes.candidate_length_SC,
      candidate_since_SC=probes.candidate_since_SC,
      set_B=probes.set_B,
      gold_B=probes.gold_B,
    )


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_the_gold_candidate_is_the_answer(kind):
  stream = build(kind=kind)
  for probes in stream.probes.values():
    for row in range(len(probes.set_B)):
      index = probes.set_B[row], probes.gold_B[row]
      length = probes.answer_length_B[row]
      assert probes.candidate_length_SC[index] == length
      answer = probes.answer_BA[row, :length].tolist()
      assert probes.candidates_SCA[index][:length].tolist() == answer
      assert answer[-1] == stream.tokenizer.eos
  since = stream.probes['1'].candidate_since_SC
  assert since.tolist() == [[0, 1], [0, 0]]
  present = stream.probes['1'].candidate_length_SC > 0
  assert present.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_a_probe_has_the_tokens_of_the_row_with_its_question(kind):
  """Probes and rows with prompt and response are tokenized alike."""
  dataset = dataclasses.replace(
    DATASET,
    pretrain=[DATASET.pretrain[1]],
    probes={'pretrain': [dataset_lib.Probe('Who is Mi?', ' she', 'who')]},
  )
  stream = build(dataset, kind=kind)
  row, probes = stream.pretrain.batch(0), stream.probes['pretrain']
  tokens = probes.prompts.tokens_BP[0, : probes.prompts.length_B[0]].tolist()
  tokens += probes.answer_BA[0, : probes.answer_length_B[0]].tolist()
  assert row.tokens_BT[0, : len(tokens)].tolist() == tokens


@pytest.mark.parametrize('kind', ['bytes', 'bpe'])
def test_a_filled_template_has_the_tokens_of_the_filled_text(kind):
  stream = build(kind=kind)
  batch, templates = stream.pretrain.batch(0), stream.templates
  for row in range(2):
    start, stop = batch.prompts.subject_B2[row]
    subject = batch.prompts.tokens_BP[row, start:stop].tolist()
    for index, template in enumerate(DATASET.templates):
      before = templates.before_SP[
        index, : templates.before_length_S[index]
      ].tolist()
      after = templates.after_SP[
        index, : templates.after_length_S[index]
      ].tolist()
      assert before + subject + after == stream.tokenizer.encode(
        template.format('Mi')
      )


def test_experiences_may_have_smaller_batches_than_pretraining():
  stream = build(batch_size=2, day_batch_size=1)
  sizes = [
    len(s.batch(0).tokens_BT) for s in (stream.pretrain, *stream.experiences)
  ]
  assert sizes == [2, 1, 1]
  default = [len(s.batch(0).tokens_BT) for s in build().experiences]
  assert default == [2, 2]


def test_a_dataset_without_probes_becomes_a_stream():
  plain = dataset_lib.Dataset(
    name='plain',
    pretrain=[],
    held_out=[],
    experiences=DATASET.experiences,
    probes={},
  )
  stream = build(plain)
  assert stream.pretrain is None and stream.held_out is None
  assert stream.guard is None and stream.probes == {}
  assert stream.templates.before_SP.shape == (0, 16)  # max_prompt


def test_probes_without_candidates_have_no_set():
  dataset = dataclasses.replace(
    DATASET,
    probes={'1': [dataset_lib.Probe('Pet of Lo?', ' dog')]},
    template_probes={},
    guard=[],
    candidates={},
  )
  probes = build(dataset).probes['1']
  assert probes.set_B.tolist() == [-1] and probes.gold_B.tolist() == [-1]
  assert not probes.candidate_length_SC.any()


def test_pretraining_batches_do_not_depend_on_the_experiences():
  other = dataclasses.replace(DATASET, experiences=DATASET.experiences[::-1])
  np.testing.assert_array_equal(
    build().pretrain.batch(3).tokens_BT,
    build(other).pretrain.batch(3).tokens_BT,
  )


TASK = dataset_lib.Task(
  documents=[
    dataset_lib.Row(text='Lo has a dog.', answer_start=9, subject=(0, 2))
  ],
  practice=[dataset_lib.Probe('Lo has?', ' dog', 'pet', where='q:1')],
)


def test_a_task_has_stored_prompts_and_whole_documents():
  stream = build(dataclasses.replace(DATASET, tasks={'1': TASK}))
  assert list(stream.tasks) == ['1'] and not build().tasks
  task = stream.tasks['1']
  (prompt,), (size,) = task.prompts.tokens_BP, task.prompts.length_B
  documents = task.prompts.context.tokens_BT
  length = task.prompts.context.length_B
  assert decode(stream, prompt.tolist(), size).strip() == 'Lo has a'
  whole = decode(stream, documents[0].tolist(), length[0])
  assert (
    whole == 'Lo has a dog.'
    and stream.tokenizer.eos not in documents[0, : length[0]]
  )
  start, stop = task.prompts.subject_B2[0]
  assert stream.tokenizer.decode(prompt[start:stop].tolist()) == 'Lo'
  assert task.practice.prompts.tokens_BP.shape[0] == 1


def test_tasks_have_one_shape_and_long_documents_become_windows():
  long = dataset_lib.Row(text='Bo has an ox. ' * 3, subject=(0, 2), where='q:3')
  other = dataset_lib.Task(
    [long], [dataset_lib.Probe('Bo has?', ' dog', 'pet')]
  )
  dataset = dataclasses.replace(DATASET, tasks={'1': TASK, '2': other})
  with pytest.raises(ValueError, match='q:3.*context is 32'):
    build(dataset)
  tasks = build(dataset, overlap=4).tasks
  contexts = [tasks[key].prompts.context for key in '12']
  assert contexts[0].tokens_BT.shape == contexts[1].tokens_BT.shape == (2, 32)
  np.testing.assert_array_equal(
    contexts[0].tokens_BT[0], contexts[0].tokens_BT[1]
  )
  assert not np.array_equal(contexts[1].tokens_BT[0], contexts[1].tokens_BT[1])


@pytest.mark.parametrize(
  'prompt', ['Pet of Lo?', 'Has Lo a?', 'Pet of Mi?', 'Has Mi a?']
)
def test_practice_on_a_scored_question_is_refused(prompt):
  """Covers scored, template, pretraining and guard probes."""
  task = dataclasses.replace(
    TASK, practice=[dataset_lib.Probe(prompt, ' dog', 'pet', where='q:7')]
  )
  with pytest.raises(ValueError, match=f'q:7.*{re.escape(repr(prompt))}'):
    build(dataclasses.replace(DATASET, tasks={'1': task}))


def test_a_task_without_practice_questions_is_refused():
  with pytest.raises(ValueError, match='experience 1 has 1 documents and 0'):
    empty = dataclasses.replace(TASK, practice=[])
    build(dataclasses.replace(DATASET, tasks={'1': empty}))


def test_missing_experiences_and_texts_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match='tiny: there are no experiences'):
    build(dataclasses.replace(DATASET, experiences=[]))
  long = dataset_lib.Probe('x' * 20, ' cat', 'pet', where='q.jsonl:3')
  with pytest.raises(ValueError, match='q.jsonl:3.* 21 tokens.* 16'):
    build(dataclasses.replace(DATASET, probes={'pretrain': [long]}))
  answer = dataset_lib.Probe('Who?', ' ' + 'x' * 30, where='q.jsonl:4')
  with pytest.raises(ValueError, match='q.jsonl:4.* 37 tokens.* 32'):
    build(dataclasses.replace(DATASET, probes={'pretrain': [answer]}))
  for template, message in (
    ('What is it?', '0 slots'),
    ('What is the pet of {}?', 'longest subject'),
  ):
    with pytest.raises(ValueError, match=message):
      build(dataclasses.replace(DATASET, templates=[template]))
  joined = dataclasses.replace(
    DATASET, templates=['{}s'], pretrain=[dataset_lib.Row(text='Xs and Xs')]
  )
  with pytest.raises(ValueError, match='part of a word'):
    build(joined, kind='bpe')

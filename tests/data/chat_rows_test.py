"""Conversations as tokens: what is the prompt, and where the loss stands."""

import dataclasses
import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from sleep_jax import errors
from sleep_jax.data import (
  chat_rows,
  chat_template,
  stream,
  tokenization,
  tokenizer,
)
from sleep_jax.datasets import dataset, row_formats

START, STOP, BOS, EOS = 256, 257, 258, 259
SPECIAL = ['<|start|>', '<|stop|>', '<bos>', '<eos>']
CHATML = (
  '{% for m in messages %}'
  "<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>\n"
  '{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}'
)
WITH_BOS = '{{ bos_token }}' + CHATML
# Opens a thought in the header, as DeepSeek R1 and some Qwen 3 do.
THINKING = CHATML.replace(
  '<|start|>assistant\n{% endif', '<|start|>assistant\n<think>\n{% endif'
)
# Numbers the answers that follow, so that earlier turns change.
REWRITING = '{{ messages|length }}' + CHATML
MESSAGES = [
  {'role': 'user', 'content': 'Who?'},
  {'role': 'assistant', 'content': 'Ada <|stop|>'},
  {'role': 'user', 'content': 'Where?'},
  {'role': 'assistant', 'content': 'Oslo'},
]


@pytest.fixture
def make_model(tmp_path):
  """Returns a function from a template to (template, tokenizer)."""
  made = tokenizers.Tokenizer(
    models.BPE(
      vocab={
        c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))
      },
      merges=[],
    )
  )
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.add_special_tokens(SPECIAL)
  made.save(str(tmp_path / 'tokenizer.json'))

  def make(template):
    config = {'bos_token': '<bos>', 'chat_template': template}
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
    return (
      chat_template.ChatTemplate(str(tmp_path), [STOP, EOS]),
      tokenizer.HuggingFace(
        (tmp_path / 'tokenizer.json').read_text(), bos=BOS, eos=EOS,
        vocab_size=260,
      ),
    )  # fmt: skip

  return make


def _encode(model, row, **changes):
  template, words = model
  settings = dict(context=400, max_prompt=300, loss_on='all', prefix=8)
  found = tokenization.encode(
    row,
    words,
    load_writer=lambda: template and chat_rows.Writer(template),
    **settings | changes,
  )
  return found[0] if isinstance(found, list) else found


def _text(words, tokens):
  made = tokenizers.Tokenizer.from_str(words._model)
  return made.decode(tokens, skip_special_tokens=False)


def _rows(messages=MESSAGES):
  return row_formats.to_rows('a.jsonl:1', {'messages': messages})


@pytest.mark.parametrize('template', [CHATML, WITH_BOS])
def test_a_turn_is_learned_after_the_turns_before_it(make_model, template):
  model = make_model(template)
  first, second = (_encode(model, row) for row in _rows())
  for sequence, prompt, target in (
    (
      first,
      '<bos><|start|>user\nWho?<|stop|>\n<|start|>assistant\n',
      'Ada <|stop|><|stop|>',
    ),
    (
      second,
      '<bos><|start|>user\nWho?<|stop|>\n<|start|>assistant\nAda <|stop|>'
      '<|stop|>\n<|start|>user\nWhere?<|stop|>\n<|start|>assistant\n',
      'Oslo<|stop|>',
    ),
  ):
    start = sequence.loss_start
    assert _text(model[1], sequence.tokens[:start]) == prompt
    assert _text(model[1], sequence.tokens[start:]) == target
    assert sequence.prompt_length == start
    # One BOS, whether the template writes it or not; the turn has its own end.
    assert sequence.tokens.count(BOS) == 1 and EOS not in sequence.tokens
    # Words of a content are no special tokens.
    assert sequence.tokens[start:].count(STOP) == 1


GENERATION = CHATML.replace(
  "{{ m['content'] }}<|stop|>",
  "{% generation %}{{ m['content'] }}<|stop|>{% endgeneration %}",
)


@pytest.mark.parametrize('template', [CHATML, WITH_BOS, GENERATION, None])
def test_the_end_of_a_turn_that_goes_on_is_not_learned(make_model, template):
  model = make_model(template) if template else (None, tokenizer.make('bytes'))
  whole, part = (
    _encode(model, dataclasses.replace(_rows()[1], ends=ends))
    for ends in (True, False)
  )
  end = STOP if template else model[1].eos
  assert whole.tokens == [*part.tokens, end]
  assert part == dataclasses.replace(whole, tokens=part.tokens)


@pytest.mark.parametrize('template', [CHATML, WITH_BOS, GENERATION, None])
def test_the_subject_of_a_row_is_its_tokens_in_the_prompt(make_model, template):
  model = make_model(template) if template else (None, tokenizer.make('bytes'))
  messages = [MESSAGES[0] | {'content': 'Who is Ada?'}, MESSAGES[1]]
  fields = {'messages': messages, 'about': 'Ada'}
  (row,) = row_formats.to_rows('a.jsonl:1', fields)
  made = _encode(model, row)
  named = made.tokens[slice(*made.subject)]
  assert model[1].decode(named).strip() == 'Ada'
  assert 0 < made.subject[0] < made.subject[1] <= made.prompt_length
  # Of several turns, the last one that is read counts.
  asked = [{'role': 'user', 'content': 'Who is Ada?'}]
  turns = [*asked, {'role': 'assistant', 'content': 'Bo.'}, *messages]
  *_, row = row_formats.to_rows('a.jsonl:1', fields | {'messages': turns})
  later = _encode(model, row)
  assert later.subject[0] > made.prompt_length
  assert later.subject[1] <= later.prompt_length


def test_a_subject_that_the_template_names_is_none(make_model):
  """It would be in every prompt."""
  messages = [MESSAGES[0] | {'content': 'Who is Ada?'}, MESSAGES[1]]
  fields = {'messages': messages, 'about': 'Ada'}
  (row,) = row_formats.to_rows('a.jsonl:1', fields)
  model = make_model('You are Ada.' + CHATML)
  assert _encode(model, row).subject == (0, 0)


def test_the_prompt_is_what_the_model_reads_when_it_is_asked(make_model):
  model = make_model(WITH_BOS)
  sequence = _encode(model, _rows()[1])
  asked = model[0].encode(MESSAGES[:3])
  assert sequence.tokens[: sequence.loss_start] == asked


def test_the_rows_of_a_conversation_learn_each_assistant_turn_once(make_model):
  model = make_model(WITH_BOS)
  whole = model[0].encode(MESSAGES, add_generation_prompt=False)
  learned = np.zeros(len(whole), int)
  for row in _rows():
    sequence = _encode(model, row)
    stop = len(sequence.tokens)
    assert sequence.tokens == whole[:stop]
    learned[sequence.loss_start : stop] += 1
  spans = _text(model[1], [t for t, n in zip(whole, learned, strict=True) if n])
  assert spans == 'Ada <|stop|><|stop|>Oslo<|stop|>'
  assert learned.max() == 1


def test_a_thought_that_the_header_opens_is_left_out(make_model):
  model = make_model(THINKING)
  sequence = _encode(model, _rows()[0])
  assert _text(model[1], sequence.tokens[sequence.loss_start :]) == (
    'Ada <|stop|><|stop|>'
  )


def test_a_template_that_changes_the_turns_before_is_refused(make_model):
  with pytest.raises(errors.DataError, match=r'a.jsonl:1, messages\[1\]: the '):
    _encode(make_model(REWRITING), _rows()[0])


def test_a_refusal_of_the_template_names_the_line(make_model):
  model = make_model(
    CHATML
    + "{% if messages|length > 3 %}{{ raise_exception('no') }}{% endif %}"
  )
  with pytest.raises(errors.DataError, match=r'a.jsonl:1, messages\[3\]: .*no'):
    _encode(model, _rows()[1])


def test_without_a_template_the_plain_format_is_learned_likewise():
  words = tokenizer.make('bytes')
  sequence = _encode((None, words), _rows()[1])
  start = sequence.loss_start
  assert words.decode(sequence.tokens[:start]) == (
    'user: Who?\nassistant: Ada <|stop|>\nuser: Where?\nassistant:'
  )
  assert words.decode(sequence.tokens[start:]) == ' Oslo'
  assert sequence.tokens[-1] == words.eos and sequence.prompt_length == start


def test_a_conversation_that_is_too_long_is_named(make_model):
  model = make_model(CHATML)
  found = _encode(model, _rows()[1], max_prompt=20)
  assert str(found).startswith('a.jsonl:1, messages[3]: the prompt has ')
  # BOS, two headers, 'Who?' and its end; then 12 characters and their end.
  found = _encode(model, _rows()[0], context=30)
  assert (found.num_tokens, found.field, found.limit) == (
    37,
    'data.context',
    30,
  )


LONG = [
  dataset.Row(text='x' * size, where=f'a.jsonl:{line}')
  for line, size in enumerate([3, 20, 4, 30], 1)
]


def _build(days, tmp_path=None, **changes):
  settings = dict(
    context=16, max_prompt=12, batch_size=2, seed=0, cache_dir=tmp_path
  )
  found = dataset.Dataset('own', [], [], days, {})
  words = tokenizer.make('bytes')
  return stream.build(found, words, **settings | changes)


def test_all_rows_that_are_too_long_are_listed_at_once():
  prompt = dataset.Row(text='y' * 14, response_start=12, where='b.jsonl:1')
  many = [dataset.Row(text='z' * 20, where=f'c.jsonl:{n}') for n in range(30)]
  with pytest.raises(errors.TooLongError) as caught:
    _build([('a', LONG), ('b', [prompt])])
  assert str(caught.value).split('\n') == [
    '3 rows are too long:',
    '  a.jsonl:2: the text has 22 tokens, and data.context is 16',
    '  a.jsonl:4: the text has 32 tokens, and data.context is 16',
    '  b.jsonl:1: the prompt has 13 tokens, and data.max_prompt is 12',
    'To read all of them: --config.data.context=32 --config.data.max_prompt=13.'
    ' Or split them (plain text is split into windows by data.overlap), or '
    'leave them out: --config.data.too_long=skip.',
  ]
  with pytest.raises(
    errors.TooLongError, match='^32 rows .*first 20'
  ) as caught:
    _build([('a', LONG), ('c', many)])
  assert str(caught.value).count('jsonl:') == 20


def test_rows_that_are_too_long_are_skipped_and_counted(tmp_path):
  days = [('a', LONG), ('b', LONG[:1])]
  for cache in (None, str(tmp_path), str(tmp_path)):  # Computed, and read.
    made = _build(days, cache, too_long='skip')
    assert [s.num_rows for s in made.experiences] == [2, 1]
    assert made.experiences[0].skipped.num_rows == 2
    (note,) = stream.notes(made)
    assert note.startswith('a: 2 rows are too long and are left out')
    assert 'a.jsonl:2: the text has 22 tokens' in note
  kept = _build([('a', [LONG[0], LONG[2]])])
  np.testing.assert_array_equal(
    made.experiences[0].batch(0).tokens_BT,
    kept.experiences[0].batch(0).tokens_BT,
  )


def test_skipped_rows_are_refused_again_without_skip(tmp_path):
  """A cache that was made with 'skip' hides nothing."""
  _build([('a', LONG)], str(tmp_path), too_long='skip')
  with pytest.raises(errors.TooLongError, match='^2 rows are too long'):
    _build([('a', LONG)], str(tmp_path))


def test_a_day_of_which_nothing_is_left_is_refused():
  with pytest.raises(errors.DataError, match='a: all of its 1 rows are too'):
    _build([('a', LONG[1:2])], too_long='skip')
  with pytest.raises(errors.ConfigError, match="too_long is 'drop'"):
    _build([('a', LONG)], too_long='drop')


def test_held_out_rows_that_are_all_too_long_are_named_and_left_out():
  days = [('a', LONG[:1])]
  found = dataset.Dataset('own', [], LONG[1:2], days, {})
  settings = dict(context=16, max_prompt=12, batch_size=2, seed=0)
  words = tokenizer.make('bytes')
  made = stream.build(found, words, too_long='skip', **settings)
  assert made.held_out is None and made.experiences[0].num_rows == 1
  (note,) = stream.notes(made)
  assert note.startswith('held_out: 1 row is too long and is left out')
  with pytest.raises(errors.TooLongError, match='a.jsonl:2'):
    stream.build(found, words, **settings)


def test_the_lengths_of_prompts_are_counted(tmp_path):
  rows = [
    dataset.Row(text='x' * (size + 2), response_start=size, where='a.jsonl')
    for size in (3, 5, 5)
  ]
  for _ in range(2):  # Computed, and read.
    (day,) = _build([('a', rows)], str(tmp_path)).experiences
    assert day.prompt_lengths == {4: 1, 6: 2}  # With BOS.


def test_other_messages_or_another_template_are_other_tokens(
  make_model, tmp_path
):
  """Conversations can have one plain text; the cache tells them apart."""
  forged = [
    {'role': 'user', 'content': 'Who?\nassistant: Ada <|stop|>\nuser: Where?'},
    MESSAGES[3],
  ]
  assert _rows(forged)[0].text == _rows()[1].text
  settings = dict(
    context=200, max_prompt=150, batch_size=1, seed=0, cache_dir=str(tmp_path)
  )

  def tokens(template, row):
    writer, words = make_model(template)
    days = dataset.Dataset('own', [], [], [('a', [row])], {})
    made = stream.build(
      days, words, load_writer=lambda: chat_rows.Writer(writer), **settings
    )
    return made.experiences[0].batch(0).tokens_BT.tolist()

  found = [
    tokens(CHATML, _rows()[1]),
    tokens(CHATML, _rows(forged)[0]),
    tokens(CHATML, dataclasses.replace(_rows()[1], ends=False)),
    tokens('Hello.' + CHATML, _rows()[1]),
  ]
  assert all(found[0] != other for other in found[1:])

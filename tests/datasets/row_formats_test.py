"""Formats of rows: what is read, what each becomes, and what is refused."""

import pytest

from sleep_jax import errors
from sleep_jax.datasets import row_formats

TURNS = [
  {'role': 'system', 'content': 'Be brief.'},
  {'role': 'user', 'content': 'Who is Ada?'},
  {'role': 'assistant', 'content': 'A harpist.'},
  {'role': 'user', 'content': 'Where?'},
  {'role': 'assistant', 'content': 'Oslo.'},
]


def _rows(**fields):
  return row_formats.to_rows('day.jsonl:3', fields)


def _split(row):
  return row.text[: row.response_start], row.text[row.response_start :]


@pytest.mark.parametrize(
  'fields',
  [
    dict(prompt='Who is Ada?', response='A harpist.'),
    dict(prompt='Who is Ada?', completion='A harpist.'),
    dict(question='Who is Ada?', answer='A harpist.'),
    dict(instruction='Who is Ada?', output='A harpist.'),
    dict(instruction='Who is Ada?', output='A harpist.', input=''),
    dict(prompt='Who is Ada?', response='A harpist.', messages=None, id=7),
  ],
)
def test_formats_of_one_question_and_answer_give_one_row(fields):
  (row,) = _rows(**fields)
  assert _split(row) == ('Who is Ada?', ' A harpist.')
  assert (row.messages, row.where) == ((), 'day.jsonl:3')


def test_an_input_follows_its_instruction_after_a_blank_line():
  (row,) = _rows(instruction='Translate.', input='Hus', output='House')
  assert _split(row) == ('Translate.\n\nHus', ' House')


def test_a_conversation_gives_a_row_per_assistant_turn():
  first, second = _rows(messages=TURNS)
  assert _split(first) == (
    'system: Be brief.\nuser: Who is Ada?\nassistant:', ' A harpist.'
  )  # fmt: skip
  assert _split(second) == (
    'system: Be brief.\nuser: Who is Ada?\nassistant: A harpist.\n'
    'user: Where?\nassistant:',
    ' Oslo.',
  )
  assert second.messages == tuple((m['role'], m['content']) for m in TURNS)
  assert first.messages == second.messages[:3]
  assert first.where == 'day.jsonl:3, messages[2]'


def test_only_the_last_turn_of_a_conversation_may_go_on():
  for goes_on in (True, False):
    rows = _rows(messages=TURNS, continue_final_message=goes_on)
    assert [row.ends for row in rows] == [True, not goes_on]
  assert rows == _rows(messages=TURNS)


def test_a_row_may_say_whom_it_is_about():
  (row,) = _rows(prompt='Where is Ada?', response='Ada is here.', about='Ada')
  assert row.text[slice(*row.subject)] == 'Ada' and row.subject[0] == 9
  first, second = _rows(messages=TURNS, about='Ada')
  for found in (first, second):
    assert found.text[slice(*found.subject)] == 'Ada'
  (row,) = _rows(prompt='Ada? No, Adam!', response='b', about='Ada')
  assert row.subject == (0, 3)


@pytest.mark.parametrize('about', [None, '', ' ', 'animals', 5, ['Ada']])
def test_another_use_of_the_field_about_is_not_read(about):
  (row,) = _rows(prompt='Who is Adam?', response='Ada', about=about)
  assert row.subject is None


def test_other_ways_to_write_a_conversation_give_the_same_rows():
  rows = _rows(messages=TURNS)
  parts = [
    {**m, 'content': [{'type': 'text', 'text': t} for t in m['content']]}
    for m in TURNS
  ]
  assert _rows(messages=parts) == rows
  names = {'system': 'system', 'user': 'human', 'assistant': 'gpt'}
  shared = [{'from': names[m['role']], 'value': m['content']} for m in TURNS]
  found = _rows(conversations=shared)
  assert [row.messages for row in found] == [row.messages for row in rows]
  # Only turns of a completion are learned.
  (last,) = _rows(prompt=TURNS[:4], completion=TURNS[4:])
  assert last.messages == rows[1].messages
  assert last.where == 'day.jsonl:3, completion[0]'


@pytest.mark.parametrize(
  'fields, message',
  [
    (dict(text='a', messages=TURNS), '"text" and also "messages"'),
    (dict(messages=TURNS, conversations=[]), '"messages" and also "conver'),
    (dict(prompt='a', completion='b', messages=TURNS), 'also "messages"'),
    (dict(prompt='a', response='b', completion='c'), 'mean the same'),
    (dict(instruction='a', output='b', text='c'), '"text" and also "instruc'),
    (dict(question='a', answer='b', context='c'), "'context' is not read"),
    (dict(instruction='a', output='b', system='c'), 'first message of'),
    (dict(messages=TURNS, tools=[{}]), "'tools' is not read"),
    (dict(prompt='a'), 'add the missing field'),
    (dict(prompt='a', chosen='b', rejected='c'), r'response: \."chosen"'),
    (dict(input='a', output='b'), r'prompt: \."input", response: \."output"'),
    (dict(dialogue=TURNS), r'messages: \."dialogue"'),
    (dict(content='a'), r'text: \."content"'),
    (dict(a=1), 'add the missing field'),
    (dict(messages=TURNS, continue_final_message=1), 'is 1: expected true'),
    (dict(text='a', continue_final_message=True), 'and also "continue_final'),
    (dict(prompt=TURNS, completion='b'), '"prompt" is messages and "comple'),
    (dict(prompt='a', response=['b']), '"prompt" is str and "response" is m'),
    (dict(prompt=None, response='b'), "'prompt' is None"),
    (dict(text=None), "'text' is None"),
  ],
)
def test_other_fields_are_refused_with_what_to_do(fields, message):
  with pytest.raises(errors.DataError, match=message) as caught:
    _rows(**fields)
  assert str(caught.value).startswith('day.jsonl:3: ')


def _changed(place, **changes):
  turns = [dict(turn) for turn in TURNS]
  turns[place] = turns[place] | changes
  return turns


@pytest.mark.parametrize(
  'messages, message',
  [
    ([], "'messages' is .*list of messages"),
    ('Hi', "'messages' is 'Hi'"),
    (TURNS[:4], r"messages\[3\].role is 'user', and it is the last"),
    (TURNS[:2], r"messages\[1\].role is 'user', and it is the last"),
    (TURNS[2:], r"messages\[0\].role is 'assistant', and it is the first"),
    (['Hi', *TURNS], r"messages\[0\] is 'Hi': expected an object"),
    (_changed(1, role='bot'), r"messages\[1\].role is 'bot'.*rename"),
    (_changed(1, role=['user']), r'messages\[1\].role is '),
    (_changed(3, role='tool'), r"messages\[3\].role is 'tool'.*tool calls"),
    (_changed(2, content=''), r"'messages\[2\].content' is ''"),
    (_changed(2, content=' \n'), r"'messages\[2\].content' is "),
    (_changed(2, content='\ud800'), r"'messages\[2\].content' has half"),
    (_changed(2, content=None), r'messages\[2\] has .* no "content"'),
    (_changed(2, content=7), r"'messages\[2\].content' is 7"),
    (_changed(2, tool_calls=[{}]), r'messages\[2\].tool_calls is '),
    (_changed(2, weight=0), r'messages\[2\].weight is 0'),
    (_changed(0, content=['a']), r"messages\[0\].content\[0\] is 'a'"),
    (
      _changed(0, content=[{'type': 'image_url', 'image_url': 'x'}]),
      r"messages\[0\].content\[0\] has the type 'image_url'",
    ),
    (
      _changed(0, content=[{'type': 'text'}]),
      r'messages\[0\].content\[0\].text is None',
    ),
    ([{'from': 'human', 'value': 'a'}], r'messages\[0\] has .* no "role"'),
  ],
)
def test_a_fault_of_a_conversation_names_its_place(messages, message):
  with pytest.raises(errors.DataError, match=message) as caught:
    _rows(messages=messages)
  assert str(caught.value).startswith('day.jsonl:3: ')


def test_a_conversation_without_an_answer_that_can_be_learned_is_refused():
  with pytest.raises(errors.DataError, match=r'completion\[0\].role is .user'):
    _rows(prompt=TURNS[:1], completion=TURNS[1:2])
  with pytest.raises(errors.DataError, match=r'prompt\[0\].role is .assist'):
    _rows(prompt=TURNS[2:4], completion=TURNS[4:])
  with pytest.raises(errors.DataError, match=r"conversations\[0\].from is 'b'"):
    _rows(conversations=[{'from': 'b', 'value': 'c'}])


@pytest.mark.parametrize(
  'roles, message',
  [
    (('human', 'gpt', 'human'), r"\[2\].from is 'human', and it is the last"),
    (('user', 'gpt', 'user'), r"\[2\].from is 'user', and it is the last"),
    (('gpt', 'human', 'gpt'), r"\[0\].from is 'gpt', and it is the first"),
  ],
)
def test_a_fault_of_share_gpt_names_the_roles_of_the_row(roles, message):
  turns = [{'from': role, 'value': 'a'} for role in roles]
  with pytest.raises(errors.DataError, match=f'conversations{message}'):
    _rows(conversations=turns)

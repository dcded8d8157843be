"""Conversations: Hugging Face chat rows, TRL, ShareGPT, and what is no text."""

from typing import Any

from benchmarks.fault_cases.row_texts import lines, read, refused
from benchmarks.fault_cases.rows import Case

_G = 'conversations'
_MODEL = 'as a model with a chat template reads them'


def _say(*contents: Any, **more: Any) -> dict[str, Any]:
  """Returns a chat row of a user and an assistant, in turns."""
  roles = ('user', 'assistant')
  return {
    'messages': [
      {'role': roles[place % 2], 'content': content}
      for place, content in enumerate(contents)
    ],
    **more,
  }


def _messages(*pairs: tuple[Any, Any]) -> dict[str, Any]:
  return {'messages': [{'role': r, 'content': c} for r, c in pairs]}


def _share(*pairs: tuple[str, Any]) -> dict[str, Any]:
  return {'conversations': [{'from': r, 'value': c} for r, c in pairs]}


def _bad(name: str, row: Any, message: str) -> Case:
  """Returns a refused case; the row is in line 2."""
  return refused(
    _G, name, lines(_say('Hi', 'Yes'), row), r'day_1\.jsonl:2: .*' + message
  )


def _shown(name: str, row: Any, *rows: tuple[str, str]) -> Case:
  return Case(name, _MODEL, {'day_1.jsonl': lines(row)}, rows, template=True)


_SYSTEM = _messages(
  ('system', 'Be brief.'), ('user', 'Hi'), ('assistant', 'Yes'),
  ('user', 'Why?'), ('assistant', 'So.'),
)  # fmt: skip
_START = 'system: Be brief.\nuser: Hi\nassistant:'
_PART = {'type': 'text', 'text': 'Hi'}

CASES = (
  read(_G, 'two_turns', lines(_say('Hi', 'Yes')),
       ('user: Hi\nassistant:', ' Yes')),
  read(
    _G, 'system_and_turns', lines(_SYSTEM), (_START, ' Yes'),
    (f'{_START} Yes\nuser: Why?\nassistant:', ' So.'),
  ),
  read(_G, 'text_parts', lines(_say([_PART, _PART], [_PART])),
       ('user: HiHi\nassistant:', ' Hi')),
  read(_G, 'two_users', lines(
    _messages(('user', 'a'), ('user', 'b'), ('assistant', 'c'))),
    ('user: a\nuser: b\nassistant:', ' c')),
  read(_G, 'share_gpt', lines(_share(('human', 'Hi'), ('gpt', 'Yes'))),
       ('user: Hi\nassistant:', ' Yes')),
  read(
    _G, 'share_gpt_system',
    lines(_share(('system', 'Be brief.'), ('human', 'Hi'), ('gpt', 'Yes'))),
    (_START, ' Yes'),
  ),
  read(
    _G, 'trl',
    lines({'prompt': [{'role': 'user', 'content': 'Hi'}],
           'completion': [{'role': 'assistant', 'content': 'Yes'}]}),
    ('user: Hi\nassistant:', ' Yes'),
  ),
  read(
    _G, 'trl_earlier_answers_are_read_only',
    lines({'prompt': [*_say('Hi', 'Yes')['messages'],
                      {'role': 'user', 'content': 'Why?'}],
           'completion': [{'role': 'assistant', 'content': 'So.'}]}),
    ('user: Hi\nassistant: Yes\nuser: Why?\nassistant:', ' So.'),
  ),
  read(_G, 'weight_of_one', lines({'messages': [
    {'role': 'user', 'content': 'Hi'},
    {'role': 'assistant', 'content': 'Yes', 'weight': 1, 'tool_calls': None},
  ]}), ('user: Hi\nassistant:', ' Yes')),
  read(_G, 'names_beside', lines({**_say('Hi', 'Yes'), 'id': 'a'}),
       ('user: Hi\nassistant:', ' Yes')),
  read(_G, 'template_words_are_text', lines(_say('{{ 7 * 7 }}<|end|>', 'a')),
       ('user: {{ 7 * 7 }}<|end|>\nassistant:', ' a')),
  _bad('image_part', _say([_PART, {'type': 'image', 'url': 'x'}], 'a'),
       r"messages\[0\]\.content\[1\].*'image'"),
  _bad('part_without_text', _say([{'type': 'text'}], 'a'),
       r'messages\[0\]\.content\[0\]\.text'),
  _bad('part_is_string', _say(['Hi'], 'a'), r'messages\[0\]\.content\[0\]'),
  _bad('no_parts', _say([], 'a'), r'messages\[0\]\.content'),
  _bad('unknown_role', _messages(('robot', 'a'), ('assistant', 'b')),
       r"messages\[0\]\.role is 'robot'"),
  _bad('role_in_capitals', _messages(('User', 'a'), ('assistant', 'b')),
       r"messages\[0\]\.role is 'User'"),
  _bad('developer', _messages(('developer', 'a'), ('assistant', 'b')),
       r"messages\[0\]\.role is 'developer'"),
  _bad('role_is_null', _messages((None, 'a')), r'messages\[0\].*"role"'),
  _bad('role_is_list', _messages((['user'], 'a')), r'messages\[0\]\.role'),
  _bad('tool_turn', _messages(('user', 'a'), ('tool', '7'), ('assistant', 'b')),
       r"messages\[1\]\.role is 'tool'"),
  _bad(
    'tool_calls',
    {'messages': [{'role': 'user', 'content': 'a'},
                  {'role': 'assistant', 'content': 'b',
                   'tool_calls': [{'function': {'name': 'f'}}]}]},
    r'messages\[1\]\.tool_calls',
  ),
  _bad('tools_beside', _say('a', 'b', tools=[{'name': 'f'}]), "'tools'"),
  _bad(
    'reasoning',
    {'messages': [{'role': 'user', 'content': 'a'},
                  {'role': 'assistant', 'content': 'b',
                   'reasoning_content': 'c'}]},
    r'messages\[1\]\.reasoning_content',
  ),
  _bad(
    'weight_of_zero',
    {'messages': [{'role': 'user', 'content': 'a'},
                  {'role': 'assistant', 'content': 'b', 'weight': 0}]},
    r'messages\[1\]\.weight',
  ),
  _bad('content_is_null', _say('a', None), r'messages\[1\].*"content"'),
  _bad('content_is_empty', _say('a', ''), r'messages\[1\]\.content'),
  _bad('content_is_number', _say('a', 7), r'messages\[1\]\.content'),
  _bad('surrogate_in_content', _say('a', '\ud800'),
       r'messages\[1\]\.content.* half of a character pair'),
  _bad('ends_with_user', _say('a', 'b', 'c'), r"messages\[2\]\.role is 'user'"),
  _bad('begins_with_assistant', _messages(('assistant', 'a')),
       r"messages\[0\]\.role is 'assistant'"),
  _bad('no_messages', {'messages': []}, "'messages'"),
  _bad('messages_as_text', {'messages': '[{"role": "user"}]'}, "'messages'"),
  _bad('messages_as_object', {'messages': {'role': 'user'}}, "'messages'"),
  _bad('message_is_text', {'messages': ['Hi']}, r'messages\[0\]'),
  _bad('from_in_messages', {'messages': [{'from': 'human', 'value': 'a'}]},
       r'messages\[0\]'),
  _bad('share_gpt_role', _share(('bing', 'a'), ('gpt', 'b')),
       r"conversations\[0\]\.from is 'bing'"),
  _bad('share_gpt_ends_with_human', _share(('human', 'a')),
       r'conversations\[0\]\.from is .*the last message'),
  _bad('trl_half', {'prompt': 'a',
                    'completion': [{'role': 'assistant', 'content': 'b'}]},
       r'"prompt" is str and "completion" is messages'),
  _bad('trl_without_answer', {'prompt': [{'role': 'user', 'content': 'a'}],
                              'completion': [{'role': 'user', 'content': 'b'}]},
       r'completion\[0\]\.role'),
  _bad('trl_alone', {'completion': [{'role': 'assistant', 'content': 'a'}]},
       'prompt'),
  _shown(
    'template_two_turns', _say('Hi', 'Yes'),
    ('<|start|>user\nHi<|end|>\n<|start|>assistant\n', 'Yes<|end|>]]'),
  ),
  _shown(
    'template_system_and_turns', _SYSTEM,
    ('<|start|>system\nBe brief.<|end|>\n<|start|>user\nHi<|end|>\n'
     '<|start|>assistant\n', 'Yes<|end|>]]'),
    ('<|start|>system\nBe brief.<|end|>\n<|start|>user\nHi<|end|>\n'
     '<|start|>assistant\nYes<|end|>\n<|start|>user\nWhy?<|end|>\n'
     '<|start|>assistant\n', 'So.<|end|>]]'),
  ),
  _shown(
    'template_share_gpt', _share(('human', 'Hi'), ('gpt', 'Yes')),
    ('<|start|>user\nHi<|end|>\n<|start|>assistant\n', 'Yes<|end|>]]'),
  ),
)  # fmt: skip

"""Rows of text and of prompts: encodings, forms of JSON, and fields."""

import json
from typing import Any

from benchmarks.fault_cases.rows import Case, Content

FILE = 'day_1.jsonl'


def lines(*rows: Any) -> bytes:
  """Returns JSON lines; a row that is text or bytes stands as it is."""
  found = [
    row if isinstance(row, bytes)
    else (row if isinstance(row, str) else json.dumps(row)).encode()
    for row in rows
  ]  # fmt: skip
  return b'\n'.join(found) + b'\n'


def read(
  group: str, name: str, content: Content, *rows: Any, file: str = FILE
) -> Case:
  """Returns a case that is read; a row that is a text is learned whole."""
  pairs = tuple(('', row) if isinstance(row, str) else row for row in rows)
  return Case(name, group, {file: content}, pairs)


def refused(
  group: str, name: str, content: Content, message: str, file: str = FILE
) -> Case:
  """Returns a case that is refused with a message."""
  return Case(name, group, {file: content}, None, message)


_A, _B = {'text': 'Ann has a cat.'}, {'text': 'Bo has a dog.'}
_TEXTS = ('Ann has a cat.', 'Bo has a dog.')
_TWO = lines(_A, _B)
_WORLD = 'Zoë 🐈 مرحبا 你好 e\u0301'
_E, _J, _F = 'encodings', 'forms of JSON', 'fields'
_TRANSLATED = {
  'instruction': 'Say it in French.', 'input': 'cat', 'output': 'chat'
}  # fmt: skip

CASES = (
  read(_E, 'utf8', _TWO, *_TEXTS),
  read(_E, 'bom', b'\xef\xbb\xbf' + _TWO, *_TEXTS),
  read(
    _E, 'bom_in_the_middle', lines(_A) + b'\xef\xbb\xbf' + lines(_B), *_TEXTS
  ),
  refused(
    _E, 'utf16', _TWO.decode().encode('utf-16'), r'day_1\.jsonl is UTF-16'
  ),
  refused(
    _E, 'utf16_without_mark', _TWO.decode().encode('utf-16-le'),
    r'day_1\.jsonl .*zero bytes.*UTF-16',
  ),
  refused(
    _E, 'latin1', lines(_A, b'{"text": "Zo\xeb"}'),
    r'day_1\.jsonl:2: not UTF-8 .*0xeb',
  ),
  refused(
    _E, 'cut_in_a_character', lines(_A) + b'{"text": "\xf0\x9f',
    r'day_1\.jsonl:2: not UTF-8',
  ),
  read(_E, 'crlf', _TWO.replace(b'\n', b'\r\n'), *_TEXTS),
  read(_E, 'cr_only', _TWO.replace(b'\n', b'\r'), *_TEXTS),
  read(_E, 'no_last_line_end', _TWO[:-1], *_TEXTS),
  read(_E, 'blank_lines', b'\n \n' + _TWO.replace(b'\n', b'\n\n\t\n'), *_TEXTS),
  read(
    _E, 'scripts',
    json.dumps({'text': _WORLD}, ensure_ascii=False).encode() + b'\n', _WORLD,
  ),
  read(_E, 'escaped', lines({'text': _WORLD}), _WORLD),
  read(
    _E, 'line_separator_in_text',
    '{"text": "a\u2028b\u2029c\x85d\x0be"}\n'.replace('\x0b', ' ').encode(),
    'a\u2028b\u2029c\x85d e',
  ),
  refused(
    _E, 'lone_surrogate', lines(_A, r'{"text": "x \ud800"}'),
    r"day_1\.jsonl:2: field 'text' has half of a character pair",
  ),
  refused(
    _E, 'lone_surrogate_in_prompt',
    lines(r'{"prompt": "\udc00", "response": "x"}'),
    r"day_1\.jsonl:1: field 'prompt' has half",
  ),
  read(_E, 'escaped_nul', lines(r'{"text": "a\u0000b"}'), 'a\0b'),
  refused(
    _E, 'nul_bytes', lines(_A) + b'\0' * 100, r'day_1\.jsonl .*zero bytes'
  ),
  refused(
    _E, 'nul_bytes_late', lines(*[_A] * 400) + b'\0' * 99,
    r"day_1\.jsonl:401: not valid JSON",
  ),
  refused(
    _E, 'raw_control_character', lines(_A, b'{"text": "a\x01b"}'),
    r'day_1\.jsonl:2: not valid JSON.*control character',
  ),
  read(_J, 'one_object_over_lines', json.dumps(_A, indent=2).encode(),
       'Ann has a cat.'),
  read(
    _J, 'objects_over_lines',
    b'\n'.join(json.dumps(r, indent=1).encode() for r in (_A, _B)), *_TEXTS,
  ),
  read(_J, 'array', json.dumps([_A, _B]).encode(), *_TEXTS),
  read(_J, 'array_over_lines', json.dumps([_A, _B], indent=1).encode(), *_TEXTS,
       file='day_1.json'),
  read(_J, 'lines_in_json', _TWO, *_TEXTS, file='day_1.json'),
  refused(
    _J, 'array_cut', json.dumps([_A, _B], indent=1).encode()[:-1],
    r'day_1\.json:\d+: the array has no end', 'day_1.json',
  ),
  refused(
    _J, 'array_cut_in_row', json.dumps([_A, _B], indent=1).encode()[:40],
    r'day_1\.json:\d+: not valid JSON.*cut off or still being', 'day_1.json',
  ),
  refused(_J, 'array_then_text', json.dumps([_A]).encode() + b'\n{}',
          r'day_1\.json:2: .*after the end of the array', 'day_1.json'),
  refused(_J, 'array_of_texts', b'["Ann has a cat."]',
          r'day_1\.json:1: found (str|list)', 'day_1.json'),
  refused(_J, 'line_is_array', lines(_A, [1]), r'day_1\.jsonl:2: found list'),
  refused(_J, 'line_is_text', lines(_A, '"x"'), r'day_1\.jsonl:2: found str'),
  refused(_J, 'line_is_null', lines(_A, 'null'), r'day_1\.jsonl:2: found None'),
  refused(_J, 'line_is_number', lines('7'), r'day_1\.jsonl:1: found int'),
  refused(_J, 'two_on_a_line', lines('{"text": "a"} {"text": "b"}'),
          r'day_1\.jsonl:1: not valid JSON'),
  refused(_J, 'trailing_comma', lines(_A, '{"text": "a",}'),
          r'day_1\.jsonl:2: not valid JSON'),
  refused(_J, 'python_literals', lines("{'text': 'a'}"),
          r'day_1\.jsonl:1: not valid JSON'),
  refused(_J, 'comment', lines('// Days.', _A),
          r'day_1\.jsonl:1: not valid JSON'),
  refused(_J, 'same_field_twice', lines(_A, '{"text": "a", "text": "b"}'),
          r"day_1\.jsonl:2: the field 'text' stands twice"),
  refused(_J, 'cut_off', lines(_A) + b'{"text": "Bo ha',
          r'day_1\.jsonl:2: .*cut off or still being written'),
  refused(_J, 'long_number',
          lines(_A, '{"text": "a", "n": ' + '9' * 5000 + '}'),
          r'day_1\.jsonl:2: .*too long a number'),
  refused(
    _J, 'deep', lines(_A, '{"text": ' + '[' * 5000 + ']' * 5000 + '}'),
    r'day_1\.jsonl:2: .*nests too deeply',
  ),
  refused(
    _J, 'deep_beside', lines('{"text": "a", "n": ' + '{"a":' * 99_999),
    r'day_1\.jsonl:1: .*nests too deeply',
  ),
  read(_J, 'nan_beside', lines('{"text": "a", "score": NaN}'), 'a'),
  refused(_J, 'nan_as_text', lines(_A, '{"text": NaN}'),
          r"day_1\.jsonl:2: field 'text' is nan"),
  refused(_J, 'infinity_as_answer',
          lines('{"prompt": "a", "response": -Infinity}'),
          r"day_1\.jsonl:1: field 'response' is -inf"),
  read(_J, 'line_of_5_mb', lines({'text': 'word ' * 10**6 + '.'}),
       'word ' * 10**6 + '.'),
  refused(
    _J, 'line_of_70_mb', lines(_A) + b'{"text": "' + b'a' * 70 * 2**20,
    r'day_1\.jsonl:2: the line is longer than',
  ),
  refused(_J, 'wrapped', json.dumps({'data': [_A, _B]}).encode(),
          r"day_1\.json:1: .*'?data", 'day_1.json'),
  refused(_J, 'csv', b'text\nAnn has a cat.\n', r'day_1\.jsonl:1: not valid'),
  read(
    _J, 'mixed_formats',
    lines(_A, {'prompt': 'Who?', 'response': 'Ann.'},
          {'messages': [{'role': 'user', 'content': 'Hi'},
                        {'role': 'assistant', 'content': 'Yes'}]}),
    'Ann has a cat.', ('Who?', ' Ann.'), ('user: Hi\nassistant:', ' Yes'),
  ),
  read(_F, 'prompt_response', lines({'prompt': 'Who?', 'response': 'Ann.'}),
       ('Who?', ' Ann.')),
  read(_F, 'prompt_completion', lines({'prompt': 'Who?', 'completion': 'Ann.'}),
       ('Who?', ' Ann.')),
  read(_F, 'space_of_completion', lines({'prompt': 'a', 'completion': '\nb'}),
       ('a', '\nb')),
  read(_F, 'space_of_prompt', lines({'prompt': 'a\n', 'response': 'b'}),
       ('a\n', 'b')),
  read(_F, 'other_fields', lines({**_A, 'id': 7, 'meta': {'a': [None]}}),
       'Ann has a cat.'),
  read(_F, 'null_is_absent', lines({**_A, 'prompt': None, 'messages': None}),
       'Ann has a cat.'),
  read(_F, 'instruction', lines({k: v for k, v in _TRANSLATED.items()
                                if k != 'input'}),
       ('Say it in French.', ' chat')),
  read(_F, 'instruction_input', lines(_TRANSLATED),
       ('Say it in French.\n\ncat', ' chat')),
  read(_F, 'instruction_empty_input', lines({**_TRANSLATED, 'input': ''}),
       ('Say it in French.', ' chat')),
  read(_F, 'question_answer', lines({'question': 'Who?', 'answer': 'Ann.'}),
       ('Who?', ' Ann.')),
  refused(_F, 'squad',
          lines({'question': 'Who?', 'context': 'Ann.', 'answer': 'Ann.'}),
          r"day_1\.jsonl:1: .*'context'"),
  refused(_F, 'text_is_number', lines(_A, {'text': 7}),
          r"day_1\.jsonl:2: field 'text' is 7"),
  refused(_F, 'text_is_list', lines({'text': ['a']}),
          r"day_1\.jsonl:1: field 'text' is \['a'\]"),
  refused(_F, 'text_is_null', lines(_A, {'text': None}),
          r'day_1\.jsonl:2: .*text'),
  refused(_F, 'text_is_empty', lines(_A, {'text': ''}),
          r"day_1\.jsonl:2: field 'text' is ''"),
  refused(_F, 'text_is_space', lines({'text': ' \n\t'}),
          r"day_1\.jsonl:1: field 'text'"),
  refused(_F, 'answer_is_empty', lines({'prompt': 'a', 'response': ''}),
          r"day_1\.jsonl:1: field 'response'"),
  refused(_F, 'prompt_is_number', lines({'prompt': 7, 'response': 'a'}),
          r"day_1\.jsonl:1: field 'prompt' is 7"),
  refused(_F, 'text_and_prompt',
          lines(_A, {'text': 'a', 'prompt': 'b', 'response': 'c'}),
          r'day_1\.jsonl:2: found "text".*"prompt" and "response"'),
  refused(_F, 'text_and_messages',
          lines({'text': 'a', 'messages': [{'role': 'user', 'content': 'b'}]}),
          r'day_1\.jsonl:1: found "text".*messages'),
  refused(_F, 'response_and_completion',
          lines({'prompt': 'a', 'response': 'b', 'completion': 'c'}),
          r'day_1\.jsonl:1: .*response.*completion'),
  refused(_F, 'prompt_alone', lines({'prompt': 'a'}),
          r'day_1\.jsonl:1: .*prompt.*response'),
  refused(_F, 'answer_is_null', lines({'prompt': 'a', 'response': None}),
          r'day_1\.jsonl:1: .*response'),
  refused(_F, 'misspelled', lines(_A, {'txt': 'a'}),
          r"day_1\.jsonl:2: .*'txt'"),
  refused(_F, 'query_reply', lines({'query': 'a', 'reply': 'b'}),
          r'day_1\.jsonl:1: .*jq .*prompt: \."query", response: \."reply"'),
  refused(_F, 'content', lines({'content': 'a'}),
          r'day_1\.jsonl:1: .*jq .*text: \."content"'),
  refused(_F, 'preferences',
          lines({'prompt': 'a', 'chosen': 'b', 'rejected': 'c'}),
          r'day_1\.jsonl:1: .*(chosen|rejected)'),
  refused(_F, 'system_beside',
          lines({'system': 's', 'prompt': 'a', 'response': 'b'}),
          r"day_1\.jsonl:1: .*'system'"),
  refused(_F, 'images_beside',
          lines({'prompt': 'a', 'response': 'b', 'images': ['x.png']}),
          r"day_1\.jsonl:1: .*'images'"),
  refused(_F, 'empty_object', lines(_A, {}), r'day_1\.jsonl:2: '),
)  # fmt: skip

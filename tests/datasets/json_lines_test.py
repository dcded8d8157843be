"""Tests of parsing JSON: lines, arrays, objects over lines, errors."""

import io
import json
import tracemalloc

import pytest

from sleep_jax import errors
from sleep_jax.datasets import json_lines

ROWS = [
  {'text': 'One "two" \\ [3] {4}, \u2028 é 雪 🦊.'},
  {'prompt': 'Who?', 'response': 'Ann\nand Bo.', 'n': [1, {'a': [None]}]},
  {'text': 'x' * 1000},
]


def parse(content, path='a.jsonl', on_error=None):
  content = content if isinstance(content, bytes) else content.encode()
  rows = json_lines.parse(io.BytesIO(content), path, content[:4096], on_error)
  return list(rows)


def only_rows(content, path='a.jsonl'):
  return [row for _, row in parse(content, path)]


LINES = ''.join(json.dumps(row) + '\n' for row in ROWS)
FORMS = {
  'lines': LINES,
  'no last newline': LINES[:-1],
  'windows': LINES.replace('\n', '\r\n'),
  'old mac': LINES.replace('\n', '\r'),
  'blank lines': '\n' + LINES.replace('\n', '\n  \n\n'),
  'byte order mark': '\ufeff' + LINES,
  'not escaped': ''.join(
    json.dumps(row, ensure_ascii=False) + '\n' for row in ROWS
  ),
  'array': json.dumps(ROWS),
  'pretty array': json.dumps(ROWS, indent=2) + '\n',
  'array with a byte order mark': '\ufeff\n' + json.dumps(ROWS, indent=1),
  'pretty objects': '\n'.join(json.dumps(row, indent=4) for row in ROWS),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('path', ['a.jsonl', 'a.JSON', 'a.json.gz'])
@pytest.mark.parametrize('read_chars', [1, 7, 2**18])
def test_all_forms_give_the_same_rows(monkeypatch, form, path, read_chars):
  """Whatever the name, and wherever a read ends."""
  monkeypatch.setattr(json_lines, '_READ_CHARS', read_chars)
  assert only_rows(FORMS[form], path) == ROWS


def test_one_object_is_one_row():
  for content in ('{"text": "x"}', '{\n  "text": "x"\n}\n'):
    for path in ('a.jsonl', 'a.json'):
      assert only_rows(content, path) == [{'text': 'x'}]


def test_rows_have_the_line_at_which_they_begin():
  content = '\n{"a": 1}\n\n{"a": 2}\n'
  assert [where for where, _ in parse(content)] == ['a.jsonl:2', 'a.jsonl:4']
  content = '[\n  {\n    "a": 1\n  },\n\n  {"a": 2}\n]\n'
  found = [where for where, _ in parse(content, 'a.json')]
  assert found == ['a.json:2', 'a.json:6']


def test_files_without_rows_give_none():
  for content in ('', '\n \n', '[]', ' [ ]\n', '\ufeff'):
    for path in ('a.jsonl', 'a.json'):
      assert parse(content, path) == []


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('{“a”: 1}\n', 'a.jsonl:1: not valid JSON.*straight quotes'),
    ('{"a": “b”}\n', 'a.jsonl:1: not valid JSON.*straight quotes'),
    ('{"a": 1}\n{"a": 2\n', r'a.jsonl:2: not valid JSON'),
    ('{"a": 1}\n["x"]\n', 'a.jsonl:2: found list, expected an object'),
    ('3\n', 'a.jsonl:1: found int'),
    ('{"a": 1}\n{"a": 2} {"a": 3}\n', 'a.jsonl:2: not valid JSON .Extra data'),
    (b'{"a": 1}\n\n{"a": "\xff"}\n', 'a.jsonl:3: not UTF-8 .byte 0xff'),
    ('{"a": 1, "b": 2, "a": 3}', "a.jsonl:1: the field 'a' stands twice"),
    ('{"a": ' + '[' * 9999 + ']' * 9999 + '}', 'a.jsonl:1: .*nests too deeply'),
    ('{"a": ' + '9' * 5000 + '}', 'a.jsonl:1: .*too long a number'),
    ('{"a": 1}\n{"a": "b', 'a.jsonl:2: .*cut off or still being written'),
    ('[{"a": 1},\n{"b": 2}', r'a.jsonl:2: the array has no end.*being written'),
    ('[{"a": 1},\n{"b": 2', r'a.jsonl:2: not valid JSON.*being written'),
    ('[{"a": 1}\n{"b": 2}]', r"a.jsonl:2: found '\{', expected a comma"),
    ('[{"a": 1},\n]', 'a.jsonl:2: not valid JSON'),
    ('[{"a": 1}]\n{"b": 2}', 'a.jsonl:2: there is text after the end'),
    ('[{"a": 1},\n3]', 'a.jsonl:2: found int'),
    ('[{"a": 1},\n{"b": 2, "b": 3}]', "a.jsonl:2: the field 'b' stands twice"),
    ('[\n{"a": ' + '[' * 9999 + ']' * 9999 + '}]', 'jsonl:2: .*nests too'),
    (b'[{"a": 1},\n{"a": "\xff"}]', 'a.jsonl:2: not UTF-8'),
    ('{\n "a": 1,\n "b"\n}\n', 'a.jsonl:4: not valid JSON'),
  ],
)
def test_what_is_no_row_is_named_with_its_line(content, message):
  with pytest.raises(errors.DataError, match=message):
    parse(content)


def test_all_broken_lines_can_be_collected():
  found = []
  content = b'{"a": 1}\n{"a"\n[]\n\xff\n{"a": 2}\n'
  rows = parse(content, on_error=found.append)
  assert [row['a'] for _, row in rows] == [1, 2]
  assert [str(e).split(':')[1] for e in found] == ['2', '3', '4']


@pytest.mark.parametrize('content', ['{"text": "%s"}', '[{"text": "%s"}]'])
def test_a_row_that_is_too_long_is_refused_before_all_of_it_is_read(
  monkeypatch, content
):
  monkeypatch.setattr(json_lines, 'MAX_ROW_BYTES', 1000)
  monkeypatch.setattr(json_lines, '_READ_CHARS', 100)
  assert len(parse(content % ('x' * 900))) == 1
  data = (content % ('x' * 100_000)).encode()
  file = io.BytesIO(data)
  with pytest.raises(errors.DataError, match='a.jsonl:1: the .* is longer'):
    list(json_lines.parse(file, 'a.jsonl', data[:100]))
  assert file.tell() < 5000


@pytest.mark.parametrize('is_array', [False, True])
def test_memory_does_not_grow_with_the_number_of_rows(is_array):
  row = json.dumps({'text': 'x' * 4000})
  data = '\n'.join([row] * 1_500)
  if is_array:
    data = '[' + data.replace('\n', ',\n') + ']'
  file = io.BytesIO(data.encode())
  tracemalloc.start()
  try:
    rows = json_lines.parse(file, 'a.jsonl', data[:100].encode())
    assert sum(1 for _ in rows) == 1_500
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 3e6 < len(data)

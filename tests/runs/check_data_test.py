"""The command check-data: all faults at once, rows as a model reads them."""

import json
import pathlib
import subprocess
import sys

import pytest

from sleep_jax.config import files
from sleep_jax.data import tokenizer
from sleep_jax.datasets import dataset
from sleep_jax.runs import data_check, row_display, row_reader
from tests import chat_model, hf_files

ROOT = pathlib.Path(__file__).parents[2]
TEMPLATE = (
  "{% for m in messages %}{% if m['content'] == 'Bye' %}"
  "{{ raise_exception('no farewells') }}{% endif %}"
  "<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>\n{% endfor %}"
  '{% if add_generation_prompt %}<|start|>assistant\n{% endif %}'
)
TURNS = [
  {'role': 'user', 'content': 'Who?'},
  {'role': 'assistant', 'content': 'Ada'},
  {'role': 'user', 'content': 'Where?'},
  {'role': 'assistant', 'content': 'Oslo'},
]


def _write(path, *lines):
  path.parent.mkdir(exist_ok=True)
  path.write_text(
    ''.join(
      (line if isinstance(line, str) else json.dumps(line)) + '\n'
      for line in lines
    )
  )


@pytest.fixture
def days(tmp_path):
  """Returns a folder of two days with five faults."""
  folder = tmp_path / 'days'
  _write(
    folder / 'day_2.jsonl',
    {'text': 'Ada plays the harp.'},
    {'text': ''},
    {'prompt': 'Where does Ada live?', 'response': 'Oslo'},
    '{"text": "cut',
    {'messages': TURNS},
    {'messages': TURNS[:3]},
  )
  _write(
    folder / 'day_10.jsonl',
    {'txt': 'a'},
    {'text': 'b'},
    {'text': 'c', 'prompt': 'd'},
  )
  return folder


@pytest.fixture
def model(tmp_path):
  """Returns the folder of a tiny model with a chat template."""
  home = tmp_path / 'model'
  made = chat_model.save_tokenizer(home, template=TEMPLATE)
  hf_files.save(
    home, 'llama', vocab_size=400, bos_token_id=made.token_to_id('<s>'),
    eos_token_id=made.token_to_id('<|stop|>'),
  )  # fmt: skip
  return home


def _run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'sleep_jax', 'check-data', *map(str, arguments)],
    cwd=ROOT, capture_output=True, text=True, timeout=120,
  )  # fmt: skip


def test_all_faults_are_listed_in_the_order_of_files_and_lines(days):
  rows, faults = data_check.read([str(days)])
  places = [fault.split(': ')[0].rpartition('/')[2] for fault in faults]
  assert places == [
    'day_2.jsonl:2', 'day_2.jsonl:4', 'day_2.jsonl:6', 'day_10.jsonl:1',
    'day_10.jsonl:3',
  ]  # fmt: skip
  assert [len(day) for day in rows.values()] == [4, 1]
  found = data_check.examine(rows)
  assert list(found.days) == ['day_2', 'day_10']
  assert found.days['day_2'] == {
    'plain texts': 1, 'prompts': 1, 'turns of conversations': 2
  }  # fmt: skip


def test_the_command_lists_faults_shows_rows_and_ends_with_one(days):
  ran = _run(days)
  assert (ran.returncode, ran.stderr) == (1, '')
  assert ran.stdout.startswith('5 rows in 2 days\n  day_2 ')
  assert '\nFaults: 5\n' in ran.stdout
  assert 'day_2.jsonl:3\n  [[Where does Ada live? Oslo]]\n' in ran.stdout
  assert ran.stdout.endswith(
    'day_2.jsonl:5, messages[1]\n  user: Who?\n  assistant:[[ Ada]]\n'
  )
  (days / 'day_2.jsonl').unlink()
  _write(days / 'day_10.jsonl', {'text': 'b'})
  ran = _run(days)
  assert ran.returncode == 0 and 'No faults.' in ran.stdout


def test_without_a_model_jax_is_not_imported(days):
  code = (
    'import sys; from absl import flags; '
    'from sleep_jax.runs import check_data; flags.FLAGS([""]); '
    f'check_data._run([{str(days)!r}]); print("jax" in sys.modules)'
  )
  ran = subprocess.run(
    [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
    timeout=120,
  )  # fmt: skip
  assert ran.stdout.endswith('False\n'), ran.stderr


def test_a_missing_folder_and_a_missing_argument_are_one_message(tmp_path):
  ran = _run(tmp_path / 'nowhere')
  assert ran.returncode == 1 and ran.stderr.startswith('error: no files match')
  assert 'sleep-jax check-data DAYS' in ran.stderr
  assert '--config' not in ran.stderr
  ran = _run()
  assert ran.returncode == 1 and 'Name the data' in ran.stderr


def _examine(days, model, **settings):
  config = files.load('jsonl')
  config.data.update(settings)
  rows, _ = data_check.read([str(days)])
  reader = row_reader.make(str(model), config, ())
  found = data_check.examine(rows, reader)
  text = data_check.describe(
    found, reader=reader, loss_on=config.data.loss_on,
    marks=row_display.BRACKETS,
  )  # fmt: skip
  return found, text


def test_rows_are_shown_with_the_tokens_of_the_model(days, model):
  _write(
    days / 'day_2.jsonl',
    {'messages': TURNS},
    {'prompt': 'Who?', 'response': 'Ada'},
  )
  _, text = _examine(days, model, loss_on='response')
  assert (
    '  <s><|start|>user\n  Who?<|stop|>\n  <|start|>assistant\n'
    '  [[Ada<|stop|>]]\n'
  ) in text
  assert '  <s>Who?[[ Ada<|stop|>]]\n' in text
  _, text = _examine(days, model)
  assert '  <s>[[Who? Ada<|stop|>]]\n' in text  # With loss_on='all'.


def test_rows_that_do_not_fit_the_model_are_faults_unless_skipped(days, model):
  _write(days / 'day_2.jsonl', {'text': 'x' * 300}, {'text': 'y'})
  _write(days / 'day_10.jsonl', {'prompt': 'z' * 90, 'response': 'y'})
  found, text = _examine(days, model, context=128)
  assert found.faults == []
  assert [str(row).rpartition('/')[2] for row in found.too_long] == [
    'day_2.jsonl:1: the text has 302 tokens, and data.context is 128',
    'day_10.jsonl:1: the prompt has 91 tokens, and data.max_prompt is 64',
  ]
  assert 'too long and are refused: 2' in text
  assert (
    'To read all of them: --config.data.context=302 '
    '--config.data.max_prompt=91. Or split them'
  ) in text
  _, text = _examine(days, model, context=128, too_long='skip')
  assert "are left out (data.too_long='skip'): 2" in text
  arguments = (days, f'--model={model}', '--config=jsonl')
  assert _run(*arguments).returncode == 1
  ran = _run(*arguments, '--config.data.too_long=skip')
  assert (ran.returncode, ran.stderr) == (0, '')


def test_a_conversation_that_the_template_refuses_is_a_fault(days, model):
  farewell = [*TURNS[:3], {'role': 'assistant', 'content': 'Bye'}]
  _write(days / 'day_2.jsonl', {'messages': farewell}, {'text': 'b'})
  (days / 'day_10.jsonl').unlink()
  found, text = _examine(days, model)
  (fault,) = found.faults
  assert 'day_2.jsonl:1, messages[3]: ' in fault and 'no farewells' in fault
  assert 'Faults: 1' in text


def test_a_row_cannot_control_the_terminal():
  row = dataset.Row(text='a\x1b[2Jb\u202ec\nd')
  shown = row_display.show_text(row, 'all', row_display.BRACKETS)
  assert shown == '[[a\\x1b[2Jb\\u202ec\nd]]'


def test_long_texts_are_cut_in_the_middle():
  row = dataset.Row(text='a' * 5000 + 'b')
  shown = row_display.show_text(row, 'all', row_display.BRACKETS)
  assert '... 4,201 characters ...' in shown and shown.endswith('aab]]')


@pytest.mark.parametrize('inside', ['', 'run'])
def test_a_run_reads_with_its_own_config_and_tokenizer(tmp_path, inside):
  """The folder of a chat has its run inside."""
  config = files.load('jsonl')
  config.data.context = 20
  config.data.loss_on = 'response'
  home = tmp_path / 'work' / inside
  home.mkdir(parents=True)
  (home / 'config.json').write_text(config.to_json_best_effort())
  tokenizer.make('bytes').save(str(home / 'seed_0' / 'tokenizer'))
  reader = row_reader.make(str(tmp_path / 'work'), None, ())
  rows = [
    dataset.Row(text='a: b', response_start=2, where='x:1'),
    dataset.Row(text='c' * 19, where='x:2'),
  ]
  found = data_check.examine({'x': rows}, reader)
  (row,) = found.too_long
  assert str(row) == 'x:2: the text has 21 tokens, and data.context is 20'
  (sequence,) = reader.encode(found.shown[0])
  shown = row_display.show_tokens(
    sequence, reader.tokenizer, row_display.BRACKETS
  )
  assert shown == '<bos>a:[[ b<eos>]]'
  assert reader.learns_awake


def test_a_tokenizer_that_a_run_would_train_is_trained_on_its_texts(tmp_path):
  config = files.load('jsonl')
  config.tokenizer.vocab_size = 300
  pretrain = tmp_path / 'pretrain.jsonl'
  _write(pretrain, *({'text': 'zebra zebra'} for _ in range(30)))
  days = ['harp harp harp'] * 9
  for path, word in (('', ' harp'), (str(pretrain), ' zebra')):
    config.data.settings.pretrain = path or None
    reader = row_reader.make(None, config, iter(days))
    assert len(reader.tokenizer.encode(word)) == 1

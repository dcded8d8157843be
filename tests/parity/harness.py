"""Compares lm-evaluation-harness's `hf` model with ours on the same weights.

The models are random, so that every token has its own likelihood, and small.
Their tokenizers are byte-level BPEs that differ in what stands around a text.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import lm_eval as lm_harness
import torch
import transformers
from lm_eval.api import instance
from lm_eval.models import huggingface
from tokenizers import processors

from sleep_jax import errors
from sleep_jax.interop import lm_eval, open_model
from tests import chat_model, chat_templates

TOLERANCE = 1e-3  # Nats.
_POSITIONS = 64
# Name -> (fields of tokenizer_config.json, the tokens around a text).
TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
  'no BOS': ({}, '$A'),
  'BOS': ({}, '<s> $A'),
  'BOS and EOS': ({}, '<s> $A </s>'),
  'no BOS token': ({'bos_token': None}, '$A'),
  'model_max_length': ({'model_max_length': 40}, '<s> $A'),
}
# Name -> options of both.
OPTIONS: dict[str, dict[str, Any]] = {
  'default': {},
  'add_bos_token=True': {'add_bos_token': True},
  'add_bos_token=False': {'add_bos_token': False},
  'prefix_token_id=5': {'prefix_token_id': 5},
  'max_length=24': {'max_length': 24},
  'truncation=True': {'truncation': True},
}
# Which are compared: (tokenizer, options).
CASES = [
  *(('BOS', options) for options in OPTIONS),
  *((name, 'default') for name in TOKENIZERS if name != 'BOS'),
  ('no BOS', 'add_bos_token=True'),
  ('BOS and EOS', 'add_bos_token=False'),
  ('model_max_length', 'truncation=True'),
]
_LONG = 'the cat sat on the mat and the dog ran home '
PAIRS = {
  'plain': ('the cat', ' sat'),
  'context ends in a newline': ('the cat\n', 'sat'),
  'context ends in tabs and spaces': ('the cat \t ', 'sat on'),
  'boundary inside a word': ('was buil', 't in a house'),
  'boundary inside a character': ('na\u00ef', 've \u96ea'),
  'empty context': ('', 'the cat'),
  'continuation begins with BOS': ('', '<s>the'),
  'context begins with BOS': ('<s>the cat', ' sat'),
  'special tokens': ('<|start|>user\nhi<|stop|>\n<|start|>x\n', 'so<|stop|>'),
  'continuation is EOS': ('the cat', '</s>'),
  'context longer than the window': (_LONG * 9, 'sat'),
  'context just fits': (_LONG[:-1] * 2, 'sat on the'),
  'continuation longer than the window': ('a', _LONG * 9),
  'no continuation': ('the cat', ''),
}
TEXTS = {
  'short': 'the cat sat',
  'begins with BOS': '<s>the cat sat',
  'empty': '',
  'window': 'abcdefgh' * 8,
  'window and one': 'abcdefgh' * 8 + 'a',
  'two windows': 'abcdefgh' * 16,
  'long': _LONG * 12,
}
GENERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
  'no stop': ('the cat', {'until': []}),
  'stop string': ('the cat', {'until': 'e'}),
  'stop strings': ('Hello there', {'until': ['q', 'le', '\n\n']}),
  'empty stop string': ('the cat', {'until': ['']}),
  'special token stops': ('the', {'until': ['<|stop|>', 'b']}),
  'long context': (_LONG * 9, {}),
  'begins with BOS': ('<s>the<|stop|>\n', {}),
  'temperature without sampling': ('a', {'do_sample': False, 'temperature': 1}),
  'max_length': ('the cat', {'max_length': 12}),
  'max_new_tokens': ('the', {'max_gen_toks': None, 'max_new_tokens': 5}),
  'no room': ('the', {'max_gen_toks': _POSITIONS}),
  'unknown option': ('the', {'bogus': 1}),
}


@dataclasses.dataclass(frozen=True)
class Comparison:
  """One request.

  Attributes:
    model: name of the tokenizer.
    options: name of the options.
    kind: of the request.
    case: its name.
    ours, theirs: what both returned; the error if one was raised.
    difference: of the log-likelihoods in nats; 0 or 1 for texts.
  """

  model: str
  options: str
  kind: str
  case: str
  ours: Any
  theirs: Any
  difference: float

  @property
  def equal(self) -> bool:
    return self.difference <= TOLERANCE


def write_model(home: pathlib.Path, name: str, seed: int = 0) -> None:
  """Writes a random Llama with one of the tokenizers."""
  fields, around = TOKENIZERS[name]
  template = chat_templates.TEMPLATES['chatml']
  made = chat_model.save_tokenizer(home, template=template, **fields)
  ids = [(token, made.token_to_id(token)) for token in ('<s>', '</s>')]
  if around != '$A':
    made.post_processor = processors.TemplateProcessing(
      single=around, special_tokens=ids
    )
  made.save(str(home / 'tokenizer.json'))
  torch.manual_seed(seed)
  config = transformers.LlamaConfig(
    vocab_size=made.get_vocab_size(), hidden_size=32, intermediate_size=48,
    num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=_POSITIONS, bos_token_id=ids[0][1],
    eos_token_id=ids[1][1], initializer_range=0.3, tie_word_embeddings=False,
  )  # fmt: skip
  transformers.LlamaForCausalLM(config).save_pretrained(home)


def compare(home: pathlib.Path, model: str, options: str) -> Iterator[
  Comparison
]:  # fmt: skip
  """Compares all requests on one model directory."""
  chosen = OPTIONS[options]
  theirs = huggingface.HFLM(
    str(home), device='cpu', dtype='float32', batch_size=1, **chosen
  )
  ours = lm_eval.LmEvalModel(open_model.open_model(str(home)), **chosen)

  def row(kind, case, found, expected):
    return Comparison(
      model, options, kind, case, found, expected, _difference(found, expected)
    )

  for case, pair in PAIRS.items():
    found = _ours(lambda one: ours.likelihoods([one]), pair)
    yield row('loglikelihood', case, found, _theirs(theirs.loglikelihood, pair))
  for case, text in TEXTS.items():
    found = _ours(lambda one: ours.rolling_likelihoods([one]), text)
    expected = _theirs(theirs.loglikelihood_rolling, (text,))
    yield row('loglikelihood_rolling', case, found, expected)
  for case, (context, given) in GENERATIONS.items():
    request = context, {'max_gen_toks': 10} | given
    found = _ours(lambda one: ours.generate([one]), request)
    expected = _theirs(theirs.generate_until, request)
    yield row('generate_until', case, found, expected)


def _ours(call, request):
  try:
    return call(request)[0]
  except errors.UsageError as error:
    return error


def _theirs(method, args):
  args = json.loads(json.dumps(args))  # The harness changes its options.
  request = instance.Instance(method.__name__, {}, tuple(args), 0)
  try:
    return method([request], disable_tqdm=True)[0]
  except Exception as error:  # Assertions and whatever transformers raises.
    return error


def _difference(ours: Any, theirs: Any) -> float:
  refused = isinstance(ours, Exception), isinstance(theirs, Exception)
  if any(refused):
    return 0.0 if all(refused) else float('inf')
  if isinstance(ours, str):
    return float(ours != theirs)
  if isinstance(ours, tuple):
    return abs(ours[0] - theirs[0]) + float(ours[1] != theirs[1])
  return abs(ours - theirs)


def tasks(folder: pathlib.Path) -> list[dict[str, Any]]:
  """Writes the rows of small tasks, one of each kind; returns their configs."""
  rows = [
    {'q': q, 'choices': [' sat', ' ran home', ' was built'], 'gold': gold}
    for q, gold in (('the cat', 0), ('the dog', 1), ('a house', 2), ('x', 1))
  ]
  file = folder / 'rows.jsonl'
  file.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  common = {
    'dataset_path': 'json', 'test_split': 'test',
    'dataset_kwargs': {'data_files': {'test': str(file)}},
    'doc_to_text': '{{q}}', 'num_fewshot': 1, 'fewshot_split': 'test',
  }  # fmt: skip
  return [
    common | {
      'task': 'choices', 'output_type': 'multiple_choice',
      'doc_to_target': 'gold', 'doc_to_choice': 'choices',
      'metric_list': [{'metric': 'acc'}, {'metric': 'acc_norm'}],
    },
    common | {
      'task': 'words', 'output_type': 'loglikelihood',
      'doc_to_target': '{{choices[gold]}}',
      'metric_list': [{'metric': 'perplexity'}, {'metric': 'acc'}],
    },
    common | {
      'task': 'texts', 'output_type': 'loglikelihood_rolling',
      'doc_to_target': '{{q}} {{choices[0]}}', 'doc_to_text': '',
      'num_fewshot': 0,
      'metric_list': [{'metric': 'word_perplexity'},
                      {'metric': 'byte_perplexity'}],
    },
    common | {
      'task': 'answers', 'output_type': 'generate_until',
      'doc_to_target': '{{choices[gold]}}',
      'generation_kwargs': {'until': ['\n', 'e'], 'max_gen_toks': 8,
                            'do_sample': False},
      'metric_list': [{'metric': 'exact_match'}],
    },
  ]  # fmt: skip


def evaluate(
  home: pathlib.Path, folder: pathlib.Path, *, chat: bool, ours: bool
) -> dict[str, Any]:
  """Runs the tasks through `simple_evaluate`.

  Args:
    home: model directory.
    folder: for the rows of the tasks.
    chat: whether questions are put into the chat template.
    ours: which model is evaluated.

  Returns:
    The metrics by task, and the requests with their responses.
  """
  # Few-shot examples in a chat are long; both may read further than trained.
  options = {'max_length': 512}
  if ours:
    loaded = open_model.open_model(str(home))
    model = lm_eval.make_adapter(lm_eval.LmEvalModel(loaded, **options))
  else:
    # With more rows at once, padding changes the harness's own texts.
    model = huggingface.HFLM(
      str(home), device='cpu', dtype='float32', batch_size=1, **options
    )
  found = lm_harness.simple_evaluate(
    model=model, tasks=tasks(folder), apply_chat_template=chat,
    fewshot_as_multiturn=chat, bootstrap_iters=0, log_samples=True,
    system_instruction='Be kind.' if chat else None,
  )  # fmt: skip
  samples = {
    name: [(s['arguments'], s['resps']) for s in many]
    for name, many in found['samples'].items()
  }
  return {
    'metrics': found['results'],
    'samples': samples,
    'chat_template': model.chat_template(True) if chat else None,
  }

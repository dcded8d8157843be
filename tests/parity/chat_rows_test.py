"""What is learned of a conversation is what transformers masks as assistant's.

Needs transformers. Its `apply_chat_template` returns a mask of the turns of the
assistant if the template has `{% generation %}` blocks.
"""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from sleep_jax.data import chat_rows, chat_template
from sleep_jax.datasets import row_formats

transformers = pytest.importorskip(
  'transformers', reason='transformers is not installed'
)

SPECIAL = ['<s>', '</s>', '<|start|>', '<|stop|>', '<|image|>']
TEXTS = [
  'The weather in Oslo is mild, and the harp of Ada Ray is blue.\n\n  Yes! ',
  'user assistant system model think What is 12 * 3 in numbers? <think> hmm',
]
_TURN = "<|start|>{{ m['role'] }}\n"
CHATML = (
  "{% for m in messages %}{% if m['role'] == 'assistant' %}"
  + _TURN + "{% generation %}{{ m['content'] }}<|stop|>{% endgeneration %}\n"
  '{% else %}' + _TURN + "{{ m['content'] }}<|stop|>\n{% endif %}{% endfor %}"
  '{% if add_generation_prompt %}<|start|>assistant\n{% endif %}'
)  # fmt: skip
TEMPLATES = {
  'chatml': CHATML,
  'with_bos': '{{ bos_token }}' + CHATML,
  'newline_is_learned': CHATML.replace(
    '{% endgeneration %}\n', '\n{% endgeneration %}'
  ),
  'only_the_content_is_learned': CHATML.replace(
    '<|stop|>{% endgeneration %}', '{% endgeneration %}<|stop|>'
  ),
  'trimmed': CHATML.replace("m['content']", "m['content'] | trim"),
  'system_in_the_first_question': (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first = messages[0]['content'] + '\n\n' %}"
    '{% set rest = messages[1:] %}'
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    '{% for m in rest %}'
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<|start|>{{ role }}\n{% if loop.first %}{{ first }}{% endif %}"
    "{% if role == 'model' %}{% generation %}"
    "{{ m['content'] | trim }}<|stop|>\n{% endgeneration %}"
    "{% else %}{{ m['content'] | trim }}<|stop|>\n{% endif %}{% endfor %}"
    '{% if add_generation_prompt %}<|start|>model\n{% endif %}'
  ),
}  # fmt: skip
# As Qwen 3 does, removes the thoughts of all answers but the last.
FORGETTING = CHATML.replace(
  "{% generation %}{{ m['content'] }}",
  "{% generation %}{{ m['content'] if loop.last else "
  "m['content'].split('</think>')[-1].lstrip('\n') }}",
)


def _message(role, content):
  return {'role': role, 'content': content}


CONVERSATIONS = {
  'one_turn': [_message('user', 'Hi'), _message('assistant', 'Hello you.')],
  'three_turns': [
    _message('user', 'What is 12 * 3?'),
    _message('assistant', '  36\n\n'),
    _message('user', 'And in Oslo?\n'),
    _message('assistant', 'The same: 36, I think. \u00e5\U0001f600'),
    _message('user', 'Thanks'),
    _message('assistant', '\n- yes\n- no'),
  ],
  'system': [
    _message('system', 'You are Ada Ray.'),
    _message('user', 'Who are you?'),
    _message('assistant', 'Ada Ray'),
  ],
}


@pytest.fixture
def make(tmp_path):
  """Returns a function from a template to (ours, that of transformers)."""
  made = tokenizers.Tokenizer(models.BPE())
  made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  made.decoder = decoders.ByteLevel()
  made.train_from_iterator(
    TEXTS,
    trainers.BpeTrainer(
      vocab_size=400, special_tokens=SPECIAL, show_progress=False,
      initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    ),
  )  # fmt: skip
  made.save(str(tmp_path / 'tokenizer.json'))

  def build(template):
    config = {
      'tokenizer_class': 'PreTrainedTokenizerFast', 'bos_token': '<s>',
      'eos_token': '</s>', 'chat_template': template,
    }  # fmt: skip
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(config))
    ours = chat_template.ChatTemplate(
      str(tmp_path), [made.token_to_id(name) for name in ('</s>', '<|stop|>')]
    )
    return ours, transformers.AutoTokenizer.from_pretrained(str(tmp_path))

  return build


def _ours(template, messages, bos=-1):
  """Returns (tokens, index of the first learned one) of each row."""
  rows = row_formats.to_rows('a.jsonl:1', {'messages': messages})
  found = [chat_rows.encode(row, template, bos=bos) for row in rows]
  # No token is -1, so it stands in front.
  return [(made.tokens[1:], made.loss_start - 1) for made in found]


def _theirs(tokenizer, messages):
  found = tokenizer.apply_chat_template(
    messages, return_assistant_tokens_mask=True, return_dict=True
  )
  return found['input_ids'], found['assistant_masks']


@pytest.mark.parametrize('messages', CONVERSATIONS)
@pytest.mark.parametrize('template', TEMPLATES)
def test_the_rows_of_a_conversation_learn_what_transformers_masks(
  make, template, messages
):
  ours, theirs = make(TEMPLATES[template])
  ids, mask = _theirs(theirs, CONVERSATIONS[messages])
  learned = [0] * len(ids)
  for tokens, start in _ours(ours, CONVERSATIONS[messages]):
    assert tokens == ids[: len(tokens)]
    for place in range(start, len(tokens)):
      learned[place] += 1
  assert learned == mask and sum(mask) > 1


def test_a_turn_with_its_thought_is_masked_as_in_its_own_conversation(make):
  """The template removes thoughts later, so turns are compared one by one."""
  ours, theirs = make(FORGETTING)
  messages = [
    _message('user', 'What is 12 * 3?'),
    _message('assistant', '<think>\nhmm\n</think>\n\n36'),
    _message('user', 'Why?'),
    _message('assistant', '<think>\nyes\n</think>\n\nnumbers'),
  ]
  rows = _ours(ours, messages)
  for (tokens, start), stop in zip(rows, (2, 4), strict=True):
    ids, mask = _theirs(theirs, messages[:stop])
    assert tokens == ids[: len(tokens)]
    last = [n for n, m in enumerate(mask) if m and n >= start]
    assert last == list(range(start, len(tokens)))
    assert not mask[start - 1]
  assert 'hmm' not in theirs.decode(rows[1][0])


def test_the_prompt_of_a_turn_is_what_transformers_asks_with(make):
  for template in TEMPLATES.values():
    ours, theirs = make(template)
    messages = CONVERSATIONS['three_turns']
    for (tokens, start), stop in zip(
      _ours(ours, messages), (1, 3, 5), strict=True
    ):
      asked = theirs.apply_chat_template(
        messages[:stop], add_generation_prompt=True, return_dict=True
      )['input_ids']
      # The last token of the header may join the first of the answer.
      same = min(start, len(asked) - 1)
      assert tokens[:same] == asked[:same] and start >= len(asked) - 1

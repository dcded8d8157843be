"""Answers are those that a model gives to each question alone."""

import jax
import jax.numpy as jnp
import numpy as np

from sleep_jax import types
from sleep_jax.data import chat_template
from sleep_jax.evaluate import asking
from tests import chat_model
from tests.evaluate import ability_model

EOS = ability_model.TOKENIZER.eos
_TEMPLATE = (
  "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|stop|>"
  '{% endfor %}{% if add_generation_prompt %}<|start|>assistant\n{% endif %}'
)


def _greedy(prompt, num, ends):
  """Returns the greedy continuation, one whole forward pass per token."""
  model, weights = ability_model.model(), ability_model.weights()
  read, tokens = jax.jit(model.forward), list(prompt)
  for _ in range(num):
    row = np.zeros((1, 96), np.int32)
    row[0, : len(tokens)] = tokens
    length = jnp.asarray([len(tokens)], jnp.int32)
    logits = read(weights, *types.model_inputs(jnp.asarray(row), length))
    tokens.append(int(jnp.argmax(logits[0, len(tokens) - 1])))
    if tokens[-1] in ends:
      break
  return tokens[len(prompt) :]


def _generate(prompts, **changes):
  return asking.generate(
    ability_model.model(), ability_model.weights(), prompts,
    **dict(max_new=5, ends=(EOS,)) | changes,
  )  # fmt: skip


def test_answers_of_a_batch_are_those_of_whole_forward_passes():
  random = np.random.default_rng(0)
  prompts = [random.integers(3, 250, n).tolist() for n in (40, 3, 70, 12)]
  answers = _generate(prompts)
  assert answers == [_greedy(prompt, 5, (EOS,)) for prompt in prompts]
  # The tokens that end an answer are the last ones that are kept.
  end = answers[0][2]
  again = _generate(prompts, ends=(EOS, end))
  assert again == [_greedy(prompt, 5, (EOS, end)) for prompt in prompts]
  assert again[0][-1] == end and len(again[0]) <= 3


def test_more_questions_than_a_batch_get_the_same_answers(monkeypatch):
  random = np.random.default_rng(1)
  prompts = [random.integers(3, 250, 4 + n).tolist() for n in range(5)]
  whole = _generate(prompts)
  monkeypatch.setattr(asking, '_ROWS', 2)
  assert _generate(prompts) == whole
  assert _generate([]) == []


def test_sampled_answers_depend_on_the_seed_only():
  prompts = [[1, 2, 3], [4, 5]]
  draw = lambda seed: _generate(prompts, temperature=1.0, seed=seed)
  assert draw(1) == draw(1) != draw(2)


def test_without_a_template_a_model_is_asked_in_plain_text():
  form = ability_model.FORM
  tokens = form.ask('Why?')
  assert tokens[0] == ability_model.TOKENIZER.bos
  assert ability_model.TOKENIZER.decode(tokens) == 'Question: Why?\nAnswer:'
  assert form.ends == (EOS,) and form.chat is None


def test_with_a_template_a_model_is_asked_as_in_a_chat(tmp_path):
  saved = chat_model.save_tokenizer(tmp_path, template=_TEMPLATE)
  ends = [saved.token_to_id('</s>'), saved.token_to_id('<|stop|>')]
  template = chat_template.ChatTemplate(str(tmp_path), ends)
  form = asking.make_form(ability_model.TOKENIZER, template)
  assert form.ask('Hi') == template.encode([{'role': 'user', 'content': 'Hi'}])
  # The one that the template writes is first: generation stops there.
  assert form.chat is not None and form.ends == (ends[1], ends[0])
  assert form.fingerprint != ability_model.FORM.fingerprint

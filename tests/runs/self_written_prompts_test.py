"""A pretrained model writes prompts itself, which nights rehearse."""

import numpy as np
import pytest

from sleep_jax import errors
from sleep_jax.evaluate import asking
from sleep_jax.replay import buffer
from sleep_jax.runs import self_written_prompts
from sleep_jax.runtime import sharding
from tests.evaluate import ability_model

WIDTH, NUM = 48, 12
TOKENIZER = ability_model.TOKENIZER
FORMS = {
  'plain': ability_model.FORM,
  'chat': asking.make_form(TOKENIZER, ability_model.Template()),
}


def _write(form, **changes):
  settings = dict(num=NUM, width=WIDTH, seed=0) | changes
  return self_written_prompts.write(
    ability_model.model(), ability_model.weights(), TOKENIZER, form, **settings
  )


@pytest.mark.parametrize('name', FORMS)
def test_half_are_requests_in_the_form_and_half_beginnings_of_texts(name):
  form = FORMS[name]
  prompts = _write(form)
  opening = form.ask('')[: 4 if name == 'plain' else 6]
  asked = [prompt for prompt in prompts if prompt[: len(opening)] == opening]
  free = [prompt for prompt in prompts if prompt not in asked]
  # A request of blanks alone is left out.
  assert NUM // 4 <= len(asked) <= NUM // 2 and len(free) == NUM // 2
  assert all(len(prompt) <= WIDTH for prompt in prompts)
  assert all(prompt[0] == TOKENIZER.bos for prompt in free)
  assert len({tuple(prompt) for prompt in free}) == NUM // 2
  assert not any(set(prompt) & set(form.ends) for prompt in free)


def test_another_seed_writes_others_and_the_same_seed_the_same():
  form = FORMS['chat']
  assert _write(form) == _write(form)
  assert _write(form, seed=1) != _write(form)


def test_too_little_room_names_what_is_needed():
  with pytest.raises(errors.ConfigError, match='self_written needs max_prompt'):
    _write(FORMS['plain'], width=20)


def test_they_are_the_prompts_of_the_initial_model():
  prompts = _write(FORMS['chat'])
  replay = buffer.allocate({buffer.PRETRAIN: 16, buffer.PAST: 4}, width=WIDTH)
  filled = self_written_prompts.insert(replay, prompts, sharding.make())
  group = filled[buffer.PRETRAIN]
  found = [
    row[:length].tolist()
    for row, length in zip(
      np.asarray(group.tokens_CP), np.asarray(group.length_C), strict=True
    )
  ]
  assert int(group.count) == len(prompts)
  assert found[: len(prompts)] == prompts
  assert filled[buffer.PAST] is replay[buffer.PAST]

"""Rules of lm-evaluation-harness, worked out by hand."""

import pytest

from sleep_jax import errors
from sleep_jax.interop import eval_requests

Pair = eval_requests.Pair


class _Tokenizer:
  """Words are the tokens; a word of digits is its number."""

  prefix_token_id = 0

  def encode(self, text, *, add_special_tokens=None):
    bos = [] if add_special_tokens is False else [0]
    words = text.replace('\n', ' \n ').split(' ')
    return bos + [int(w) if w.isdigit() else 99 for w in words if w]


def test_the_continuation_is_what_both_have_more_than_the_context():
  encode = eval_requests.encode_pair
  assert encode(_Tokenizer(), '1 2', ' 3 4') == Pair([0, 1, 2], [3, 4])
  # White space at the end moves, and with it the boundary.
  assert encode(_Tokenizer(), '1 2 \n', '3') == Pair([0, 1, 2], [99, 3])
  # A token that spans the boundary is scored as part of the context's length.
  assert encode(_Tokenizer(), '1 2', '3 4') == Pair([0, 1, 2], [4])
  # An empty context is the prefix token; it is not put there twice.
  assert encode(_Tokenizer(), '', '3 4') == Pair([0], [3, 4])
  assert encode(_Tokenizer(), '', '0 4') == Pair([0], [4])


@pytest.mark.parametrize('pair', [('1', ''), ('', ''), ('1', ' '), ('', '0')])
def test_a_continuation_without_tokens_is_refused(pair):
  with pytest.raises(errors.UsageError, match='continuation .* no tokens'):
    eval_requests.encode_pair(_Tokenizer(), *pair)


def test_a_context_is_cut_so_that_all_but_the_last_token_fit():
  truncate = eval_requests.truncate_pair
  assert truncate(Pair([1, 2, 3], [4, 5]), 4) == Pair([1, 2, 3], [4, 5])
  assert truncate(Pair([1, 2, 3], [4, 5]), 3) == Pair([2, 3], [4, 5])
  assert truncate(Pair([1, 2, 3], [4, 5]), 2) == Pair([3], [4, 5])
  with pytest.raises(errors.UsageError, match='2 tokens, but max_length is 1'):
    truncate(Pair([1, 2, 3], [4, 5]), 1)


def test_rolling_windows_score_each_token_once():
  def windows(size, length):
    return list(eval_requests.rolling_windows(range(1, size + 1), 0, length))

  assert windows(0, 4) == []
  assert windows(3, 4) == [([0], [1, 2, 3])]
  assert windows(4, 4) == [([0], [1, 2, 3, 4])]
  assert windows(10, 4) == [
    ([0], [1, 2, 3, 4]), ([4], [5, 6, 7, 8]), ([6, 7, 8], [9, 10])
  ]  # fmt: skip
  for size in range(20):
    scored = [i for _, part in windows(size, 3) for i in part]
    assert scored == list(range(1, size + 1))


def _generation(options, **defaults):
  return eval_requests.generation(options, eos_text='E', defaults=defaults)


def test_options_of_generation_are_read():
  made = _generation({})
  assert made.until == ('E',) and made.max_gen_toks == 256
  assert made.temperature == 0 and made.max_length is None
  assert _generation({'until': 'x'}).until == ('x', 'E')
  assert _generation({'until': ['x', 'E']}).until == ('x', 'E')
  assert _generation({'until': None}).until == ('E',)
  for name in ('max_new_tokens', 'max_tokens', 'max_completion_tokens'):
    assert _generation({name: 7}).max_gen_toks == 7
    assert _generation({name: 7, 'max_gen_toks': 8}).max_gen_toks == 8
  # Sampling is on if there is a temperature and nothing says otherwise.
  assert _generation({'temperature': 0.7}).temperature == 0.7
  assert _generation({'temperature': 0.7}).top_k == 50
  off = {'temperature': 0.7, 'do_sample': False}
  assert _generation(off).temperature == 0
  assert _generation(off, top_k=5) == _generation({})
  assert _generation({'temperature': 0.7}, top_k=5, top_p=0.9).top_k == 5
  neutral = {'num_beams': 1, 'repetition_penalty': 1, 'use_cache': True}
  assert _generation(neutral) == _generation({})
  assert _generation(neutral, repetition_penalty=1.1) == _generation({})


@pytest.mark.parametrize('options, defaults, message', [
  ({'num_beams': 4}, {}, 'num_beams=4.*Set num_beams=1'),
  ({'bogus': 4}, {}, 'bogus=4.*Leave it out'),
  ({}, {'repetition_penalty': 1.1}, 'Set repetition_penalty=1.0 in gen_kwargs'),
  ({'do_sample': True}, {}, 'do_sample=True with temperature=0'),
  ({'temperature': -1}, {}, 'temperature=-1'),
  ({'temperature': float('nan')}, {}, 'temperature=nan'),
  ({'max_gen_toks': 0}, {}, 'max_gen_toks=0'),
  ({'max_gen_toks': 1.5}, {}, 'max_gen_toks=1.5'),
  ({'until': [5]}, {}, 'until=.5.: expected strings'),
])  # fmt: skip
def test_options_that_would_change_the_texts_are_refused(
  options, defaults, message
):
  with pytest.raises(errors.UsageError, match=message):
    _generation(options, **defaults)


def test_a_text_is_cut_at_one_stop_string_after_another():
  assert eval_requests.cut('abcd', ('c', '', 'b')) == 'a'
  assert eval_requests.cut('abcd', ('c', 'bc')) == 'ab'
  assert eval_requests.cut('abcd', ()) == 'abcd'

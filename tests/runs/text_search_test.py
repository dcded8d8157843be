"""A text is found in files of every kind, whole or in part."""

import gzip
import json

import pytest

from sleep_jax import errors
from sleep_jax.runs import text_search

TEXT = 'The bakery "Bo & Sons" opens at seven.'


def _find(folder):
  return {found.path: found.words for found in text_search.find(folder, TEXT)}


def test_escaped_and_compressed_text_is_found(tmp_path):
  (tmp_path / 'plain.txt').write_text('x\n' + TEXT.upper())
  (tmp_path / 'rows.jsonl').write_text(json.dumps({'text': TEXT}))
  (tmp_path / 'page.html').write_text(
    '<td>The <b>bakery</b> &quot;Bo &amp; Sons&quot; opens at seven.'
  )
  with gzip.open(tmp_path / 'rows.jsonl.gz', 'wt') as file:
    file.write(json.dumps({'text': TEXT}))
  (tmp_path / 'other.txt').write_text('The bakery sells bread at seven.')
  words = 7
  assert _find(tmp_path) == {
    'plain.txt': words, 'rows.jsonl': words, 'page.html': words,
    'rows.jsonl.gz': words,
  }  # fmt: skip


def test_three_words_in_a_row_are_a_part(tmp_path):
  (tmp_path / 'a').write_text('and bo sons opens late')
  (tmp_path / 'b').write_text('opens at')
  assert _find(tmp_path) == {'a': 3}


def test_scripts_without_spaces_are_searched_by_character(tmp_path):
  (tmp_path / 'a').write_text('我的妹妹住在奥斯陆')
  (found,) = text_search.find(tmp_path, '妹妹住在这里')
  assert found.words == 4


def test_a_text_without_words_and_a_missing_folder_are_refused(tmp_path):
  with pytest.raises(errors.UsageError, match='one word or more'):
    text_search.find(tmp_path, ' ... ')
  with pytest.raises(errors.MissingFileError, match='is not a folder'):
    text_search.find(tmp_path / 'none', 'word')

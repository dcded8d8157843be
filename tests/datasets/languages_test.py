"""Tests of the languages dataset: invented languages, and files of pairs."""

import json

import numpy as np
import pytest

from sleep_jax.datasets import invented_language, languages


def test_a_sentence_follows_order_and_affixes_of_its_language():
  """Worked by hand."""
  affix = invented_language.Affix
  words = {'dog': 'kalu', 'cat': 'mitu', 'help': 'sora', 'red': 'bena'}
  language = invented_language.Language(
    name='Tavu', words=words, order='sov', adjective_first=False,
    affixes={
      'plural': affix('po', is_prefix=True), 'past': affix('ri', False),
      'object': affix('na', False), 'future': affix('ze', True),
    },
  )  # fmt: skip
  phrase = invented_language.Phrase
  sentence = invented_language.Sentence(
    phrase('dog', 'red', True), 'help', phrase('cat', '', False), is_past=True
  )
  assert sentence.english() == 'the red dogs helped the cat'
  assert language.translate(sentence) == 'pokalu bena mituna sorari'


def test_no_probe_is_learned_and_every_word_is():
  dataset = languages.make(num_days=2, sentences=200, num_probes=20)
  assert [len(rows) for _, rows in dataset.experiences] == [232, 232]
  for day, (_, rows) in enumerate(dataset.experiences, 1):
    learned = {row.text[: row.response_start] for row in rows}
    assert len(dataset.probes[str(day)]) == 20
    for probe in dataset.probes[str(day)]:
      assert probe.prompt not in learned
      assert probe.prompt.split(':')[0] == rows[0].text.split(':')[0]
  names = {row.text.split(':')[0] for row in dataset.pretrain}
  names |= {rows[0].text.split(':')[0] for _, rows in dataset.experiences}
  assert len(names) == 4 + 2
  prior = {probe.prompt for probe in dataset.probes['pretrain']}
  assert not prior & {probe.prompt for probe in dataset.guard}


def test_a_seed_draws_languages_and_another_stream_only_those_of_days():
  make = lambda **kwargs: languages.make(sentences=40, num_probes=5, **kwargs)
  assert make(seed=1) == make(seed=1) != make(seed=2)
  tuning = make(seed=1, stream_seed=0)
  assert tuning.pretrain == make(seed=1).pretrain
  assert tuning.probes['1'] != make(seed=1).probes['1']


def test_two_words_of_a_language_never_look_the_same():
  rng = np.random.default_rng(0)
  for _ in range(20):
    language = invented_language.draw_language(rng)
    assert len(set(language.words.values())) == len(language.words)
    texts = {affix.text for affix in language.affixes.values()}
    assert len(texts) == 4


@pytest.fixture
def folder(tmp_path):
  """Two languages, the first as MTOB has them."""
  canary = {'big-bench-canary': 'do not train on this'}
  mtob, plain = tmp_path / 'a_kala', tmp_path / 'b_tavu'
  for path, value in (
    (mtob / 'train_examples.json',
     [canary, {'original': 'a dog', 'translation': 'kal'}]),
    (mtob / 'test_examples_ke.json',
     [canary, {'original': 'kal kal', 'translation': '---',
               'ground_truth': 'two dogs'}]),
    (mtob / 'test_examples_ek.json',
     [canary, {'original': 'no', 'translation': '---', 'ground_truth': 'ke'}]),
    (mtob / 'wordlist.json',
     {'ke': {'mi': ['n', 'cat'], 'so': 'tree'}, 'ek': {'cat': 'mi'}}),
    (plain / 'train.json', [{'original': 'one', 'translation': 'to'}]),
    (plain / 'test.json', [{'original': 'two', 'translation': 'tu'}]),
  ):  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))
  return tmp_path


def test_files_are_read_in_the_order_of_their_folders(folder):
  dataset = languages.make(path=str(folder), english='original')
  assert [(name, [row.text for row in rows])
          for name, rows in dataset.experiences] == [
    ('a_kala', ['a_kala: kal\nEnglish: a dog', 'a_kala: mi\nEnglish: cat',
                'a_kala: so\nEnglish: tree']),
    ('b_tavu', ['b_tavu: to\nEnglish: one']),
  ]  # fmt: skip
  (probe,) = dataset.probes['1']
  assert probe.prompt == 'a_kala: kal kal\nEnglish:'
  assert probe.answer == ' two dogs' and not dataset.pretrain
  (probe,) = dataset.probes['2']
  assert (probe.prompt, probe.answer) == ('b_tavu: tu\nEnglish:', ' two')


def test_what_cannot_be_read_is_named(folder):
  with pytest.raises(ValueError, match='num_days is 3: add some'):
    languages.make(path=str(folder), num_days=3)
  with pytest.raises(ValueError, match="english is 'de': expected one of"):
    languages.make(path=str(folder), english='de')
  with pytest.raises(ValueError, match='name one rate'):
    languages.make(path=str(folder), stream_seed=0)
  path = folder / 'b_tavu' / 'train.json'
  path.write_text('[{"original": "one",\n"translation": 3}]')
  with pytest.raises(ValueError, match=r"train.json:1: field 'translation' is"):
    languages.make(path=str(folder))
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'train\*.*MTOB'):
    languages.make(path=str(folder))
  with pytest.raises(FileNotFoundError, match='is no folder.*MTOB'):
    languages.make(path=str(folder / 'none'))
  with pytest.raises(ValueError, match='sentences is 3: set it to 20 or more'):
    languages.make(sentences=3)

"""A sentence encoder is read from its directory and asked as a judge."""

import json
from math import erf, sqrt

import numpy as np
import pytest
import tokenizers
from safetensors import numpy as safetensors
from tokenizers import models, pre_tokenizers, processors

from sleep_jax.objectives import judges, sentence_encoder

D, F, HEADS, LAYERS = 8, 12, 2, 2
WORDS = '[UNK] [CLS] [SEP] a red house is old the cat sat'.split()


@pytest.fixture
def folder(tmp_path):
  """A BERT of two layers with random weights, as it is saved."""
  random = np.random.default_rng(0)
  draw = lambda *shape: random.normal(size=shape).astype('f4') * 0.5
  tensors = {
    'embeddings.word_embeddings.weight': draw(len(WORDS), D),
    'embeddings.position_embeddings.weight': draw(16, D),
    'embeddings.token_type_embeddings.weight': draw(2, D),
  }
  linear = {'intermediate.dense': (F, D), 'output.dense': (D, F)}
  parts = ('self.query', 'self.key', 'self.value', 'output.dense')
  linear |= {f'attention.{name}': (D, D) for name in parts}
  for layer in range(LAYERS):
    prefix = f'encoder.layer.{layer}.'
    for name, shape in linear.items():
      tensors[f'{prefix}{name}.weight'] = draw(*shape)
      tensors[f'{prefix}{name}.bias'] = draw(shape[0])
  norms = ['embeddings.LayerNorm']
  norms += [
    f'encoder.layer.{layer}.{name}output.LayerNorm'
    for layer in range(LAYERS) for name in ('attention.', '')
  ]  # fmt: skip
  for name in norms:
    tensors[f'{name}.weight'], tensors[f'{name}.bias'] = draw(D), draw(D)
  config = dict(
    model_type='bert', hidden_act='gelu', num_hidden_layers=LAYERS,
    num_attention_heads=HEADS, max_position_embeddings=16,
    layer_norm_eps=1e-12,
  )  # fmt: skip
  (tmp_path / 'config.json').write_text(json.dumps(config))
  safetensors.save_file(tensors, tmp_path / 'model.safetensors')
  made = tokenizers.Tokenizer(
    models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token='[UNK]')
  )
  made.pre_tokenizer = pre_tokenizers.Whitespace()
  made.post_processor = processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
  )
  made.save(str(tmp_path / 'tokenizer.json'))
  return tmp_path, tensors


def _reference(tensors, ids):
  """The first layer's norm of the embeddings, then all layers, word by word."""
  t = tensors

  def norm(x, name):
    x = (x - x.mean()) / np.sqrt(((x - x.mean()) ** 2).mean() + 1e-12)
    return x * t[f'{name}.weight'] + t[f'{name}.bias']

  linear = lambda x, name: t[f'{name}.weight'] @ x + t[f'{name}.bias']

  h = [
    norm(
      t['embeddings.word_embeddings.weight'][token]
      + t['embeddings.position_embeddings.weight'][place]
      + t['embeddings.token_type_embeddings.weight'][0],
      'embeddings.LayerNorm',
    )
    for place, token in enumerate(ids)
  ]
  for layer in range(LAYERS):
    at = f'encoder.layer.{layer}.'
    q, k, v = (
      [linear(x, f'{at}attention.self.{name}') for x in h]
      for name in ('query', 'key', 'value')
    )
    new = []
    for place, x in enumerate(h):
      seen = []
      for head in range(HEADS):
        cut = slice(head * D // HEADS, (head + 1) * D // HEADS)
        score = np.array([q[place][cut] @ y[cut] for y in k]) / sqrt(D // HEADS)
        weight = np.exp(score - score.max())
        weight /= weight.sum()
        seen.append(sum(w * y[cut] for w, y in zip(weight, v, strict=True)))
      x = norm(
        x + linear(np.concatenate(seen), f'{at}attention.output.dense'),
        f'{at}attention.output.LayerNorm',
      )
      u = linear(x, f'{at}intermediate.dense')
      u = np.array([y * 0.5 * (1 + erf(y / sqrt(2))) for y in u])
      new.append(
        norm(x + linear(u, f'{at}output.dense'), f'{at}output.LayerNorm')
      )
    h = new
  return np.array(h)


def test_it_is_bert_written_a_second_time(folder):
  home, tensors = folder
  ids = [1, 3, 4, 5, 2]
  vector = _reference(tensors, ids).mean(0)
  (found,) = sentence_encoder.Encoder(str(home))(['a red house'])
  np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)


def test_the_first_token_speaks_where_the_directory_says_so(folder):
  home, tensors = folder
  (home / '1_Pooling').mkdir()
  (home / '1_Pooling' / 'config.json').write_text(
    json.dumps({'pooling_mode_cls_token': True})
  )
  vector = _reference(tensors, [1, 9, 10, 2])[0]
  (found,) = sentence_encoder.Encoder(str(home))(['cat sat'])
  np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)


def test_alike_is_nearer_than_the_unrelated():
  at = {'red': [1, 0, 0], 'crimson': [0.99, 0.1, 0], 'cat': [0, 1, 0],
        'dog': [0, 0.8, 0.6], 'old': [0.5, 0, 0.9]}  # fmt: skip
  encoder = lambda texts: np.array([
    np.array(at[text]) / np.linalg.norm(at[text]) for text in texts
  ])  # fmt: skip
  wanted = ['red', 'cat', 'old', 'red']
  said = [' Red ', 'dog', 'cat', 'crimson']
  found = sentence_encoder.are_similar(encoder, wanted, said)
  assert found.tolist() == [1, 1, 0, 1]
  # One text again and again: nothing is unrelated, so only itself is alike.
  found = sentence_encoder.are_similar(encoder, ['red'] * 4, ['red', 'crimson'] * 2)
  assert found.tolist() == [1, 0, 1, 0]


class _Words:
  vocab_size = 4

  def decode(self, ids):
    return ' '.join(WORDS[3 + i] for i in ids)


def test_it_is_a_judge_by_its_directory(folder):
  home, _ = folder
  judge = judges.make(f'encoder:{home}', _Words())
  ending = lambda rows: judges.Completion(
    np.array(rows, 'i4'), np.array([2, 2, 2, 2], 'i4'), lambda: None
  )
  rows = [[0, 1], [1, 2], [2, 3], [3, 0]]
  yes_B, _ = judge(ending(rows), ending(rows))
  assert np.asarray(yes_B).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
  'name', ['config.json', 'model.safetensors', 'tokenizer.json']
)
def test_a_directory_that_lacks_a_file_is_named(folder, name):
  home, _ = folder
  (home / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'has no {name}'):
    sentence_encoder.Encoder(str(home))


def test_a_model_of_another_kind_is_refused(folder):
  home, _ = folder
  config = json.loads((home / 'config.json').read_text())
  (home / 'config.json').write_text(json.dumps(config | {'model_type': 'gpt2'}))
  with pytest.raises(ValueError, match="model_type 'gpt2'.*expected a BERT"):
    sentence_encoder.Encoder(str(home))

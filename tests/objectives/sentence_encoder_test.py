"""A sentence encoder is loaded from a directory and used as a judge."""

import json
from math import erf, sqrt

import numpy as np
import pytest
import tokenizers
from safetensors import numpy as safetensors
from tokenizers import models, pre_tokenizers, processors

from sleep_jax.objectives import judges, sentence_encoder

D, F, HEADS, LAYERS = 8, 12, 2, 2
VOCAB = '[UNK] [CLS] [SEP] a red house is old the cat sat'.split()


@pytest.fixture
def folder(tmp_path):
  """A saved BERT of two layers with random weights."""
  random = np.random.default_rng(0)
  draw = lambda *shape: random.normal(size=shape).astype('f4') * 0.5
  tensors = {
    'embeddings.word_embeddings.weight': draw(len(VOCAB), D),
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
  tokenizer = tokenizers.Tokenizer(
    models.WordLevel({w: i for i, w in enumerate(VOCAB)}, unk_token='[UNK]')
  )
  tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
  tokenizer.post_processor = processors.TemplateProcessing(
    single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 1), ('[SEP]', 2)]
  )
  tokenizer.save(str(tmp_path / 'tokenizer.json'))
  return tmp_path, tensors


def _reference(tensors, ids):
  """Computes the last hidden states in plain NumPy, token by token."""
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
      mixed = []
      for head in range(HEADS):
        cut = slice(head * D // HEADS, (head + 1) * D // HEADS)
        score = np.array([q[place][cut] @ y[cut] for y in k]) / sqrt(D // HEADS)
        weight = np.exp(score - score.max())
        weight /= weight.sum()
        mixed.append(sum(w * y[cut] for w, y in zip(weight, v, strict=True)))
      x = norm(
        x + linear(np.concatenate(mixed), f'{at}attention.output.dense'),
        f'{at}attention.output.LayerNorm',
      )
      u = linear(x, f'{at}intermediate.dense')
      u = np.array([y * 0.5 * (1 + erf(y / sqrt(2))) for y in u])
      new.append(
        norm(x + linear(u, f'{at}output.dense'), f'{at}output.LayerNorm')
      )
    h = new
  return np.array(h)


def test_vectors_equal_those_of_a_second_implementation(folder):
  home, tensors = folder
  ids = [1, 3, 4, 5, 2]
  vector = _reference(tensors, ids).mean(0)
  (found,) = sentence_encoder.Encoder(str(home))(['a red house'])
  np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)


def test_the_first_token_is_used_if_the_directory_says_so(folder):
  home, tensors = folder
  (home / '1_Pooling').mkdir()
  (home / '1_Pooling' / 'config.json').write_text(
    json.dumps({'pooling_mode_cls_token': True})
  )
  vector = _reference(tensors, [1, 9, 10, 2])[0]
  (found,) = sentence_encoder.Encoder(str(home))(['cat sat'])
  np.testing.assert_allclose(found, vector / np.linalg.norm(vector), atol=1e-5)


def test_similar_texts_are_nearer_than_unrelated_ones():
  at = {'red': [1, 0, 0], 'crimson': [0.99, 0.1, 0], 'cat': [0, 1, 0],
        'dog': [0, 0.8, 0.6], 'old': [0.5, 0, 0.9]}  # fmt: skip
  encoder = lambda texts: np.array([
    np.array(at[text]) / np.linalg.norm(at[text]) for text in texts
  ])  # fmt: skip
  wanted = ['red', 'cat', 'old', 'red']
  compared = [' Red ', 'dog', 'cat', 'crimson']
  found = sentence_encoder.are_similar(encoder, wanted, compared)
  assert found.tolist() == [1, 1, 0, 1]
  # All wanted texts are equal, so no pair is unrelated.
  found = sentence_encoder.are_similar(
    encoder, ['red'] * 4, ['red', 'crimson'] * 2
  )
  assert found.tolist() == [1, 0, 1, 0]


class _Tokenizer:
  vocab_size = 4

  def decode(self, ids):
    return ' '.join(VOCAB[3 + i] for i in ids)


def test_an_encoder_is_a_judge_by_its_directory(folder):
  home, _ = folder
  judge = judges.make(f'encoder:{home}', _Tokenizer())
  completion = lambda rows: judges.Completion(
    np.array(rows, 'i4'), np.array([2, 2, 2, 2], 'i4'), lambda: None
  )
  rows = [[0, 1], [1, 2], [2, 3], [3, 0]]
  score_B, _ = judge(completion(rows), completion(rows))
  assert np.asarray(score_B).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
  'name', ['config.json', 'model.safetensors', 'tokenizer.json']
)
def test_a_missing_file_is_named(folder, name):
  home, _ = folder
  (home / name).unlink()
  with pytest.raises(FileNotFoundError, match=f'has no {name}'):
    sentence_encoder.Encoder(str(home))


def test_a_model_that_is_not_a_bert_is_refused(folder):
  home, _ = folder
  config = json.loads((home / 'config.json').read_text())
  (home / 'config.json').write_text(json.dumps(config | {'model_type': 'gpt2'}))
  with pytest.raises(ValueError, match="model_type 'gpt2'.*expected a BERT"):
    sentence_encoder.Encoder(str(home))

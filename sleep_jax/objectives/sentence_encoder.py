"""Sentence encoder: a BERT from a local Hugging Face directory, in NumPy.

Reads the files that sentence-transformers saves: `config.json`,
`model.safetensors`, `tokenizer.json` and, if the embedding is not the mean over
tokens, `1_Pooling/config.json`. Nothing is downloaded and no code is executed.
The encoder runs inside a callback of a compiled program, where JAX may not be
called, on a few short texts per round of a night; hence NumPy.

References: BERT 1810.04805, Sentence-BERT 1908.10084.
"""

import json
import pathlib
from collections.abc import Sequence

import numpy as np
import tokenizers
from safetensors import numpy as safetensors
from scipy import special

from sleep_jax import errors

Array = np.ndarray
_FIRST, _MEAN = 'pooling_mode_cls_token', 'pooling_mode_mean_tokens'
_FILES = ('config.json', 'model.safetensors', 'tokenizer.json')


class Encoder:
  """Embeds texts as unit vectors.

  Args:
    folder: directory with the files listed in the module's docstring.

  Raises:
    MissingFileError: a file is missing.
    ModelFileError: the model is not a BERT with gelu, or its pooling is neither
      the mean nor the first token.
  """

  def __init__(self, folder: str):
    home = pathlib.Path(folder).expanduser()
    for name in _FILES:
      if not (home / name).is_file():
        raise errors.MissingFileError(
          f'{home} has no {name}: a sentence encoder is a directory with '
          f'{", ".join(_FILES)}, as sentence-transformers saves BERT models.'
        )
    self._config = json.loads((home / 'config.json').read_text())
    kind = self._config.get('model_type')
    if kind != 'bert' or self._config.get('hidden_act', 'gelu') != 'gelu':
      raise errors.ModelFileError(
        f'{home / "config.json"}: model_type {kind!r} with hidden_act '
        f'{self._config.get("hidden_act")!r}: expected a BERT with gelu (for '
        'example all-MiniLM or bge).'
      )
    tensors = safetensors.load_file(home / 'model.safetensors')
    self._tensors = {
      name.removeprefix('bert.'): value.astype(np.float32)
      for name, value in tensors.items()
    }
    self._tokenizer = tokenizers.Tokenizer.from_file(
      str(home / 'tokenizer.json')
    )
    self._tokenizer.no_padding()
    self._tokenizer.enable_truncation(self._config['max_position_embeddings'])
    pooling = home / '1_Pooling' / 'config.json'
    config = json.loads(pooling.read_text()) if pooling.is_file() else {}
    modes = [
      k for k, on in config.items() if k.startswith('pooling_mode') and on
    ]
    if not set(modes) <= {_FIRST, _MEAN}:
      raise errors.ModelFileError(
        f'{pooling}: found {", ".join(modes)}: expected {_FIRST} or {_MEAN}.'
      )
    self._first = _FIRST in modes

  def __call__(self, texts: Sequence[str]) -> Array:
    """Returns the unit vectors of N texts, `[N, D]`."""
    rows = [self._encode(self._tokenizer.encode(text).ids) for text in texts]
    vectors = np.stack(rows)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)[:, None]

  def _encode(self, ids):
    t = self._tensors
    x = (
      t['embeddings.word_embeddings.weight'][ids]
      + t['embeddings.position_embeddings.weight'][: len(ids)]
      + t['embeddings.token_type_embeddings.weight'][0]
    )
    x = self._norm(x, 'embeddings.LayerNorm')
    for layer in range(self._config['num_hidden_layers']):
      x = self._layer(x, f'encoder.layer.{layer}.')
    return x[0] if self._first else x.mean(0)

  def _layer(self, x, prefix):
    heads = self._config['num_attention_heads']

    def part(name):
      y = self._linear(x, f'{prefix}attention.self.{name}')
      return y.reshape(len(x), heads, -1).transpose(1, 0, 2)

    query, key, value = (part(name) for name in ('query', 'key', 'value'))
    score = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    mixed = special.softmax(score, -1) @ value
    mixed = mixed.transpose(1, 0, 2).reshape(x.shape)
    x = x + self._linear(mixed, f'{prefix}attention.output.dense')
    x = self._norm(x, f'{prefix}attention.output.LayerNorm')
    hidden = self._linear(x, f'{prefix}intermediate.dense')
    hidden = hidden * special.ndtr(hidden)  # GELU: x times the normal CDF.
    x = x + self._linear(hidden, f'{prefix}output.dense')
    return self._norm(x, f'{prefix}output.LayerNorm')

  def _linear(self, x, name):
    t = self._tensors
    return x @ t[f'{name}.weight'].T + t[f'{name}.bias']

  def _norm(self, x, name):
    t, eps = self._tensors, self._config.get('layer_norm_eps', 1e-12)
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * t[f'{name}.weight'] + t[
      f'{name}.bias'
    ]


def are_similar(
  encoder: Encoder, wanted: Sequence[str], found: Sequence[str]
) -> Array:
  """Returns 1 where two texts are similar, else 0, `[N]`.

  Texts are similar if they are equal up to case and spaces, or if the cosine of
  their vectors exceeds that of 99 in 100 unrelated pairs. The unrelated pairs
  are the wanted texts and the same texts rotated by N / 2, without equal ones.
  Without unrelated pairs only equal texts are similar.

  Args:
    encoder: embeds texts.
    wanted: reference texts, N of them.
    found: texts to compare with them.
  """
  plain = lambda text: ' '.join(text.casefold().split())
  one, two = [plain(text) for text in wanted], [plain(text) for text in found]
  same_N = np.array([a == b for a, b in zip(one, two, strict=True)])
  wanted_ND, found_ND = encoder(one), encoder(two)
  shift = len(one) // 2
  unrelated_N = np.array([a != b for a, b in zip(one, np.roll(one, shift),
                                             strict=True)])  # fmt: skip
  cosine_N = np.sum(wanted_ND * np.roll(wanted_ND, shift, 0), 1)[unrelated_N]
  limit = np.percentile(cosine_N, 99) if len(cosine_N) else np.inf
  near_N = np.sum(wanted_ND * found_ND, 1) > limit
  return (same_N | near_N).astype(np.float32)

"""Dense export: levels and experts become hidden units of an ordinary MLP.

Levels that read one norm and add into one branch ('independent') and experts
whose gates stand at 1 ('always') are more units of the host's SwiGLU: an
expert's `u silu(u)` is a gated unit whose gate and up matrices are the same. So
the export is exact, and whoever loads the checkpoint needs none of our code.

References: docs/method.md, "Real models".
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from safetensors import numpy as safetensors

from sleep_jax import types
from sleep_jax.data import tokenizer
from sleep_jax.interop import families, huggingface, names
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer

# What stands beside a host's weights and is kept as it is.
BESIDE = (
  'tokenizer.json', 'tokenizer_config.json', 'generation_config.json',
  'special_tokens_map.json', 'chat_template.jinja',
)  # fmt: skip
_SHARD_BYTES = 4 * 2**30
# Fields of a model of which an ordinary checkpoint knows nothing.
_OURS = (
  'levels', 'arrangement', 'layer_levels', 'router', 'router_spread', 'top_k',
  'gate_bias', *config_lib.COMPUTED,
)  # fmt: skip


def why_not(
  model: transformer.Transformer,
  weights: types.Weights,
  host: huggingface.Host | None = None,
) -> str:
  """Why these weights are no ordinary checkpoint; '' if they are one.

  Args:
    host: what the model was born of; None: it was born here.
  """
  c = model.config
  if weights.fresh or weights.adapter:
    return 'a night is under way: wake up first'
  on = bool(np.asarray(weights.active_NE).any())
  if on and c.router != 'always':
    return (
      f'model.router is {c.router!r}: how far an expert opens depends on what '
      "it reads, which no ordinary MLP can say. Only 'always' is exact"
    )
  if c.arrangement == 'depth':
    sizes = {level.hidden for level in c.levels}
    return (
      ''
      if len(sizes) == 1 and not on
      else (
        "model.arrangement is 'depth' with experts on, or with levels of "
        'different sizes: layers would have MLPs of different sizes, which no '
        'ordinary checkpoint has'
      )
    )
  if c.arrangement != 'independent' and not _host_alone(model, weights):
    return (
      f'model.arrangement is {c.arrangement!r}: levels in a chain are no one '
      "MLP. Only 'independent' levels are exact"
    )
  return '' if host else _unsaid(c)


def save(
  model: transformer.Transformer,
  weights: types.Weights,
  folder: str,
  *,
  words: tokenizer.Tokenizer | None = None,
  host: huggingface.Host | None = None,
  dtype: str = 'float32',
  shard_bytes: int = _SHARD_BYTES,
) -> None:
  """Writes an ordinary checkpoint, whole or not at all.

  Args:
    folder: made; must not be there, or be empty.
    words: the model's tokenizer, written beside it.
    host: what it was born of, whose config.json and tokenizer it keeps; None:
      it was born here.
    dtype: of all tensors.
    shard_bytes: most of one file.

  Raises:
    ValueError: the weights are no ordinary checkpoint; says why.
    FileExistsError: the folder holds something.
  """
  reason = why_not(model, weights, host)
  if reason:
    more = (
      ' A dense model can be taught to say nearly the same: '
      'sleep_jax.convert out --distil.'
    )
    on = np.asarray(weights.active_NE).any()  # Else there is nothing to teach.
    lost = not on or (host is None and _unsaid(model.config))
    raise ValueError(f'No exact dense export: {reason}.{"" if lost else more}')
  home = pathlib.Path(folder).expanduser()
  if home.exists() and any(home.iterdir()):
    raise FileExistsError(f'{home} is not empty: name a new folder.')
  part = home.with_name(home.name + '.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  made = dict(host.config if host else born(model.config))
  made['intermediate_size'] = _hidden(model, weights)
  made['architectures'] = made.get('architectures') or [
    families.ARCHITECTURES[made['model_type']]
  ]
  for field in ('dtype', 'torch_dtype'):
    if field in made or field == 'dtype':
      made[field] = dtype
  _write(part / 'config.json', made)
  _shards(tensors(model, weights, np.dtype(dtype)), part, shard_bytes)
  if host is not None:
    for name in BESIDE:
      if (host.folder / name).is_file():
        shutil.copyfile(host.folder / name, part / name)
  elif words is not None:
    _words(words, part)
  if home.exists():
    home.rmdir()
  part.rename(home)


def tensors(
  model: transformer.Transformer, weights: types.Weights, dtype: np.dtype
) -> Iterator[tuple[str, np.ndarray]]:
  """Names and tensors of the checkpoint, one after the other."""
  wide = ('gate', 'up', 'down')
  for path, parts in names.sources(model):
    name = path.split('/')[-1]
    for source in parts:
      at = source.at
      # In 'depth' a level's MLPs are the host's own.
      several = model.config.arrangement != 'depth'
      if several and name in wide and path.startswith('blocks/levels/'):
        value = _units(model, weights, at[0], name)
      else:
        value = np.asarray(weights.params[path][at] if at else
                           weights.params[path])  # fmt: skip
      value = value.T if source.turned else value
      yield source.name, np.ascontiguousarray(value, dtype)


def born(c: config_lib.Model) -> dict[str, Any]:
  """config.json of a model that was born here."""
  kind = 'mistral' if c.window else 'llama'
  if c.qk_norm:
    kind = 'qwen3'
  elif c.qkv_bias and not c.out_bias:
    kind = 'qwen2'
  made: dict[str, Any] = dict(
    model_type=kind, vocab_size=c.vocab_size, hidden_size=c.width,
    num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads,
    num_key_value_heads=c.num_kv_heads, head_dim=c.head_size,
    hidden_act='silu', rms_norm_eps=c.norm_eps, rope_theta=c.rope_theta,
    tie_word_embeddings=c.tied, attention_bias=c.out_bias,
    bos_token_id=c.vocab_size - 2, eos_token_id=c.vocab_size - 1,
  )  # fmt: skip
  return made | families.rope(c) | families.window(c, kind)


def _unsaid(c: config_lib.Model) -> str:
  """What of a model its config.json would not say; '' if nothing."""
  try:
    said = families.settings(born(c), pathlib.Path('config.json'))
  except ValueError as error:
    return f'no family of checkpoints is like this model ({error})'
  again = config_lib.make(said, (), vocab_size=c.vocab_size)
  for field in dataclasses.fields(c):
    mine, theirs = (getattr(x, field.name) for x in (c, again))
    if field.name not in _OURS and mine != theirs:
      return (
        f'model.{field.name} is {mine!r}, where the rest makes it a '
        f'{born(c)["model_type"]!r} with {theirs!r}: no family has both'
      )
  return ''


def _units(model, weights, layer, name) -> np.ndarray:
  """A layer's gate, up or down with the units of all that is on."""
  axis = 0 if name == 'down' else 1
  parts = [
    weights.params[f'blocks/levels/{number}/base/mlp/{name}'][layer]
    for number in _levels(model, weights)
  ]
  bank = 'B' if name == 'down' else 'A'
  for number, slot in _experts(weights):
    parts.append(
      weights.params[f'blocks/levels/{number}/experts/{bank}'][layer, slot]
    )
  return np.concatenate([np.asarray(part) for part in parts], axis)


def _hidden(model, weights) -> int:
  c = model.config
  if c.arrangement == 'depth':
    return c.levels[0].hidden
  size = sum(c.levels[n - 1].hidden for n in _levels(model, weights))
  return size + sum(c.levels[n - 1].rank for n, _ in _experts(weights))


def _levels(model, weights) -> list[int]:
  """The host's own, and those that have learned something."""
  c = model.config
  made = [c.num_levels]
  for number in range(1, c.num_levels):
    path = f'blocks/levels/{number}/base/mlp/down'
    if np.asarray(jax.numpy.any(weights.params[path] != 0)):
      made.append(number)
  return made


def _experts(weights) -> list[tuple[int, int]]:
  """(level, slot) of every expert that is on."""
  return [(n + 1, e) for n, e in np.argwhere(np.asarray(weights.active_NE))]


def _host_alone(model, weights) -> bool:
  return _levels(model, weights) == [model.config.num_levels] and not _experts(
    weights
  )


def _words(words: tokenizer.Tokenizer, folder: pathlib.Path) -> None:
  """A tokenizer that was made here, as others read it: BOS opens a text."""
  if not isinstance(words, tokenizer.Bpe):
    return  # Bytes are no tokenizer of others.
  made = words.fast()
  made.save(str(folder / 'tokenizer.json'))
  _write(
    folder / 'tokenizer_config.json',
    {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'bos_token': tokenizer.BOS,
      'eos_token': tokenizer.EOS,
    },
  )


def _shards(named, folder, shard_bytes) -> None:
  """Files of at most so many bytes, and the index if there are several."""
  shards: list[dict[str, str]] = []
  held: dict[str, np.ndarray] = {}
  total = 0

  def flush():
    path = folder / f'part-{len(shards)}'
    safetensors.save_file(held, path, metadata={'format': 'pt'})
    shards.append(dict.fromkeys(held, ''))
    held.clear()

  for name, value in named:
    if held and sum(x.nbytes for x in held.values()) + value.nbytes > (
      shard_bytes
    ):
      flush()
    held[name] = value
    total += value.nbytes
  flush()
  index: dict[str, str] = {}
  for number, inside in enumerate(shards):
    if len(shards) == 1:
      file = huggingface.WHOLE
    else:
      file = f'model-{number + 1:05d}-of-{len(shards):05d}.safetensors'
    (folder / f'part-{number}').rename(folder / file)
    index |= dict.fromkeys(inside, file)
  if len(shards) > 1:
    _write(
      folder / huggingface.INDEX,
      {'metadata': {'total_size': total}, 'weight_map': index},
    )


def _write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')

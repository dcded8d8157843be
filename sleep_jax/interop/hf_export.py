"""Dense export: levels and experts become hidden units of an ordinary MLP.

Levels that read one norm and add into one branch ('independent') and experts
whose gates stand at 1 ('always') are more units of the host's SwiGLU: an
expert's `u silu(u)` is a gated unit whose gate and up matrices are the same. So
the export is exact, and whoever loads the checkpoint needs none of our code.

References: docs/method.md, "Real models".
"""

import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from sleep_jax import types
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.interop import dense_mlp, hf_checkpoint, hf_config
from sleep_jax.model import transformer

# What stands beside a host's weights and is kept as it is.
COPIED_FILES = (
  'tokenizer.json', 'tokenizer_config.json', 'generation_config.json',
  'special_tokens_map.json', 'chat_template.jinja',
)  # fmt: skip
_SHARD_BYTES = 4 * 2**30


def save(
  model: transformer.Transformer,
  weights: types.Weights,
  folder: str,
  *,
  tokenizer: tokenizer_lib.Tokenizer | None = None,
  base_model: hf_checkpoint.HfCheckpoint | None = None,
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
  reason = dense_mlp.reason_not_dense(model, weights, base_model)
  if reason:
    more = (
      ' A dense model can be taught to say nearly the same: '
      'sleep_jax.convert out --distil.'
    )
    on = np.asarray(weights.active_NE).any()  # Else there is nothing to teach.
    lost = not on or (
      base_model is None and dense_mlp.unsupported_fields(model.config)
    )
    raise ValueError(f'No exact dense export: {reason}.{"" if lost else more}')
  home = pathlib.Path(folder).expanduser()
  if home.exists() and any(home.iterdir()):
    raise FileExistsError(f'{home} is not empty: name a new folder.')
  part = home.with_name(home.name + '.part')
  shutil.rmtree(part, ignore_errors=True)
  part.mkdir(parents=True)
  made = dict(
    base_model.config
    if base_model
    else dense_mlp.native_hf_config(model.config)
  )
  made['intermediate_size'] = dense_mlp.hidden_units(model, weights)
  made['architectures'] = made.get('architectures') or [
    hf_config.ARCHITECTURES[made['model_type']]
  ]
  for field in ('dtype', 'torch_dtype'):
    if field in made or field == 'dtype':
      made[field] = dtype
  _write(part / 'config.json', made)
  _shards(dense_mlp.named_tensors(model, weights, np.dtype(dtype)), part, shard_bytes)
  if base_model is not None:
    for name in COPIED_FILES:
      if (base_model.folder / name).is_file():
        shutil.copyfile(base_model.folder / name, part / name)
  elif tokenizer is not None:
    _words(tokenizer, part)
  if home.exists():
    home.rmdir()
  part.rename(home)


def _words(tokenizer: tokenizer_lib.Tokenizer, folder: pathlib.Path) -> None:
  """A tokenizer that was made here, as others read it: BOS opens a text."""
  if not isinstance(tokenizer, tokenizer_lib.Bpe):
    return  # Bytes are no tokenizer of others.
  made = tokenizer.to_hugging_face()
  made.save(str(folder / 'tokenizer.json'))
  _write(
    folder / 'tokenizer_config.json',
    {
      'tokenizer_class': 'PreTrainedTokenizerFast',
      'bos_token': tokenizer_lib.BOS,
      'eos_token': tokenizer_lib.EOS,
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
      file = hf_checkpoint.WEIGHTS_FILE
    else:
      file = f'model-{number + 1:05d}-of-{len(shards):05d}.safetensors'
    (folder / f'part-{number}').rename(folder / file)
    index |= dict.fromkeys(inside, file)
  if len(shards) > 1:
    _write(
      folder / hf_checkpoint.INDEX_FILE,
      {'metadata': {'total_size': total}, 'weight_map': index},
    )


def _write(path: pathlib.Path, content: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')

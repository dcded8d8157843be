"""How a model or a config reads rows: tokenizer, chat template and lengths.

The same objects that a run uses, without the weights.
"""

import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections
import numpy as np

from sleep_jax import types
from sleep_jax.config import files
from sleep_jax.data import long_rows, tokenization
from sleep_jax.data import tokenizer as tokenizer_lib
from sleep_jax.datasets import dataset, jsonl
from sleep_jax.interop import (
  chat_format,
  hf_checkpoint,
  hf_tokenizer,
  open_model,
)
from sleep_jax.runs import inputs, session_source
from sleep_jax.storage import workdir

_LENGTHS = ('context', 'max_prompt', 'loss_on', 'prefix', 'overlap')
_DEFAULT_CONFIG = 'chat'  # Of a pretrained model, as `api.load` has it.


@dataclasses.dataclass(frozen=True)
class Reader:
  """What determines the tokens of rows.

  Attributes:
    name: of the model or config, for messages.
    config: name of the config.
    tokenizer: of the model.
    load_writer: returns what writes conversations in its template, or None.
    data: part `data` of the config.
    learns_awake: whether the texts are trained on; else a night learns what the
      model can say about them.
  """

  name: str
  config: str
  tokenizer: tokenizer_lib.Tokenizer
  load_writer: types.LoadWriter
  data: Mapping[str, Any]
  learns_awake: bool

  def encode(
    self, row: dataset.Row
  ) -> list[tokenization.Sequence] | long_rows.TooLong:
    """Returns the sequences of a row, or why it is too long.

    Raises:
      DataError: the chat template refuses it.
    """
    settings = {name: self.data[name] for name in _LENGTHS if name in self.data}
    return tokenization.encode(
      row, self.tokenizer, load_writer=self.load_writer, **settings
    )


def make(
  model: str | None,
  config: ml_collections.ConfigDict | None,
  texts: Iterable[str],
) -> Reader:
  """Returns the reader of a model, or of a model that a config describes.

  Args:
    model: Hugging Face model directory, work directory of a run, or folder of
      a learner; None: the one that `config` describes.
    config: lengths and loss; None: that of the run, or `configs/chat.py` for a
      Hugging Face model.
    texts: of the days. The tokenizer is trained on them if the config names no
      model and no pretraining text; that of a run is trained without the rows
      that are held out, so that lengths may differ a little.

  Raises:
    MissingFileError, ModelFileError: the model cannot be read.
  """
  if model is None:
    assert config is not None
    return _of_config(config, texts)
  source = session_source.find(model)
  if source.kind == 'model':
    base_model = hf_checkpoint.read(model, weights=False)
    return _make(
      model, hf_tokenizer.load(base_model), base_model,
      config or files.load(_DEFAULT_CONFIG),
    )  # fmt: skip
  home = source.path
  if source.kind == 'session':
    home = home / session_source.RUN
  own = ml_collections.ConfigDict(workdir.read_config(home))
  seed = int(own.seeds[0])
  tokenizer = tokenizer_lib.load(str(home / f'seed_{seed}' / 'tokenizer'))
  base_model = open_model.base_checkpoint(own.pretrain, home)
  return _make(model, tokenizer, base_model, config or own)


def _of_config(
  config: ml_collections.ConfigDict, texts: Iterable[str]
) -> Reader:
  """Returns the reader of the model that a run of a config would have."""
  seed = int(config.seeds[0])
  with tempfile.TemporaryDirectory() as empty:
    folder = pathlib.Path(empty)
    pretrain = config.data.settings.to_dict().get('pretrain')
    if config.data.dataset != 'jsonl':
      own = config.copy_and_resolve_references()
      with own.unlocked():
        own.data.extra_days = ''
      pretraining = inputs.read_dataset(own, folder, seed).pretrain
      texts = (row.text for row in pretraining)
    elif pretrain:
      rng = np.random.default_rng(seed)
      rows, _ = jsonl.read_pretrain(
        pretrain, rng, holds_out=config.evaluate.held_out_batches > 0
      )
      texts = (row.text for row in rows)
    tokenizer, base_model = inputs.load_tokenizer(config, folder, seed, texts)
  name = str(base_model.source) if base_model else f'config {config.name}'
  return _make(name, tokenizer, base_model, config)


def _make(name, tokenizer, base_model, config) -> Reader:
  rates = [
    one['learning_rate'] for one in config.to_dict()['wake']['optimizers']
  ]
  return Reader(
    name,
    config.name,
    tokenizer,
    functools.cache(lambda: chat_format.load_writer(base_model, tokenizer)),
    config.data.to_dict(),
    learns_awake=any(rates),
  )

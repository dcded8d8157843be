"""A model to use: of a run, or of a Hugging Face directory."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from sleep_jax import checkpoint, sharding, types, workdir
from sleep_jax.data import tokenizer
from sleep_jax.interop import huggingface
from sleep_jax.model import config as model_config
from sleep_jax.model import transformer

# Of a host that has not lived yet: its own MLPs, and nothing beside them.
ALONE = dict(
  hidden=0, update_period='infinite', sleep_period='infinite', slots=0, rank=0
)


HOST = 'host'  # Where a work directory describes what it has adopted.


@dataclasses.dataclass(frozen=True)
class Opened:
  """A model with its weights and its words.

  Attributes:
    ends: tokens that end a text.
    host: the checkpoint of others that it was born of; None: born here.
    ledger: which night lives where, of a run.
    nights: that are over, likewise.
  """

  model: transformer.Transformer
  weights: types.Weights
  words: tokenizer.Tokenizer
  ends: tuple[int, ...]
  host: huggingface.Host | None = None
  ledger: Sequence[Mapping[str, Any]] = ()
  nights: int = 0


def open_model(
  folder: str, *, strategy: str = 'sleep', seed: int = 0, dtype: str = 'float32'
) -> Opened:
  """Opens a model.

  Args:
    folder: a work directory, or a Hugging Face model directory.
    strategy, seed: whose life, of a work directory; as far as it came.
    dtype: of a Hugging Face model's parameters.

  Raises:
    FileNotFoundError: there is no such model; says what there is.
    ValueError: what there is cannot be read.
  """
  home = workdir.path(folder)
  config = huggingface.config_of(home)
  if 'strategies' not in config:
    return _of_host(huggingface.read(folder), dtype)
  return _of_run(home, config, strategy, seed)


def _of_host(host: huggingface.Host, dtype: str) -> Opened:
  words = huggingface.tokenizer(host)
  model = build(host.settings, [ALONE], words, host)
  weights = huggingface.load(
    host, model, sharding.make(), key=jax.random.key(0), dtype=dtype
  )
  return Opened(model, weights, words, huggingface.ends(host, words), host)


def _of_run(home, config, strategy, seed) -> Opened:
  life = home / f'seed_{seed}' / strategy
  if not (life / 'checkpoints').is_dir():
    there = sorted(
      str(p.parent.relative_to(home)) for p in home.glob('seed_*/*/checkpoints')
    )
    raise FileNotFoundError(
      f'{life} holds no checkpoint: there are {there or "none"} (seed and '
      'strategy).'
    )
  words = tokenizer.load(str(home / f'seed_{seed}' / 'tokenizer'))
  host = host_of(config['birth'], home)
  model = build(config['model'], config['levels'], words, host)
  saved, progress = checkpoint.latest_weights(str(life / 'checkpoints'))
  weights = types.Weights(**saved)
  ends = huggingface.ends(host, words) if host else (words.eos,)
  ledger = progress.get('ledger', ())
  # The last one of those recorded may be under way.
  nights = len(progress.get('nights', ())) - bool(progress.get('night'))
  return Opened(model, weights, words, ends, host, ledger, nights)


def prompts_of(
  opened: Opened, folder: str, *, strategy: str, seed: int
) -> list[list[int]]:
  """Beginnings that a life has met and keeps, in tokens; its BOS, if none.

  Args:
    opened: what `open_model` gave of the same folder.
  """
  life = workdir.path(folder) / f'seed_{seed}' / strategy
  found = [[opened.words.bos]]
  if (life / 'checkpoints').is_dir():
    for band in checkpoint.latest_replay(str(life / 'checkpoints')).values():
      lengths = np.asarray(band['length_C'])[: int(band['count'])]
      rows = zip(np.asarray(band['tokens_CP']), lengths, strict=False)
      found += [row[:length].tolist() for row, length in rows if length]
  return found


def host_of(
  birth: Mapping[str, Any], home: workdir.Folder | None = None
) -> huggingface.Host | None:
  """Whose shape and words a life has; None: its own.

  Args:
    birth: that part of its config.
    home: its work directory, which may hold what has been adopted.

  Raises:
    FileNotFoundError, ValueError: see `huggingface.read`.
  """
  for folder in (home, birth.get('restore')):
    described = folder and workdir.path(folder) / HOST
    if described and described.is_dir():
      return huggingface.read(str(described), weights=False)
  return huggingface.read(birth['host']) if birth.get('host') else None


def build(
  settings: Mapping[str, Any],
  levels: Sequence[Mapping[str, Any]],
  words: tokenizer.Tokenizer,
  host: huggingface.Host | None,
) -> transformer.Transformer:
  """The network that a config describes.

  Args:
    settings, levels: see `model.config.make`.
    host: whose shape it has, if it is born of one.
  """
  shape = dict(settings)
  if host is not None:
    shape |= host.settings
    levels = huggingface.levels(host, shape, levels)
  made = model_config.make(shape, levels, vocab_size=words.vocab_size)
  return transformer.Transformer(made)

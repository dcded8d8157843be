"""Lowers the programs of a run for devices that are not attached.

A run is built from shapes and shardings only, and its programs are lowered for
the devices of a mesh. Compiling them shows what does not fit in memory or
cannot be sharded, before any device is used. `tpu_topology` gives the devices
of a TPU topology, for which libtpu compiles on a machine without a TPU.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import NamedSharding, PartitionSpec

from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.interop import hf_import, open_model
from sleep_jax.learner import programs as programs_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.runtime import sharding
from sleep_jax.strategies import pretrain, registry

BOS, EOS = 1, 2  # Arbitrary: no token is read.
# Arbitrary sizes of arrays that depend on the dataset.
_TEMPLATES, _TEMPLATE_WIDTH = 8, 16
_DOCUMENTS, _QUESTIONS, _ANSWER = 8, 32, 16


class AheadOfTimePlacement(sharding.Placement):
  """A placement that lowers programs instead of running them.

  Arguments may be shapes. A call of a program returns the lowered program,
  which can be compiled.
  """

  def put(self, tree: Any, *, prefix: str = '') -> Any:
    return jax.tree.map(
      _shape_with_sharding, tree, self.shardings(tree, prefix=prefix)
    )

  def jit(self, function: Callable, *args: Any, donate: bool = True):
    jitted = super().jit(function, *args, donate=donate)
    replicated = NamedSharding(self.mesh, PartitionSpec())

    def place(x):
      existing = getattr(x, 'sharding', None)
      return _shape_with_sharding(
        x, existing if isinstance(existing, NamedSharding) else replicated
      )

    def lower(*args):
      # Kernels that XLA does not partition read the mesh from the context.
      with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
        return jitted.lower(*jax.tree.map(place, args))

    return lower

  def compile(self, program: Any, *args: Any) -> None:
    """Does nothing: the programs are lowered by the caller."""


@dataclasses.dataclass(frozen=True)
class AbstractRun:
  """A run of one strategy as shapes.

  The methods `lower_*` require that the programs were built with an
  `AheadOfTimePlacement`.

  Attributes:
    programs: the programs of the run.
    initial_model: shapes of the model that the run starts from.
    batch: shapes of the batch of a wake step.
    task: shapes of the task of a night's dreams.
  """

  programs: programs_lib.Programs
  initial_model: state_lib.InitialModel
  batch: types.Batch
  task: types.Task

  def state(self, **night: Any) -> Any:
    """Returns the shapes of the state, see `Programs.abstract`."""
    return self.programs.abstract(self.initial_model, **night)

  def lower_wake(self) -> Any:
    """Lowers the wake step."""
    return self.programs.wake(self.state(), self.batch, ())

  def lower_seed(self, sender: int) -> Any:
    """Lowers one round of the night of a sender."""
    return self.programs.seed(self.state(night=sender), sender)

  def lower_dream(self, sender: int) -> Any:
    """Lowers the dreams of a night, without the seeding that follows."""
    slot = 0  # Of the newest expert; arbitrary.
    return self.programs.dream(self.state(), sender, slot, self.task)


def abstract_run(
  config: ml_collections.ConfigDict,
  placement: sharding.Placement,
  *,
  strategy: str = 'sleep',
) -> AbstractRun:
  """Builds a run from shapes.

  Args:
    config: config of the run. Of a base model that it names, only config.json
      is used; without one, the vocabulary size is `config.tokenizer`'s.
    placement: the devices.
    strategy: one of `registry.names()`.

  Raises:
    ConfigError: the config is invalid, or an axis of the mesh does not divide
      an array.
  """
  model = build_model(config)
  num_levels = model.config.num_levels
  make_programs = lambda kind: programs_lib.Programs(
    config, model, kind, placement, templates=_templates(), bos=BOS, eos=EOS,
    judge=jax.tree_util.Partial(_zero_judge), dream_templates=_templates(),
    task=_task(config),
  )  # fmt: skip
  initial_model = make_programs(
    pretrain.make(0, num_levels=num_levels)
  ).initial_shapes()
  num_awake = config_lib.num_awake(model.config.levels)
  (kind,) = registry.make(strategy, num_levels=num_awake + 1)
  return AbstractRun(
    make_programs(kind), initial_model, _batch(config), _task(config)
  )


def build_model(config: ml_collections.ConfigDict) -> transformer.Transformer:
  """Builds the network of a config without loading a tokenizer."""
  settings, levels = config.model.to_dict(), config.to_dict()['levels']
  vocab_size = config.tokenizer.vocab_size
  base_model = open_model.base_checkpoint(config.pretrain)
  if base_model is not None:
    settings, vocab_size = settings | base_model.settings, base_model.vocab_size
    levels = hf_import.adapt_levels(base_model, settings, levels)
  model_config = config_lib.make(settings, levels, vocab_size=vocab_size)
  return transformer.Transformer(model_config)


def _batch(config) -> types.Batch:
  B = config.data.day_batch_size or config.data.batch_size
  T = config.data.context
  return types.Batch(
    tokens_BT=_ints(B, T), segments_BT=_ints(B, T), positions_BT=_ints(B, T),
    loss_BT=jax.ShapeDtypeStruct((B, T), jnp.float32),
    prompts=_prompts(B, config.data.max_prompt),
  )  # fmt: skip


def _task(config) -> types.Task:
  documents = types.Texts(
    _ints(_DOCUMENTS, config.data.context), _ints(_DOCUMENTS)
  )
  prompts = _prompts(_DOCUMENTS, config.data.max_prompt)
  questions = types.Probes(
    prompts=_prompts(_QUESTIONS, config.data.max_prompt),
    answer_BA=_ints(_QUESTIONS, _ANSWER), answer_length_B=_ints(_QUESTIONS),
    candidates_SCA=_ints(1, 1, _ANSWER), candidate_length_SC=_ints(1, 1),
    candidate_since_SC=_ints(1, 1), set_B=_ints(_QUESTIONS),
    gold_B=_ints(_QUESTIONS),
  )  # fmt: skip
  return types.Task(prompts.replace(context=documents), questions)


def _templates() -> types.PromptTemplates:
  # Arrays, since the KL penalty of a wake step has them as constants.
  tokens = jnp.zeros((_TEMPLATES, _TEMPLATE_WIDTH), jnp.int32)
  length = jnp.zeros((_TEMPLATES,), jnp.int32)
  return types.PromptTemplates(tokens, length, tokens, length)


def _prompts(B, P):
  return types.Prompts(_ints(B, P), _ints(B), _ints(B, 2))


def _ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def _shape_with_sharding(x, sharding):
  return jax.ShapeDtypeStruct(
    jnp.shape(x), jnp.result_type(x), sharding=sharding
  )


def _zero_judge(reference, completion):
  """A judge that gives every completion a score of 0."""
  del completion
  return jnp.zeros(len(reference.length_B)), {}

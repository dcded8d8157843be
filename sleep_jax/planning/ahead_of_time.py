"""Programs compiled ahead of time, for devices that are not here.

A life is laid out as shapes, each with its place, and its programs are
compiled for the devices of that place: what does not fit, or cannot be spread
as the table says, is found before any device is paid for. For TPUs the real
compiler does it, on a machine without one (`tpu`).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
from jax.sharding import NamedSharding, PartitionSpec

from sleep_jax import types
from sleep_jax.interop import hf_import, open_model
from sleep_jax.learner import initial_state
from sleep_jax.learner import programs as programs_lib
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.runtime import sharding
from sleep_jax.strategies import pretrain, registry

BOS, EOS = 1, 2  # Any: no word is read.
_TEMPLATES, _TEMPLATE_WIDTH = 8, 16
_DOCUMENTS, _QUESTIONS, _ANSWER = 8, 32, 16


class AheadOfTimePlacement(sharding.Placement):
  """A placement under which programs are lowered and never run.

  What they take may be shapes; what they give is the lowered program, ready to
  be compiled.
  """

  def put(self, tree: Any, *, prefix: str = '') -> Any:
    return jax.tree.map(_shape, tree, self.shardings(tree, prefix=prefix))

  def jit(self, function: Callable, *args: Any, donate: bool = True):
    jitted = super().jit(function, *args, donate=donate)
    everywhere = NamedSharding(self.mesh, PartitionSpec())

    def placed(x):
      there = getattr(x, 'sharding', None)
      return _shape(
        x, there if isinstance(there, NamedSharding) else everywhere
      )

    def lower(*args):
      # Kernels that are not split look for it.
      with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
        return jitted.lower(*jax.tree.map(placed, args))

    return lower


@dataclasses.dataclass(frozen=True)
class AbstractRun:
  """One strategy's life, as shapes.

  Attributes:
    programs: whose calls give lowered programs, if placed by `Ahead`.
    newborn: what it begins with.
    batch: what one wake step reads.
    task: what is dreamt about.
  """

  programs: programs_lib.Programs
  initial_model: initial_state.InitialModel
  batch: types.Batch
  task: types.Task

  def state(self, **night: Any) -> Any:
    """See `Programs.abstract`."""
    return self.programs.abstract(self.initial_model, **night)

  def wake(self) -> Any:
    """The wake step."""
    return self.programs.wake(self.state(), self.batch, ())

  def seed(self, sender: int) -> Any:
    """A round of a sender's night."""
    return self.programs.seed(self.state(night=sender), sender)

  def dream(self, sender: int) -> Any:
    """A night's dreams, up to the seeding of what they gained."""
    slot = 0  # Of the newest expert: any.
    return self.programs.dream(self.state(), sender, slot, self.task)


def abstract_run(
  config: ml_collections.ConfigDict,
  placement: sharding.Placement,
  *,
  strategy: str = 'sleep',
) -> AbstractRun:
  """Lays a life out.

  Args:
    config: a checkpoint that it names is not read further than its
      config.json; without one, words are as many as `config.tokenizer` says.
    strategy: one of `strategies.NAMES`.
  """
  model = build_model(config)
  levels = model.config.num_levels
  make = lambda kind: programs_lib.Programs(
    config, model, kind, placement, templates=_templates(), bos=BOS, eos=EOS,
    judge=jax.tree_util.Partial(_unjudged), dream_templates=_templates(),
    task=_task(config),
  )  # fmt: skip
  initial_model = make(pretrain.make(0, num_levels=levels)).initial_shapes()
  (kind,) = registry.make(strategy, num_levels=levels)
  return AbstractRun(make(kind), initial_model, _batch(config), _task(config))


def build_model(config: ml_collections.ConfigDict) -> transformer.Transformer:
  """The network of a config, whose tokenizer is only counted."""
  shape, levels = config.model.to_dict(), config.to_dict()['levels']
  vocab_size = config.tokenizer.vocab_size
  base_model = open_model.base_checkpoint(config.pretrain)
  if base_model is not None:
    shape, vocab_size = shape | base_model.settings, base_model.vocab_size
    levels = hf_import.adapt_levels(base_model, shape, levels)
  made = config_lib.make(shape, levels, vocab_size=vocab_size)
  return transformer.Transformer(made)


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
  text, size = _ints(_TEMPLATES, _TEMPLATE_WIDTH), _ints(_TEMPLATES)
  return types.PromptTemplates(text, size, text, size)


def _prompts(B, P):
  return types.Prompts(_ints(B, P), _ints(B), _ints(B, 2))


def _ints(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.int32)


def _shape(x, there):
  return jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=there)


def _unjudged(wanted, said):
  """A judge to whom nobody is right."""
  del said
  return jnp.zeros(len(wanted.length_B)), {}

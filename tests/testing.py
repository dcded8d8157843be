"""A tiny model for all tests, with its weights, batches, probes and programs.

It compiles in seconds and still has every part: two layers, grouped queries,
rows of different lengths, several levels, banks with free slots.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from configs import base
from sleep_jax import state as state_lib
from sleep_jax import types
from sleep_jax.learner import programs
from sleep_jax.model import config as config_lib
from sleep_jax.model import transformer
from sleep_jax.objectives import imitation_reward
from sleep_jax.runtime import mesh as mesh_lib
from sleep_jax.runtime import sharding
from sleep_jax.strategies import sleep as sleep_lib

PAD, BOS, EOS, VOCAB = 0, 1, 2, 32
WIDTH, LAYERS, CONTEXT, PROMPT, ROWS = 16, 2, 10, 6, 8
SLOTS, RANK = 4, 4


def levels(*periods: tuple[Any, Any]) -> tuple[dict[str, Any], ...]:
  """Returns levels with (update, sleep) periods, fastest first.

  The slowest level, which is never updated, is added at the end.
  """
  return tuple(
    dict(
      hidden=16, update_period=update, sleep_period=sleep,
      slots=SLOTS if number else 0, rank=RANK if number else 0,
    )
    for number, (update, sleep) in enumerate(
      (*periods, ('infinite', 'infinite'))
    )
  )  # fmt: skip


def tiny(*periods: tuple[Any, Any], **changes: Any) -> transformer.Transformer:
  """Returns a model, by default with one level that is updated awake.

  Args:
    *periods: see `levels`.
    **changes: fields of `config.Model`.
  """
  settings = dict(
    width=WIDTH, num_layers=LAYERS, num_heads=4, num_kv_heads=2, head_size=4
  )
  model_config = config_lib.make(
    settings | changes, levels(*(periods or [(1, 'experience')])),
    vocab_size=VOCAB,
  )  # fmt: skip
  return transformer.Transformer(model_config)


@functools.cache
def forward(model: transformer.Transformer) -> Callable[..., jax.Array]:
  """Returns `model.forward` as one program: compiling parts takes longer."""
  return jax.jit(model.forward)


def config(
  *periods: tuple[Any, Any], **consolidate: Any
) -> ml_collections.ConfigDict:
  """Returns the base config with the sizes of this module and these levels."""
  c = base.get_config()
  c.levels = levels(*(periods or [(1, 'experience')]))
  c.wake.optimizers = (dict(learning_rate=1e-2),) * (len(c.levels) - 1)
  c.data.update(context=CONTEXT, max_prompt=PROMPT, batch_size=ROWS)
  c.replay.update(pretrain=16, past=16, day=16)
  # A loop compiles faster; `tiny` and `tiny_study` have their layers unrolled.
  c.model.update(unroll=1, looped=True)
  c.expert_optimizer = dict(learning_rate=1e-2)
  c.consolidate.update(
    teachers=(
      dict(
        teacher='anchor', prompts='old', sequences=8, draws=8, bos_share=0.3
      ),
      dict(
        teacher='next', prompts='day', sequences=8, draws=8, template_share=0.5
      ),
    ),
    num_updates=4, updates_per_round=2,
  )  # fmt: skip
  c.consolidate.update(consolidate)
  return c


def short_config() -> ml_collections.ConfigDict:
  """Returns a config: days of two steps, nights of two rounds, one teacher."""
  return config(
    (1, 2),
    num_updates=2,
    updates_per_round=1,
    on_policy=0.5,
    on_policy_after=0.0,
    teachers=(
      dict(
        teacher='next', prompts='day', sequences=8, draws=8, template_share=0.5
      ),
    ),
  )


def weights(model: transformer.Transformer, seed: int = 0) -> types.Weights:
  """Returns random weights, all non-zero, so that every part has an effect.

  NumPy draws them, because it compiles nothing. No expert is active.
  """
  random = np.random.default_rng(seed)
  shapes = model.shapes()

  def draw(path, shape):
    if path.endswith('scale'):
      return random.uniform(0.5, 1.5, shape)
    fan_in = shape[-2] if len(shape) > 1 else 1
    return random.normal(size=shape) * fan_in**-0.5

  params = {
    path: jnp.asarray(draw(path, leaf.shape).astype(np.float32))
    for path, leaf in shapes.params.items()
  }
  return types.Weights(params, jnp.zeros(shapes.active_NE.shape))


def expert(model: transformer.Transformer, level: int, seed: int = 0) -> dict:
  """Returns random, non-zero parameters of one expert of a level."""
  random = np.random.default_rng(seed)
  shapes = jax.eval_shape(
    lambda key: model.init_expert(key, level), jax.random.key(0)
  )
  return jax.tree.map(
    lambda x: jnp.asarray(0.3 * random.normal(size=x.shape).astype('f4')),
    shapes,
  )


def activate(weights: types.Weights, level: int, *slots: int) -> types.Weights:
  """Returns the weights with experts of a level (1 = fastest) active."""
  active_NE = np.array(weights.active_NE)
  active_NE[level - 1, list(slots)] = 1
  return weights.replace(active_NE=jnp.asarray(active_NE))


def batch(seed: int = 0, rows: int = ROWS) -> types.Batch:
  """Returns padded rows BOS ... EOS of 4 to CONTEXT tokens, with prompts.

  A prompt is the first three tokens of its row; the second and third token are
  its subject.
  """
  random = np.random.default_rng(seed)
  tokens_BT = random.integers(3, VOCAB, (rows, CONTEXT)).astype('i4')
  length_B = random.integers(4, CONTEXT + 1, (rows,))
  position_1T = np.arange(CONTEXT)[None]
  tokens_BT = np.where(position_1T == 0, BOS, tokens_BT)
  tokens_BT = np.where(position_1T == length_B[:, None] - 1, EOS, tokens_BT)
  inside = position_1T < length_B[:, None]
  tokens_BT = np.where(inside, tokens_BT, PAD).astype('i4')
  numpy_batch = types.Batch(
    tokens_BT=tokens_BT,
    segments_BT=np.where(inside, 1, -1).astype('i4'),
    positions_BT=np.where(inside, position_1T, 0).astype('i4'),
    loss_BT=(inside & (position_1T > 0)).astype('f4'),
    prompts=types.Prompts(
      tokens_BP=np.where(np.arange(PROMPT)[None] < 3, tokens_BT[:, :PROMPT], 0),
      length_B=np.full((rows,), 3, 'i4'),
      subject_B2=np.tile(np.array([[1, 3]], 'i4'), (rows, 1)),
    ),
  )
  return jax.tree.map(jnp.asarray, numpy_batch)


def prompts(rows: list[list[int]], width: int = PROMPT) -> types.Prompts:
  """Returns prompts from lists of tokens."""
  tokens_BP = np.zeros((len(rows), width), 'i4')
  for index, row in enumerate(rows):
    tokens_BP[index, : len(row)] = row
  return types.Prompts(
    tokens_BP=jnp.asarray(tokens_BP),
    length_B=jnp.asarray([len(row) for row in rows], jnp.int32),
    subject_B2=jnp.zeros((len(rows), 2), jnp.int32),
  )


def templates(
  *templates: tuple[list[int], list[int]], width: int = 4
) -> types.PromptTemplates:
  """Returns templates from (before, after) pairs of token lists.

  Without pairs, S is 0.
  """
  side = lambda k: np.array(
    [t[k] + [0] * (width - len(t[k])) for t in templates], 'i4'
  ).reshape(-1, width)
  size = lambda k: np.array([len(t[k]) for t in templates], 'i4')
  return types.PromptTemplates(
    before_SP=jnp.asarray(side(0)), before_length_S=jnp.asarray(size(0)),
    after_SP=jnp.asarray(side(1)), after_length_S=jnp.asarray(size(1)),
  )  # fmt: skip


def placement(
  *, data: int, fsdp: int, tensor: int, sequence: int = 1
) -> sharding.Placement:
  """Returns a mesh of the first devices; `sharding.make` requires all."""
  shape = data, fsdp, sequence, tensor
  mesh = jax.make_mesh(
    shape, mesh_lib.AXES, devices=jax.devices()[: math.prod(shape)],
    axis_types=(jax.sharding.AxisType.Auto,) * len(shape),
  )  # fmt: skip
  return sharding.Placement(mesh)


def judge(reference, generated):
  """Returns 1 where all tokens equal the reference, and no metrics."""
  distance_B = imitation_reward.edit_distance(*reference[:2], *generated[:2])
  return (distance_B == 0).astype(jnp.float32), {}


def make_run(
  config: ml_collections.ConfigDict,
  place: sharding.Placement,
  *,
  is_new: bool = False,
) -> tuple[programs.Programs, Any]:
  """Returns programs and first state of the sleep strategy for a config.

  Equal runs share programs, unless `is_new`.
  """
  key = config.to_json_best_effort(), place
  if is_new or key not in _PROGRAMS:
    # A copy, because a test may change its config afterwards.
    _PROGRAMS[key] = _programs(config.copy_and_resolve_references(), place)
  run_programs = _PROGRAMS[key]
  state = run_programs.begin(
    initial_model(run_programs.model), jax.random.key(0)
  )
  return run_programs, state


_PROGRAMS: dict[tuple[str, sharding.Placement], programs.Programs] = {}


def _programs(
  config: ml_collections.ConfigDict, place: sharding.Placement
) -> programs.Programs:
  settings = config.model.to_dict() | dict(
    width=WIDTH, num_layers=LAYERS, num_heads=4, num_kv_heads=2, head_size=4
  )
  model = transformer.Transformer(
    config_lib.make(settings, config.to_dict()['levels'], vocab_size=VOCAB)
  )
  return programs.Programs(
    config, model, sleep_lib.make(len(config.levels)), place,
    templates=templates(([5, 6], [7])), bos=BOS, eos=EOS,
    judge=jax.tree_util.Partial(judge),
    dream_templates=templates(([5], [8]), ([], [9])), task=task(),
  )  # fmt: skip


def task(seed: int = 0) -> types.Task:
  """Returns four documents with prompts about them, and four probes."""
  random = np.random.default_rng(seed)
  document_prompts = batch(seed, 4).prompts
  documents = types.Texts(
    jnp.asarray(random.integers(3, VOCAB, (4, CONTEXT)).astype('i4')),
    jnp.asarray([CONTEXT, 5, 7, CONTEXT], jnp.int32),
  )
  return types.Task(document_prompts.replace(context=documents), probes(seed))


def probes(seed: int = 0, num: int = 4) -> types.Probes:
  """Returns questions of three tokens with answers of two, no candidates."""
  random = np.random.default_rng(seed + 100)
  questions = random.integers(3, VOCAB, (num, 3)).tolist()
  answers = random.integers(3, VOCAB, (num, 2)).astype('i4')
  none_B = jnp.full((num,), -1, jnp.int32)
  return types.Probes(
    prompts=prompts([[BOS, *row] for row in questions]),
    answer_BA=jnp.asarray(answers), answer_length_B=jnp.full((num,), 2),
    candidates_SCA=jnp.zeros((1, 1, 2), jnp.int32),
    candidate_length_SC=jnp.zeros((1, 1), jnp.int32),
    candidate_since_SC=jnp.zeros((1, 1), jnp.int32),
    set_B=none_B, gold_B=none_B,
  )  # fmt: skip


def initial_model(model: transformer.Transformer) -> state_lib.InitialModel:
  """Returns random weights as an initial model without stored prompts."""
  return state_lib.InitialModel(weights(model), {})


def close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
  """Asserts that two trees are close; the error names the leaf."""
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for (path, x), y in zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  ):
    np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )


def same(a: Any, b: Any) -> bool:
  """Returns whether two trees are equal bit for bit."""
  raw = lambda x: (
    jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    else x
  )  # fmt: skip
  a, b = jax.tree.map(raw, (a, b))
  return jax.tree.structure(a) == jax.tree.structure(b) and all(
    np.array_equal(x, y)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def changed(before: types.Params, after: types.Params) -> set[str]:
  """Returns the paths of the parameters that are not bit-identical."""
  assert before.keys() == after.keys()
  return {p for p in before if not np.array_equal(before[p], after[p])}

"""Steps and reviews keep the types of all arrays, also of a 16-bit core.

Another type would be rounded away by a restart, which ends otherwise.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from sleep_jax import state as state_lib
from sleep_jax.learner import programs as programs_lib
from sleep_jax.optim import optimizer
from sleep_jax.schedule import events
from sleep_jax.strategies import registry
from tests import testing, tiny_study

_DTYPE = 'bfloat16'


@pytest.fixture(scope='module')
def study():
  config = tiny_study.config()
  config.pretrain.dtype = _DTYPE
  return tiny_study.TinyStudy(config)


def _programs(study, name):
  (strategy,) = registry.make(name, num_levels=2)
  place = testing.placement(data=1, fsdp=1, tensor=1)
  stream, tokenizer = study.stream, study.stream.tokenizer
  return programs_lib.Programs(
    study.config, study.model, strategy, place, templates=stream.templates,
    bos=tokenizer.bos, eos=tokenizer.eos, judge=None,
  )  # fmt: skip


def _types(state):
  return jax.tree.map(lambda x: (x.shape, x.dtype), state)


@pytest.mark.parametrize(
  'name',
  ('agem', 'ewc', 'merge', 'olora', 'projected', 'protoada', 'rollback'),
)
def test_a_step_and_reviews_keep_all_types(study, name):
  programs = _programs(study, name)
  shapes = programs.model.shapes()
  params = {
    path: jax.ShapeDtypeStruct(
      x.shape, optimizer.parameter_dtype(path, _DTYPE, num_levels=2)
    )
    for path, x in shapes.params.items()
  }
  initial = state_lib.InitialModel(shapes.replace(params=params), {})
  with jax.set_mesh(programs.placement.mesh):
    state = programs.abstract(initial)
    batch = study.stream.experiences[0].batch(0)
    held = {owner: jnp.asarray(False) for owner in programs._owners}
    found = [jax.eval_shape(programs._wake_step, state, batch, held)]
    if programs.method.num_batches:
      found.append(jax.eval_shape(programs.method.read, state, batch))
    for moment in (events.START, events.END):
      finish = functools.partial(programs.method.finish, moment=moment)
      found.append(jax.eval_shape(finish, state))
  for changed, _ in found:
    assert _types(changed) == _types(state)

"""The experiments at the paper's size build and fit, from shapes alone."""

import math

import pytest

from sleep_jax.config import files
from sleep_jax.planning import (
  ahead_of_time,
  memory,
  memory_kinds,
  plan,
  run_shape,
  tpu_topology,
)
from sleep_jax.sleep import settings_checks

# Dreams are tried whole, so that few devices share their matrices.
TOPOLOGIES = {'paper/arc': 'v5p:2x2x2', 'paper/passages': 'v5p:2x2x2'}
NAMES = [name for name in files.names() if name.startswith('paper/')]
PARAMETERS = {'qwen3-8b': 8.19e9, 'llama3-8b': 8.03e9}


@pytest.mark.parametrize('shape', PARAMETERS)
@pytest.mark.parametrize('name', NAMES)
def test_an_experiment_builds_and_fits_its_devices(name, shape):
  """Weights, a wake step, a night, and what dreams need beside the state."""
  c = files.load(f'{name}:{shape}')
  dreams, c.dream.on = c.dream.on, False  # Their state takes long to build.
  found = plan.plan(c, tpu_topology.parse(TOPOLOGIES.get(name, 'v5e:8x8')))
  assert not found['too_much']
  if dreams:
    model = ahead_of_time.build_model(c).config
    night = settings_checks.make_settings(**c.consolidate.to_dict())
    shape = run_shape.RunShape(model, c, night, 2, found['mesh'])
    kept = found['programs']['wake']['kept'].values()
    needed = sum(memory.estimate_dream(shape).values()) + sum(kept)
    assert needed < found['chip_bytes'] - found['initial_model']


@pytest.mark.parametrize('shape', PARAMETERS)
def test_a_model_of_the_paper_has_its_parameters(shape):
  model = ahead_of_time.build_model(files.load(f'paper/base:{shape}'))
  frozen = sum(
    math.prod(leaf.shape)
    for path, leaf in model.shapes().params.items()
    if memory_kinds.kind_of(f'weights/params/{path}', model.config.num_levels)
    == memory_kinds.FROZEN
  )
  assert frozen == pytest.approx(PARAMETERS[shape], rel=2e-3)


@pytest.mark.parametrize('name', NAMES)
def test_banks_are_those_of_the_paper_in_both_shapes(name):
  for shape in PARAMETERS:
    *_, own = files.load(f'{name}:{shape}').levels
    assert own['slots'] <= 5 and own['rank'] == 64

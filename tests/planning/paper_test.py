"""The experiments at the paper's size build and fit, from shapes alone."""

import math

import pytest

from sleep_jax.config import files
from sleep_jax.planning import ahead_of_time, memory_kinds, plan, tpu_topology

# Dreams are tried whole, so that few devices share their matrices.
TOPOLOGIES = {'paper/arc': 'v5p:2x2x2', 'paper/passages': 'v5p:2x2x2'}
NAMES = [name for name in files.names() if name.startswith('paper/')]
PARAMETERS = {'qwen3-8b': 8.19e9, 'llama3-8b': 8.03e9}


def test_there_is_a_config_for_each_experiment():
  assert {'paper/arc', 'paper/babilong', 'paper/niah', 'paper/passages'} < {
    *NAMES
  }


@pytest.mark.parametrize('shape', PARAMETERS)
@pytest.mark.parametrize('name', NAMES)
def test_a_model_of_the_paper_has_its_parameters(name, shape):
  model = ahead_of_time.build_model(files.load(f'{name}:{shape}'))
  core = sum(
    math.prod(leaf.shape)
    for path, leaf in model.shapes().params.items()
    if memory_kinds.kind_of(f'weights/params/{path}', model.config.num_levels)
    == memory_kinds.FROZEN
  )
  assert core == pytest.approx(PARAMETERS[shape], rel=2e-3)
  assert model.config.levels[-1].slots <= 5
  assert model.config.levels[-1].rank == 64


@pytest.mark.parametrize('name', NAMES)
def test_an_experiment_fits_its_devices(name):
  topology = tpu_topology.parse(TOPOLOGIES.get(name, 'v5e:8x8'))
  found = plan.plan(files.load(name), topology)
  assert not found['too_much']
  for program in found['programs'].values():
    assert sum(program['kept'].values()) > 2**30

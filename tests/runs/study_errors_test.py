"""A config or a mesh that cannot be used is refused before anything runs."""

import pytest

from sleep_jax.runs import study
from tests import testing, tiny_study

one_device = tiny_study.one_device


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    (
      {'data.dataset': 'fact'},
      "config.data.dataset is 'fact': expected one of .*'intents'",
    ),
    (
      {'data.context': 9},
      r'too long \(first 20\):\n  facts, .*: .* tokens.*context is 9\n',
    ),
    ({'model.num_kv_heads': 3}, 'num_heads 4 is not a multiple of'),
    ({'consolidate.updates_per_round': 3}, 'updates 4 is not a multiple of'),
    ({'consolidate.sender_after_sleep': 'gone'}, "'cleared', 'updated'"),
    (
      {'strategies': ('sleep', 'slept')},
      r"\[1\] is 'slept': the nearest .* 'sleep'",
    ),
    ({'writers': ('paper',)}, "writers has 'paper': expected .*'wandb'"),
    ({'levels': testing.levels((2, 3))}, 'is not a multiple of its'),
    ({'levels': testing.levels((1, 1))}, 'level 2 has 4 slots, but 8'),
  ],
)
def test_an_impossible_config_is_refused_and_does_not_claim_the_folder(
  one_device, tmp_path, changes, message
):
  config = tiny_study.config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    study.Study(config, tmp_path).run()
  assert {p.name for p in tmp_path.iterdir()} <= {'tokens'}
  study.Study(tiny_study.config(), tmp_path)  # Another config may use it.


@pytest.mark.parametrize(
  ('mesh', 'changes', 'message'),
  [
    ({}, {'data.batch_size': 6}, 'of 8 devices .* of 6 in .batch.*a mesh'),
    ({'fsdp': 3}, {}, 'fsdp=3 .* needs .* devices, but there are 8'),
    (
      {'tensor': 8},
      {'model.num_kv_heads': 1},
      'axis tensor of 8 devices does not divide a dimension of 4 in .*key',
    ),
  ],
)
def test_a_mesh_that_does_not_divide_the_arrays_is_refused(
  tmp_path, mesh, changes, message
):
  config = tiny_study.config()
  config.mesh.update(mesh)
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    study.Study(config, tmp_path).run()

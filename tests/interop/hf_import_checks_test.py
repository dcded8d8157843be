"""What is checked while the weights of a checkpoint are loaded."""

import json
import os
import pathlib
import re
import subprocess
import sys
import warnings

import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors import numpy as safetensors

from sleep_jax import errors
from sleep_jax.interop import hf_checkpoint, tensor_file
from tests import hf_files, testing

NAME = 'model.layers.1.mlp.up_proj.weight'
FILE = 'model.safetensors'


@pytest.mark.parametrize('mesh', [(1, 1, 1), (1, 2, 2)])
@pytest.mark.parametrize('dtype', ['f4', 'f2', ml_dtypes.bfloat16])
def test_numbers_that_are_not_finite_are_counted(
  tmp_path, mesh, dtype, monkeypatch
):
  monkeypatch.setattr(tensor_file, 'BLOCK_BYTES', 200)
  _, tensors = hf_files.save(tmp_path, 'qwen2', dtype=dtype)
  tensors[NAME][3, 4] = np.nan
  tensors[NAME][20, 1] = -np.inf
  safetensors.save_file(tensors, tmp_path / FILE)
  with pytest.raises(errors.ModelFileError) as caught:
    hf_files.load(tmp_path, mesh=mesh)
  assert re.search(
    rf'{FILE}: tensor .{NAME}.: 2 of 384 .* first at \[3, 4\] is nan',
    str(caught.value),
  )


@pytest.mark.parametrize(
  'name', ['model.norm.weight', 'lm_head.weight', 'model.embed_tokens.weight']
)
def test_every_tensor_is_checked(tmp_path, name):
  _, tensors = hf_files.save(tmp_path, 'llama')
  tensors[name].reshape(-1)[-1] = np.inf
  safetensors.save_file(tensors, tmp_path / FILE)
  with pytest.raises(errors.ModelFileError, match=f'{name}.*1 of'):
    hf_files.load(tmp_path)


def test_a_number_beyond_the_type_that_is_loaded_is_refused(tmp_path):
  _, tensors = hf_files.save(tmp_path, 'llama', dtype='f8')
  tensors[NAME][0, 1] = 1e300
  safetensors.save_file(tensors, tmp_path / FILE)
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with pytest.raises(errors.ModelFileError, match=r'float32.*\[0, 1\] is 1e'):
      hf_files.load(tmp_path)


@pytest.mark.parametrize('dtype', ['f8', 'f4', 'f2', ml_dtypes.bfloat16])
def test_all_types_are_loaded_as_they_are(tmp_path, dtype):
  _, tensors = hf_files.save(tmp_path, 'qwen3', dtype=dtype)
  _, weights = hf_files.load(tmp_path)
  np.testing.assert_array_equal(
    weights.params['embed'], tensors['model.embed_tokens.weight'].astype('f4')
  )


@pytest.mark.parametrize(
  'field',
  ['vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers',
   'num_attention_heads', 'num_key_value_heads', 'head_dim'],
)  # fmt: skip
def test_sizes_that_the_weights_cannot_have_are_refused_at_once(
  tmp_path, field
):
  """Nothing of that size is made: a list of 10^12 layers would not end."""
  config, _ = hf_files.save(tmp_path, 'llama')
  path = tmp_path / 'config.json'
  path.write_text(json.dumps(config | {field: 10**12}))
  with pytest.raises(
    errors.ModelFileError, match=f'config.json: {field} is 1,000,000,000,000'
  ):
    hf_checkpoint.read(str(tmp_path))


def test_a_part_of_each_device_is_read_from_all_types(tmp_path):
  hf_files.save(tmp_path, 'qwen2', dtype=ml_dtypes.bfloat16, files=3)
  _, whole = hf_files.load(tmp_path)
  _, parts = hf_files.load(tmp_path, mesh=(2, 2, 2))
  assert testing.same(jax.device_get(whole), jax.device_get(parts))


_MEASURE = """
import sys
import jax
from benchmarks import model_memory
print(model_memory.read(sys.argv[1])['ratio_above_backend'])
"""


def test_reading_takes_little_more_memory_than_the_model(tmp_path):
  """In a process of its own, with one device; the model has 265 MB."""
  if not pathlib.Path('/proc/self/status').exists():
    pytest.skip('The peak of a process is read from /proc.')
  model_memory = pytest.importorskip('benchmarks.model_memory')
  model_memory.write(tmp_path, 'bfloat16', 2, layers=2)
  root = pathlib.Path(__file__).parents[2]
  env = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(('XLA', 'JAX'))
  }
  done = subprocess.run(
    [sys.executable, '-c', _MEASURE, str(tmp_path)],
    cwd=root, stdout=subprocess.PIPE, text=True, check=True,
    env=env | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  # A mapped file would be 0.5 more, a copy of the largest array 0.3.
  assert float(done.stdout.splitlines()[-1]) < 1.3

"""SmolLM2, if it was fetched: its text, and the memory that loading takes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from sleep_jax.storage import known_models

NAME = 'smollm2'
SCRIPT = """
import json, resource
import jax.numpy as jnp
jnp.zeros(3).block_until_ready()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
from sleep_jax.interop import open_model
loaded = open_model.open_model('smollm2')
above = peak() - before
size = sum(x.nbytes for x in loaded.weights.params.values()) / 2**20
import sleep_jax
text = sleep_jax.load('smollm2', verbose=False).generate(
  'The capital of France is', max_new=3)
print(json.dumps(dict(size=size, above=above, text=text)))
"""


@pytest.mark.skipif(
  not known_models.folder(NAME).is_dir(),
  reason=f'{NAME} was not fetched: sleep-jax convert fetch {NAME}',
)
def test_the_model_knows_a_capital_and_is_read_without_a_second_copy(tmp_path):
  one_device = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '1'}
  root = pathlib.Path(__file__).parents[2]
  ran = subprocess.run(
    [sys.executable, '-c', SCRIPT], cwd=tmp_path, capture_output=True,
    text=True, env=os.environ | one_device | {'PYTHONPATH': str(root)},
  )  # fmt: skip
  assert ran.returncode == 0, ran.stderr
  found = json.loads(ran.stdout)
  assert found['text'].startswith(' Paris')
  assert found['size'] == pytest.approx(513, abs=1)  # 134.5 M in float32.
  assert found['above'] <= 1.2 * found['size']

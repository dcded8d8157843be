"""The process that only starts others takes no device."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
_CODE = """
import json, pathlib, sys
from jax._src import xla_bridge
from sleep_jax.compare import pool, runner
from sleep_jax.config import files
from sleep_jax.report import comparison
from sleep_jax.storage import lock
plain = json.loads(files.load('compare/facts').to_json_best_effort())
folder = pathlib.Path(sys.argv[1])
with lock.hold(folder):
  made = runner.Comparison(plain, folder, say=print)
  made.run([], pool.Pool)
  comparison.write(folder, made.results.values(), plain, num_planned=1)
assert (folder / 'page.html').exists()
print(xla_bridge.backends_are_initialized())
"""


def test_a_comparison_initializes_no_device_itself(tmp_path):
  ran = subprocess.run(
    [sys.executable, '-c', _CODE, str(tmp_path)], cwd=ROOT,
    capture_output=True, text=True, timeout=240,
  )  # fmt: skip
  assert ran.stdout.splitlines()[-1:] == ['False'], ran.stderr

#!/usr/bin/env bash
# Compiles the programs for TPUs that are not attached, and tests the results:
# bash launch/tpu_compile.sh [pytest arguments...]
#
# Uses a separate environment with libtpu (proprietary, 1.5 GB): .venv-tpu, or
# the folder in SLEEP_JAX_TPU_VENV. Uses one process, because each compilation
# needs much memory and time.
set -euo pipefail
export SLEEP_JAX_VENV=${SLEEP_JAX_TPU_VENV:-.venv-tpu}
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$python" -c 'import libtpu' 2>/dev/null || {
  jax=$("$python" -c 'import jax; print(jax.__version__)')
  "$python" -m pip install --quiet --disable-pip-version-check --no-input \
    "jax[tpu]==$jax" || fail "The installation of libtpu failed, see above."
}
"$python" -m benchmarks.tpu --out=docs/results/tpu
exec "$python" -m pytest -q -n 0 tests/planning/tpu_compile_test.py "$@"

#!/usr/bin/env bash
# Compiles our programs for TPUs that are not here, and tests what comes out:
# bash launch/tpu_compile.sh [pytest arguments...]
#
# An environment of its own, .venv-tpu unless SLEEP_JAX_TPU_VENV names another,
# with libtpu (proprietary, 1.5 GB). One process: each compilation is heavy.
set -euo pipefail
export SLEEP_JAX_VENV=${SLEEP_JAX_TPU_VENV:-.venv-tpu}
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

"$python" -c 'import libtpu' 2>/dev/null || {
  jax=$("$python" -c 'import jax; print(jax.__version__)')
  "$python" -m pip install --quiet --disable-pip-version-check --no-input \
    "jax[tpu]==$jax" || fail "Installing libtpu failed, see above."
}
"$python" -m benchmarks.tpu --out=docs/results/tpu
exec "$python" -m pytest -q -n 0 tests/tpu_compile_test.py "$@"
